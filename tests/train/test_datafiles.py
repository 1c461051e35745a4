"""Data sets that read common files."""

from __future__ import annotations

import gzip
import os
import shutil
import struct

import numpy
import pytest
import torch
from safetensors.numpy import save_file

import flowconf
from flowconf.cli.main import main
from flowconf.report import ConfigError
from flowconf.train.data.builtin import read_rows
from flowconf.train.data.idx import idx
from flowconf.train.data.images import images
from flowconf.train.data.splits import Resident
from flowconf.train.data.streams import closing_stream, stream
from flowconf.train.data.text import text
from tests.train.conftest import TINY

GENERATOR = torch.Generator()


def write_idx(file, array):
    kinds = {"uint8": 8, ">i4": 12}
    header = bytes([0, 0, kinds[array.dtype.str if array.dtype.str in kinds else str(array.dtype)], array.ndim])
    data = header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)


def zipped(file, data):
    file.with_name(f"{file.name}.gz").write_bytes(data)
    file.unlink()


@pytest.fixture
def mnist(tmp_path):
    numbers = numpy.random.default_rng(0)
    for part, rows, ending in (("train", 20, ".gz"), ("t10k", 6, "")):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte{ending}", numbers.integers(0, 256, (rows, 5, 4), "uint8"))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", numpy.arange(rows, dtype="uint8"))
    return tmp_path


def test_idx(mnist):
    splits = idx(folder=str(mnist))
    assert {name: len(split) for name, split in splits.named()} == {"train": 18, "val": 2, "test": 6}
    assert splits.train.fields == {"image": ((1, 5, 4), torch.float32), "label": ((), torch.int64)}
    batch = splits.test.batch(torch.arange(6), GENERATOR)
    assert batch["label"].tolist() == [*range(6)]
    raw = numpy.frombuffer((mnist / "t10k-images-idx3-ubyte").read_bytes()[16:], "uint8").reshape(6, 1, 5, 4)
    assert torch.equal(batch["image"], torch.tensor(raw).float() / 255)
    assert splits.train.tensors["image"].dtype == torch.uint8
    assert idx(folder=str(mnist), flat=True).train.fields["image"] == ((20,), torch.float32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: file.unlink(), "has no file `t10k-labels-idx1-ubyte`"),
        (lambda file: file.write_bytes(b"\0\0"), "is not an idx file"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), r"has shape \[6\], but 5 values follow"),
        (lambda file: file.write_bytes(b"\0\0\x08\x03\0\0"), "is not an idx file"),
        (lambda file: write_idx(file, numpy.zeros(3, "uint8")), "6 images, but 3 labels"),
        (lambda file: zipped(file, b"not gzip"), "cannot read .*labels-idx1-ubyte.gz"),
        (lambda file: zipped(file, gzip.compress(file.read_bytes())[:-9]), "cannot read .*labels-idx1-ubyte.gz"),
    ],
)
def test_idx_files_that_are_not(mnist, change, words):
    change(mnist / "t10k-labels-idx1-ubyte")
    with pytest.raises(ConfigError, match=words):
        idx(folder=str(mnist))


@pytest.fixture
def pictures(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    for number, name in enumerate(("cat", "dog")):
        for copy in range(5):
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            colour = (100 * number + copy, 50, 200)
            pillow.new("RGB", (6, 4), colour).save(folder / f"{copy}.png")
    (tmp_path / "cat" / "notes.txt").write_text("")
    return tmp_path


def test_images(pictures):
    splits = images(folder=str(pictures), validation=0.2, test=0.1)
    assert {name: len(split) for name, split in splits.named()} == {"train": 7, "val": 2, "test": 1}
    assert isinstance(splits.train, Resident)
    streamed = images(folder=str(pictures), validation=0.2, test=0.1, resident=False)
    assert not isinstance(streamed.train, Resident)
    assert streamed.train.fields == splits.train.fields == {
        "image": ((3, 4, 6), torch.float32), "label": ((), torch.int64),
    }  # fmt: skip
    rows = torch.tensor([3, 0, 5])
    first, second = (found.train.batch(rows, GENERATOR) for found in (splits, streamed))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(first["label"] == 1, first["image"][:, 0, 0, 0] * 255 >= 99)


def test_images_of_another_size_and_of_one_channel(pictures):
    split = images(folder=str(pictures), size=[8, 8], channels=1).train
    assert split.batch(torch.arange(2), GENERATOR)["image"].shape == (2, 1, 8, 8)
    from PIL import Image

    Image.new("RGB", (9, 9)).save(pictures / "dog" / "other.png")
    with pytest.raises(ConfigError, match=r"other.png` is \[9, 9\], but `.*0.png` is \[4, 6\]"):
        images(folder=str(pictures))
    assert len(images(folder=str(pictures), size=[4, 4]).train)


def test_folders_of_images_by_split(pictures):
    (pictures / "train").mkdir()
    for name in ("cat", "dog"):
        (pictures / name).rename(pictures / "train" / name)
    (pictures / "val" / "dog").mkdir(parents=True)
    (pictures / "train" / "dog" / "0.png").rename(pictures / "val" / "dog" / "0.png")
    splits = images(folder=str(pictures))
    assert {name: len(split) for name, split in splits.named()} == {"train": 9, "val": 1}
    assert splits.validation.batch(torch.arange(1), GENERATOR)["label"].tolist() == [1]
    (pictures / "val" / "bird").mkdir()
    with pytest.raises(ConfigError, match="the class `bird`"):
        images(folder=str(pictures))
    (pictures / "train" / "cat" / "bad.png").write_bytes(b"no image")
    (pictures / "val" / "bird").rmdir()
    with pytest.raises(ConfigError, match="is not an image"):
        images(folder=str(pictures))
    with pytest.raises(ConfigError, match="has no class folders"):
        images(folder=str(pictures / "nothing"))


@pytest.mark.parametrize("name", ["valid", "validation", "Val", "DEV"])
def test_a_validation_folder_has_many_names(pictures, name):
    for split in ("Training", name):
        (pictures / split / "cat").mkdir(parents=True)
    (pictures / "cat" / "0.png").rename(pictures / name / "cat" / "0.png")
    for kind in ("cat", "dog"):
        (pictures / kind).rename(pictures / "Training" / f"{kind}s")
    (pictures / name / "cat").rename(pictures / name / "cats")
    (pictures / "Training" / "cat").rmdir()
    splits = images(folder=str(pictures))
    assert {name: len(split) for name, split in splits.named()} == {"train": 9, "val": 1}


def test_two_folders_of_one_split_are_refused(pictures):
    for split in ("train", "val", "valid"):
        (pictures / split).mkdir()
    with pytest.raises(ConfigError, match=r"duplicate split in .*: `val` and `valid`"):
        images(folder=str(pictures))


def test_a_set_without_training_images_is_refused(tmp_path):
    for split in ("val", "test"):
        (tmp_path / split).mkdir()
    with pytest.raises(ConfigError, match="has `test` and `val`, but no `train`"):
        images(folder=str(tmp_path))


def test_hidden_files_are_skipped(pictures):
    (pictures / ".cache" / "cat").mkdir(parents=True)
    (pictures / "cat" / ".hidden").mkdir()
    for hidden in (pictures / "cat" / "._0.png", pictures / "cat" / ".hidden" / "1.png"):
        hidden.write_bytes(b"no image")
    splits = images(folder=str(pictures), validation=0, test=0)
    assert len(splits.train) == 10


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_16_bits_keep_their_values(tmp_path, channels, resident):
    import numpy
    from PIL import Image

    values = numpy.array([[0, 1000], [40000, 65535]], dtype=numpy.uint16)
    for kind in ("a", "b"):
        (tmp_path / "train" / kind).mkdir(parents=True)
        Image.fromarray(values).save(tmp_path / "train" / kind / "deep.png")
    Image.new("L", (2, 2), 51).save(tmp_path / "train" / "b" / "plain.png")
    train = images(folder=str(tmp_path), channels=channels, resident=resident).train
    found = train.batch(torch.arange(3), GENERATOR)["image"]
    expected = torch.from_numpy(values.astype(numpy.float32)) / 65535
    torch.testing.assert_close(found[0], expected.expand(channels, 2, 2))
    torch.testing.assert_close(found[2], torch.full((channels, 2, 2), 0.2))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_drawn_on_white(tmp_path, mode):
    from PIL import Image

    (tmp_path / "a").mkdir()
    picture = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    picture.putpixel((1, 0), (0, 0, 0, 255))
    picture.convert(mode).save(tmp_path / "a" / "0.png")
    train = images(folder=str(tmp_path), validation=0, test=0).train
    assert train.batch(torch.arange(1), GENERATOR)["image"][0, 0].tolist() == [[1.0, 0.0]]


def test_a_class_without_images_is_refused(pictures):
    (pictures / "bird").mkdir()
    with pytest.raises(ConfigError, match="the class `bird` has no images"):
        images(folder=str(pictures))


def test_a_split_without_images_is_refused(pictures):
    (pictures / "train").mkdir()
    for name in ("cat", "dog"):
        (pictures / name).rename(pictures / "train" / name)
        (pictures / "val" / name).mkdir(parents=True)
    with pytest.raises(ConfigError, match="val` has no images"):
        images(folder=str(pictures))


def test_a_class_whose_name_is_no_unicode_is_refused(pictures):
    (pictures / "cat").rename(os.fsdecode(bytes(pictures) + b"/caf\xe9"))
    with pytest.raises(ConfigError, match="is not valid UTF-8") as refused:
        images(folder=str(pictures))
    assert refused.value.diagnostics[0].advice == "rename it"


def test_further_sets_of_images_have_the_classes_of_the_training_images(pictures):
    few = pictures.with_name(f"{pictures.name}_few")
    shutil.copytree(pictures / "dog", few / "dog")
    text = TINY.replace(
        "synthetic, shape: [8], classes: 4, rows: 320,",
        f"images, folder: '{pictures}', evaluate: {{few: {{folder: '{few}'}}}},"
        f" mixture: {{more: {{folder: '{few}'}}}},",
    )
    file = few.with_suffix(".yaml")
    file.write_text(text.replace("[B, 8]", "[B, 3, 4, 6]").replace("stem: Linear(8", "stem: Flatten >> Linear(72"))
    data = flowconf.data(file)
    assert torch.cat([batch["label"] for batch in data.named("few")]).tolist() == [1] * 5
    mixed = data.splits["train"].feed.split
    assert torch.equal(mixed.tensors["label"][-3:], torch.ones(3, dtype=torch.int64))
    (few / "dog").rename(few / "cow")
    with pytest.raises(ConfigError, match=r"the class `cow` of `.*few` has no training images") as refused:
        flowconf.data(file)
    assert refused.value.diagnostics[0].place.file == str(file)


@pytest.mark.parametrize(("scores", "codes"), [(1, ["FC0406"]), (2, [])])
def test_the_folders_of_images_say_how_many_classes_there_are(pictures, scores, codes):
    config = pictures / "config.yaml"
    config.write_text(
        "model:\n"
        "  inputs: {image: [B, 3, 4, 6]}\n"
        f"  flow: {{flat: Flatten, logits: 'Linear(_, {scores})'}}\n"
        f"data: {{name: images, folder: '{pictures}'}}\n"
        "loss: {label: {fn: cross_entropy, input: logits, target: label}}\n"
        "trainer: {epochs: 1}\n"
    )
    assert [found.code for found in flowconf.check(config)] == codes


def test_a_worker_tells_an_image_that_it_cannot_read_as_the_process_itself_would(pictures):
    split = images(folder=str(pictures), validation=0, test=0, resident=False).train
    broken = split.files[9][0]
    broken.write_bytes(b"no image")
    orders = [([0], 0, None), ([9], 0, None)]
    with closing_stream(stream(split, orders, 1, 1, 2, torch.device("cpu"))) as batches:
        assert next(batches)["label"].tolist() == [split.files[0][1]]
        with pytest.raises(ConfigError, match=r"^error\[FC0501\]: .* is not an image") as refused:
            next(batches)
    assert refused.value.diagnostics[0].place.file == str(broken)


PILLOW = pytest.importorskip("PIL.Image")
BROKEN = {
    "empty.png": (lambda data: b"", "is empty"),
    "page.png": (lambda data: b"<!DOCTYPE html><html></html>", "is not an image"),
    "short.png": (lambda data: data[: len(data) // 2], "is truncated"),
    "short.jpg": (lambda data: data[: len(data) // 2], "is truncated"),
    "short.gif": (lambda data: data[: len(data) // 2], "is truncated"),
    "short.webp": (lambda data: data[: len(data) // 2], ""),
    "short.bmp": (lambda data: data[: len(data) // 2], "is truncated"),
    "short.tif": (lambda data: data[: len(data) // 2], ""),
}


def noise(width=40, height=30):
    return PILLOW.fromarray(numpy.random.default_rng(0).integers(0, 256, (height, width, 3), "uint8"))


@pytest.fixture
def noisy(tmp_path):
    """A folder of images with classes and splits."""
    for split in ("train", "val"):
        for kind in ("cat", "dog"):
            (tmp_path / split / kind).mkdir(parents=True)
            for number in range(3):
                noise().save(tmp_path / split / kind / f"{number}.png")
    return tmp_path


def break_(file, change):
    noise().save(file)
    file.write_bytes(change(file.read_bytes()))


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("name", BROKEN)
def test_an_image_that_cannot_be_decoded_is_named_before_training(noisy, name, resident):
    change, why = BROKEN[name]
    file = noisy / "val" / "dog" / name
    break_(file, change)
    with pytest.raises(ConfigError) as caught:
        images(folder=str(noisy), resident=resident)
    (reported,) = caught.value.diagnostics
    assert reported.message.startswith(f"`{file}` {why}")
    assert reported.place.file == str(file)
    assert reported.help == "remove it, or save it again"


@pytest.mark.parametrize("resident", [True, False])
def test_all_broken_images_are_counted(noisy, resident):
    for number, split in enumerate(["train", "train", "val", "train", "val", "train", "val"]):
        change, _ = list(BROKEN.values())[number % 3]
        break_(noisy / split / "cat" / f"broken{number}.png", change)
    with pytest.raises(ConfigError) as caught:
        images(folder=str(noisy), resident=resident)
    (reported,) = caught.value.diagnostics
    assert reported.message == "7 of 19 images cannot be read"
    assert reported.labels[0].message == f"`{noisy / 'train' / 'cat' / 'broken0.png'}` is empty"
    assert reported.labels[-1].message == "and 2 more"


def test_images_with_other_bytes_at_their_end_are_fine(noisy):
    for ending in ("png", "jpg"):
        file = noisy / "train" / "cat" / f"trailing.{ending}"
        noise().save(file)
        file.write_bytes(file.read_bytes() + b"something else" * 20)
    assert len(images(folder=str(noisy), resident=False).train) == 8


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("split", ["train", "val"])
def test_images_of_different_sizes_are_both_named(noisy, split, resident):
    for number in range(2):
        noise(50, 20).save(noisy / split / "dog" / f"wide{number}.png")
    with pytest.raises(ConfigError) as caught:
        images(folder=str(noisy), resident=resident)
    (reported,) = caught.value.diagnostics
    first = noisy / "train" / "cat" / "0.png"
    assert reported.message == f"`{noisy / split / 'dog' / 'wide0.png'}` is [20, 50], but `{first}` is [30, 40]"
    assert reported.labels[0].message == "2 of 14 images have another size than the first"
    assert reported.help == "write `size: [30, 40]` in `data`, to which all images are resized"
    assert len(images(folder=str(noisy), size=(30, 40), resident=resident).train)


KINDS = {
    "L": lambda file: noise().convert("L").save(file, "png"),
    "1": lambda file: noise().convert("1").save(file, "png"),
    "P": lambda file: noise().convert("P").save(file, "png"),
    "RGBA": lambda file: noise().convert("RGBA").save(file, "png"),
    "LA": lambda file: noise().convert("LA").save(file, "png"),
    "CMYK": lambda file: noise().convert("CMYK").save(file, "jpeg"),
    "YCbCr": lambda file: noise().convert("YCbCr").save(file, "jpeg"),
    "a gif": lambda file: noise().save(file, "gif"),
    "float": lambda file: PILLOW.fromarray(numpy.ones((30, 40), "float32") / 4).save(file, "tiff"),
    "16 bits": lambda file: PILLOW.fromarray(numpy.full((30, 40), 16384, "uint16")).save(file, "png"),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_images_of_every_mode_are_numbers_from_0_to_1(noisy, kind, channels):
    """The suffix does not matter: the content does."""
    file = noisy / "train" / "cat" / "0.png"
    KINDS[kind](file)
    found = []
    for resident in (True, False):
        train = images(folder=str(noisy), channels=channels, resident=resident, validation=0).train
        found.append(train.batch(torch.tensor([0]), GENERATOR)["image"])
    assert torch.equal(*found)
    assert found[0].shape == (1, channels, 30, 40)
    assert found[0].min() >= 0
    assert found[0].max() <= 1
    if kind in ("float", "16 bits"):
        torch.testing.assert_close(found[0].mean(), torch.tensor(0.25), rtol=1e-4, atol=0)
    else:
        mode = "L" if channels == 1 else "RGB"
        with PILLOW.open(file) as opened:
            expected = numpy.asarray(opened.convert(mode), "float32").reshape(30, 40, channels) / 255
        torch.testing.assert_close(found[0][0], torch.from_numpy(expected).permute(2, 0, 1))


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_a_turned_image_has_the_size_it_is_seen_in(noisy, ending, resident):
    exif = PILLOW.Exif()
    exif[0x112] = 6
    noise(30, 40).save(noisy / "train" / "cat" / f"turned.{ending}", exif=exif)
    assert images(folder=str(noisy), resident=resident).train.fields["image"][0] == (3, 30, 40)


@pytest.mark.parametrize("junk", ["__MACOSX", "@eaDir", ".ipynb_checkpoints"])
def test_folders_of_systems_are_no_classes(noisy, junk):
    for where in (noisy, noisy / "train", noisy / "train" / "cat", noisy / "val"):
        (where / junk / "cat").mkdir(parents=True)
        (where / junk / "cat" / "._0.png").write_bytes(b"no image")
        (where / junk / "cat" / "1.png").write_bytes(b"no image")
    (noisy / "train" / "cat" / "Thumbs.db").write_bytes(b"")
    (noisy / "train" / "Thumbs.db").write_bytes(b"")
    splits = images(folder=str(noisy))
    assert (len(splits.train), len(splits.validation)) == (6, 6)


def test_a_folder_for_training_alone_gives_a_validation_split(noisy):
    (noisy / "val").rename(noisy / "test")
    splits = images(folder=str(noisy), validation=0.5)
    assert {name: len(split) for name, split in splits.named()} == {"train": 3, "val": 3, "test": 6}
    assert len(images(folder=str(noisy)).train) == 5
    assert images(folder=str(noisy), validation=0).validation is None


def test_a_share_beside_its_folder_is_refused(noisy):
    with pytest.raises(ConfigError, match=r"`validation: 0.2` takes rows from .*, but there is a folder"):
        images(folder=str(noisy), validation=0.2)


def test_another_spelling_of_a_class_is_suggested(noisy):
    (noisy / "val" / "cat").rename(noisy / "val" / "Cat")
    with pytest.raises(ConfigError) as caught:
        images(folder=str(noisy))
    assert "the class `Cat`" in caught.value.diagnostics[0].message
    assert caught.value.diagnostics[0].help == "write `cat`"


def test_predictions_name_the_files(noisy, folder):
    text = (
        "model: {inputs: {image: [B, 3, 30, 40]}, flow: {logits: 'Flatten >> Linear(_, 2)'}}\n"
        f"data: {{name: images, folder: '{noisy}'}}\n"
        "loss: {label: {fn: cross_entropy, input: logits, target: label}}\n"
        "trainer: {steps: 1, devices: cpu}\n"
    )
    run = folder.train(text=text, name="cats.yaml")
    assert main(["predict", str(run.folder), "--split", "val", "-o", "found.csv", "--with", "file"]) == 0
    rows = (folder.path / "found.csv").read_text().splitlines()
    assert rows[0] == "file,logits.0,logits.1"
    assert [row.split(",")[0] for row in rows[1:4]] == [str(noisy / "val" / "cat" / f"{n}.png") for n in range(3)]


def test_characters(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("abcabcabcabcabcabcabcé", encoding="utf-8")
    splits = text(file=str(file), length=4, validation=0.2, test=0.2)
    assert {name: len(split) for name, split in splits.named()} == {"train": 3, "val": 1, "test": 1}
    batch = splits.train.batch(torch.tensor([0, 1]), GENERATOR)
    assert batch["tokens"].tolist() == [[0, 1, 2, 0], [1, 2, 0, 1]]
    assert batch["target"].tolist() == [[1, 2, 0, 1], [2, 0, 1, 2]]
    assert splits.test.batch(torch.tensor([0]), GENERATOR)["target"].tolist() == [[2, 0, 1, 2]]
    mapped = text(file=str(file), length=4, vocabulary="écba").train.batch(torch.tensor([0]), GENERATOR)
    assert mapped["tokens"].tolist() == [[3, 2, 1, 3]]
    assert len(text(file=str(file), length=4, stride=1, validation=0).train) == 18
    assert text(file=str(file), length=21, tokens="bytes", validation=0).train.batch(
        torch.tensor([0]), GENERATOR
    )["target"][0, -2:].tolist() == [ord("c"), 0xC3]  # fmt: skip


@pytest.mark.parametrize("stride", [2, 3, 5, 7])
def test_no_window_of_a_text_reaches_into_a_later_part(tmp_path, stride):
    file = tmp_path / "text.txt"
    file.write_bytes(bytes(range(200)))
    splits = text(file=str(file), length=5, tokens="bytes", stride=stride, validation=0.2, test=0.1)
    parts = [split.batch(torch.arange(len(split)), None)["target"] for _, split in splits.named()]
    assert len(parts) == 3
    assert parts[0].max() < parts[1].min()
    assert parts[1].max() < parts[2].min()


def test_shards_of_tokens(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    numpy.save("a-0.npy", numpy.arange(9, dtype="uint16"))
    numpy.save("a-1.npy", numpy.arange(100, 105, dtype="uint16"))
    numpy.save("b.npy", numpy.zeros(3))
    split = text(file="a-*.npy", length=4, tokens="shards", validation=0).train
    assert split.batch(torch.arange(len(split)), GENERATOR)["tokens"].tolist() == [
        [0, 1, 2, 3], [4, 5, 6, 7], [100, 101, 102, 103],
    ]  # fmt: skip
    assert len(text(file=str(tmp_path / "a-0.npy"), length=4, tokens="shards", validation=0).train) == 2
    for file, words in (("c*.npy", "no file matches"), ("b.npy", "one-dimensional integer array")):
        with pytest.raises(ConfigError, match=words):
            text(file=file, length=4, tokens="shards")


def test_texts_that_cannot_be_used(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("abcabc")
    for arguments, words in (
        ({"length": 6}, "0 windows"),
        ({"length": 2, "vocabulary": "ab"}, "1 characters of"),
        ({"length": 2, "file": str(tmp_path / "none.txt")}, "cannot read"),
        ({"length": 2, "validation": 0.9, "test": 0.9}, "must sum to less than 1"),
    ):
        with pytest.raises(ConfigError, match=words):
            text(**{"file": str(file), **arguments})


def test_a_text_in_a_run(folder):
    (folder.path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 40)
    run = folder.train(
        text="""
model:
  inputs: {tokens: {shape: [B, T], dtype: int64}}
  flow: {look: 'Embedding(40, 16)', logits: 'Linear(16, 40)'}
data: {name: text, file: text.txt, length: 16, batch_size: 16, workers: 1}
loss:
  next: {fn: cross_entropy, input: logits, target: target, args: {dim: -1}}
trainer: {epochs: 2, devices: cpu}
"""
    )
    losses = [line["val/loss"] for line in run.log if "val/loss" in line]
    assert losses[1] < losses[0]


@pytest.fixture
def saved(folder):
    """Saves `rows.npz` or `rows.safetensors`; gives its name."""

    def save(name="rows.npz", **arrays):
        numpy.savez(name, **arrays) if name.endswith("npz") else save_file(arrays, name)
        return name

    return save


IMAGE, LABEL = numpy.zeros((40, 8), "float32"), numpy.arange(40) % 4
ARRAYS = TINY.replace("synthetic, shape: [8], classes: 4, rows: 320,", "arrays, train: {file}, validation: 0.2,")


class Pickled:
    def __reduce__(self):
        return pytest.fail, ("the pickle was loaded",)


@pytest.mark.parametrize("name", ["rows.npz", "rows.safetensors"])
def test_arrays_in_a_run(folder, saved, name):
    file = saved(name, image=IMAGE, label=LABEL)
    run = folder.train(text=ARRAYS.replace("{file}", file))
    assert run.record["status"] == "finished"


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"image": IMAGE, "label": LABEL[:30]}, "must have the same number of rows, got `image` 40, `label` 30"),
        ({"image": IMAGE, "label": numpy.int64(3)}, "must have the same number of rows, got `image` 40, `label` none"),
        ({"image": IMAGE[:0], "label": LABEL[:0]}, "the arrays of `rows.npz` have no rows"),
        ({}, "`rows.npz` contains no arrays"),
        ({"image": IMAGE, "label": numpy.array(["a"] * 40)}, "the array `label` of `rows.npz` is not numeric"),
        ({"image": IMAGE, "label": numpy.array([Pickled()] * 40, dtype=object)}, "`label` of `rows.npz` is pickled"),
    ],
)
def test_arrays_that_are_none(saved, arrays, words):
    with pytest.raises(ConfigError, match=words) as caught:
        read_rows(saved(**arrays))
    assert caught.value.diagnostics[0].place.file == "rows.npz"


@pytest.mark.parametrize("name", ["rows.npz", "rows.safetensors"])
@pytest.mark.parametrize("harm", ["cut", "text", "flipped"])
def test_damaged_files_of_arrays(folder, saved, name, harm):
    file = folder.path / saved(name, image=IMAGE, label=LABEL)
    data = bytearray(file.read_bytes())
    data[40 if name.endswith("tensors") else len(data) // 4] ^= 255
    file.write_bytes({"cut": file.read_bytes()[: len(data) // 2], "text": b"hello", "flipped": bytes(data)}[harm])
    with pytest.raises(ConfigError, match=f"`{name}`.* damaged"):
        read_rows(name)


def test_a_missing_file_of_arrays(folder):
    with pytest.raises(ConfigError, match=r"there is no file `rows\.npz`"):
        read_rows("rows.npz")
