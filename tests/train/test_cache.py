"""Rows that are made once and mapped from a file: the same bits, for every change a new file, and no code in it."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import flowconf
from flowconf.api import load
from flowconf.cli.main import main
from flowconf.language import registry
from flowconf.report import ConfigError, MachineError, bytes_in_words
from flowconf.train.data import cache, cache_reading, recipe
from flowconf.train.data.batches import Items
from flowconf.train.data.declarations import DataSet, provides
from flowconf.train.data.run_data import make_data
from flowconf.train.data.splits import Resident, Splits, place_of_row
from tests.other_packages import imported
from tests.train.conftest import TINY, assert_same, go_on, killed
from tests.train.disk import Disk
from tests.train.teams import assert_alike, team
from tests.train.test_tokens import TEXTS, TOKENIZER

CPU = torch.device("cpu")
GENERATOR = torch.Generator()
IMAGES = "name: images, folder: pets, validation: 0.2, test: 0.1"
MODEL = """
model:
  inputs: {%s}
  flow:
    logits: %s
data: {%s, batch_size: 4, cache: kept}
loss:
  label: {fn: %s}
trainer: {epochs: 2, devices: cpu}
"""
LABELS = "cross_entropy, input: logits, target: label"
PETS = MODEL % ("image: [B, 3, 4, 6]", "Flatten >> Linear(72, 2)", IMAGES, LABELS)
TABLE = MODEL % (
    "size: [B, 2]",
    "Linear(2, 1) >> Flatten(0)",
    "name: table, train: rows.csv, validation: 0.25,"
    " fields: {size: {columns: [x, y], standardize: true, missing: mean}, kind: {type: category},"
    " price: {missing: mask}}",
    "mse, input: logits, target: price, mask: price_present",
)
ANNOTATED = MODEL % (
    "image: [B, 3, 4, 6]",
    "Flatten >> Linear(72, 2)",
    "name: annotated_images, train: rows.jsonl, size: [4, 6], mask: mask, validation: 0.25,"
    " fields: {box: {pad: [2, 4]}, kind: {type: category}}, boxes: {box: xyxy}",
    "cross_entropy, input: logits, target: kind",
)
ARRAYS = MODEL % (
    "image: [B, 8]",
    "Linear(8, 2)",
    "name: arrays, train: rows.npz, validation: 0.25",
    LABELS,
)
TOKENS = MODEL % (
    "tokens: {shape: [B, 5], dtype: int64}",
    "Embedding(9, 4) >> Flatten >> Linear(20, 2)",
    "name: tokens, train: texts.jsonl, tokenizer: tokenizer.json, length: 5, form: padded, truncate: true,"
    " fields: {label: {type: category}}, validation: 0.25",
    LABELS,
)
MIXTURE = PETS.replace("batch_size", "mixture: {more: {folder: more}}, evaluate: {others: {folder: more}}, batch_size")
CONFIGS = {
    "images": PETS,
    "images batch by batch": PETS.replace("folder: pets", "folder: pets, resident: false"),
    "annotated images": ANNOTATED,
    "table": TABLE,
    "arrays": ARRAYS,
    "text": MODEL
    % (
        "tokens: {shape: [B, 4], dtype: int64}",
        "Embedding(99, 9)",
        "name: text, file: rows.csv, length: 4",
        "cross_entropy, input: logits, target: target",
    ),
    "tokens": TOKENS,
    "packed tokens": TOKENS.replace("form: padded, truncate: true, fields: {label: {type: category}}", "end: </s>")
    .replace("Flatten >> Linear(20, 2)", "Linear(4, 9)")
    .replace("target: label", "target: target"),
    "table of Parquet": TABLE.replace("rows.csv", "rows.parquet"),
    "mixture": MIXTURE,
}
NEEDED = {"tokens": "tokenizers", "packed tokens": "tokenizers", "table of Parquet": "pyarrow"}
"""The packages that some of them need."""


@pytest.fixture
def files(folder):
    """A folder of images, and tables and arrays."""
    pillow = pytest.importorskip("PIL.Image")
    numbers = numpy.random.default_rng(0)
    lines = []
    for row in range(20):
        (folder.path / "pets" / "ab"[row % 2]).mkdir(parents=True, exist_ok=True)
        pillow.fromarray(numbers.integers(0, 256, (4, 6, 3), "uint8")).save(f"pets/{'ab'[row % 2]}/{row}.png")
        pillow.fromarray(numbers.integers(0, 256, (8, 12, 3), "uint8")).save(f"{row}.png")
        pillow.fromarray(numpy.full((4, 6), row, "uint8")).save(f"{row}_mask.png")
        boxes = [[0.0, 0.1, 0.2, 0.3]] * (row % 3)
        lines.append({"image": f"{row}.png", "mask": f"{row}_mask.png", "box": boxes, "kind": "ab"[row % 2]})
    folder.write("".join(json.dumps(line) + "\n" for line in lines), "rows.jsonl")
    folder.write("x,y,kind,price\n" + "1,0.1,a,3\n,0.7,b,\n5,0.3,a,2\n7,0.9,c,1\n" * 5, "rows.csv")
    shutil.copytree("pets/a", "more/a")
    shutil.copytree("pets/b", "more/b")
    rows = numbers.standard_normal((20, 8)).astype("float32")
    numpy.savez("rows.npz", image=rows, label=numpy.arange(20) % 2 * 300)
    return folder


def write_with(package: str) -> None:
    """The files that need a package. Skips the test where it is not installed."""
    imported(package)
    if package == "pyarrow":
        from pyarrow import csv, parquet

        parquet.write_table(csv.read_csv("rows.csv"), "rows.parquet")
        return
    Path("tokenizer.json").write_text(json.dumps(TOKENIZER))
    lines = [{"text": text, "label": "cat" if "cat" in text else "dog"} for text in TEXTS]
    Path("texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def made(folder, text: str, *overrides: str, writes: bool = True) -> Splits:
    return make_data(load(folder.write(text), overrides), CPU, writes=writes)


def kept() -> list[Path]:
    return sorted(Path("kept").iterdir()) if Path("kept").exists() else []


def assert_equal_rows(mine: Splits, theirs: Splits) -> None:
    """All rows with the same bits, from the same places."""
    assert mine.fitted == theirs.fitted
    assert [name for name, _ in mine.named()] == [name for name, _ in theirs.named()]
    for (_, first), (_, second) in zip(mine.named(), theirs.named(), strict=True):
        assert dict(first.fields) == dict(second.fields)
        assert dict(getattr(first, "boxes", {})) == dict(getattr(second, "boxes", {}))
        assert isinstance(first, Resident) == isinstance(second, Resident)
        for rows in (torch.arange(len(first)), torch.tensor([len(first) - 1, 0])):
            one, other = (split.batch(rows, GENERATOR) for split in (first, second))
            for name in other:
                assert one[name].dtype == other[name].dtype == first.fields[name][1]
                assert torch.equal(one[name].view(torch.uint8), other[name].view(torch.uint8)), name
        places = [[place_of_row(split, row) for row in range(len(first))] for split in (first, second)]
        assert places[0] == places[1]


@pytest.mark.parametrize("kind", CONFIGS)
def test_rows_are_those_of_the_data_set_itself(files, kind):
    text = CONFIGS[kind]
    if kind in NEEDED:
        write_with(NEEDED[kind])
    plain = made(files, text, "data.cache=null")
    assert kept() == []
    assert_equal_rows(made(files, text), plain)
    written = kept()
    assert len(written) == (2 if kind == "mixture" else 1)
    before = [file.stat() for file in written]
    again = made(files, text)
    assert_equal_rows(again, plain)
    assert not again.warnings
    assert kept() == written
    assert [file.stat() for file in written] == before
    run = {"fitted": json.loads(json.dumps(dict(plain.fitted or {}))) or None}
    config = load(files.write(text), [])
    assert_equal_rows(make_data(replace(config, **run), CPU, writes=True), plain)
    assert kept() == written


def test_bytes_stay_bytes_and_are_not_read_before_they_are_needed(files):
    split = made(files, CONFIGS["images batch by batch"]).train
    assert isinstance(split, cache_reading.Mapped)
    assert split.rows.tensors["image"].dtype == torch.uint8
    assert split.column("label").dtype == torch.int64
    assert str(kept()[0].absolute()) in Path("/proc/self/maps").read_text()
    with safe_open(kept()[0], framework="pt") as opened:
        assert str(opened.get_slice("train/label").get_dtype()) == "U8"


def test_a_field_that_does_not_fit_into_a_smaller_type_keeps_its_own(files, monkeypatch):
    """The values that do not fit are not among the rows that choose the type."""
    values = torch.arange(40) % 5
    values[33] = 2**40
    shares = (torch.arange(40) % 7 / 255).clone()
    shares[35] = 0.123456

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 40

        def __getitem__(self, row):
            return {"image": shares[row], "label": values[row]}

    register(monkeypatch, lambda: Splits(Items(Rows())))
    found = made(files, OWN).train
    assert torch.equal(found.column("label"), values)
    assert torch.equal(found.column("image"), shares)
    assert {name: tensor.dtype for name, tensor in found.rows.tensors.items()} == {
        "image": torch.float32,
        "label": torch.int64,
    }


# what makes another file


def touched(files):
    file = Path("pets/a/0.png")
    shutil.copy("pets/a/2.png", file)


CHANGES = {
    "an image": touched,
    "a new image": lambda files: shutil.copy("pets/a/0.png", "pets/a/99.png"),
    "a removed image": lambda files: Path("pets/b/3.png").unlink(),
    "a renamed image": lambda files: Path("pets/b/3.png").rename("pets/b/33.png"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_files_are_read_again(files, change):
    made(files, PETS)
    change(files)
    found = made(files, PETS)
    assert_equal_rows(found, made(files, PETS, "data.cache=null"))
    assert len(kept()) == 2
    assert not found.warnings


@pytest.mark.parametrize("override", ["++data.size=[2, 3]", "++data.split_seed=4", "data.validation=0.3"])
def test_other_arguments_make_other_rows(files, override):
    made(files, PETS)
    found = made(files, PETS, override)
    assert_equal_rows(found, made(files, PETS, override, "data.cache=null"))
    assert len(kept()) == 2


def test_a_file_that_no_argument_names_is_noticed_too(files):
    made(files, ANNOTATED)
    shutil.copy("3_mask.png", "4_mask.png")
    found = made(files, ANNOTATED)
    assert "is older than `4_mask.png`" in found.warnings[0].message
    assert_equal_rows(found, made(files, ANNOTATED, "data.cache=null"))
    assert not made(files, ANNOTATED).warnings


def test_versions_and_the_source_of_a_project_belong_to_the_recipe(files, monkeypatch):
    files.write("import numpy\nfrom torch import Tensor\n", "readers_of_rows.py")
    monkeypatch.syspath_prepend(str(files.path))
    import readers_of_rows

    def rows():
        return Splits(Resident({"image": torch.ones(4, 8)}))

    rows.__module__ = readers_of_rows.__name__
    monkeypatch.setitem(registry.datasets.registered, "own", provides(cacheable=True)(rows))
    first = recipe.recipe_of(DataSet("own", {}), Path("kept"))
    assert first["versions"].keys() >= {"python", "flowconf", "numpy", "torch"}
    files.write("import numpy\nfrom torch import Tensor\nSCALE = 2\n", "readers_of_rows.py")
    assert recipe.recipe_of(DataSet("own", {}), Path("kept"))["source"] != first["source"]
    monkeypatch.setattr(recipe, "installed", lambda name: "99")
    assert recipe.recipe_of(DataSet("own", {}), Path("kept"))["versions"]["numpy"] == "99"


# damaged and foreign files


class Evil:
    def __reduce__(self):
        return (Path("code_ran").touch, ())


def with_tensor(file: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """A valid file that says what is expected, with another tensor."""
    with safe_open(file, framework="pt") as opened:
        texts = opened.metadata()
    tensors = load_file(file)
    tensors[name] = change(tensors[name]).clone()
    when = file.stat().st_mtime_ns
    file.unlink()
    save_file(tensors, file, texts)
    os.utime(file, ns=(when, when))


def flipped(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(-40, os.SEEK_END)
        byte = opened.read(1)
        opened.seek(-40, os.SEEK_END)
        opened.write(bytes([byte[0] ^ 1]))


def linked(file: Path) -> None:
    shutil.move(file, "elsewhere")
    file.symlink_to(Path("elsewhere").absolute())


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


DAMAGES = {
    "truncated": (lambda file: os.truncate(file, file.stat().st_size - 8), "is damaged"),
    "empty": (lambda file: os.truncate(file, 0), "is damaged"),
    "another text": (lambda file: file.write_text("rows"), "is damaged"),
    "a pickle": (lambda file: file.write_bytes(pickle.dumps(Evil())), "is damaged"),
    "a flipped bit": (flipped, "was changed after it was written"),
    "other shapes": (lambda file: with_tensor(file, "train/image", lambda rows: rows[:2]), "is damaged"),
    "places that are not there": (lambda file: with_tensor(file, "train//files", lambda rows: rows + 99), "is damaged"),
    "a link": (linked, "is not a regular file"),
    "a pipe": (pipe, "is not a regular file"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_replaced_with_a_word(files, damage, words):
    plain = made(files, PETS, "data.cache=null")
    made(files, PETS)
    (file,) = kept()
    damage(file)
    outside = Path("elsewhere").read_bytes() if Path("elsewhere").exists() else None
    assert_equal_rows(made(files, PETS, writes=False), plain)
    found = made(files, PETS)
    assert words in found.warnings[0].message
    assert found.warnings[0].place.file.endswith("tiny.yaml")
    assert_equal_rows(found, plain)
    assert kept() == [file]
    assert file.is_file()
    assert not file.is_symlink()
    assert not Path("code_ran").exists()
    if outside is not None:
        assert Path("elsewhere").read_bytes() == outside
    assert not made(files, PETS).warnings


def test_the_rows_of_another_recipe_are_not_taken(files):
    made(files, PETS)
    (mine,) = kept()
    made(files, PETS, "data.validation=0.3")
    (other,) = set(kept()) - {mine}
    other.replace(mine)
    found = made(files, PETS)
    assert "has other rows" in found.warnings[0].message
    assert_equal_rows(found, made(files, PETS, "data.cache=null"))


def test_the_warning_is_printed(files, capsys):
    assert main(["train", files.write(PETS), "trainer.epochs=1"]) == 0
    assert "warning" not in capsys.readouterr().out
    flipped(kept()[0])
    assert main(["train", files.write(PETS), "trainer.epochs=1"]) == 0
    out = capsys.readouterr().out
    assert "warning[FC0501]" in out
    assert "tiny.yaml:6:" in out


def test_the_sizes_of_files_that_accumulate_are_printed(files, capsys):
    assert main(["train", files.write(PETS), "trainer.epochs=1"]) == 0
    (first,) = kept()
    assert f" kB written to {first}\n" in capsys.readouterr().out
    Path("kept/images-notes.txt").write_text("of somebody else")
    assert main(["train", files.write(PETS), "trainer.epochs=1", "data.split_seed=4"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("cache "))
    assert line.endswith(f", and 1 other file of `images`: {bytes_in_words(first.stat().st_size)}")
    assert main(["train", files.write(PETS), "trainer.epochs=1"]) == 0
    assert "written" not in capsys.readouterr().out


# writing


def test_a_check_and_other_readers_write_nothing(files):
    assert main(["check", files.write(PETS)]) == 0
    flowconf.data("tiny.yaml")
    made(files, PETS, writes=False)
    assert not Path("kept").exists()


def test_two_processes_make_the_rows_once(files, monkeypatch):
    calls, starting = [], threading.Barrier(2)

    def rows():
        calls.append(1)
        return Splits(Resident({"image": torch.rand(8, 8), "label": torch.arange(8) % 4}))

    register(monkeypatch, rows)
    config = load(files.write(OWN), [])
    found = []

    def make():
        starting.wait()
        found.append(cache.Cache(Path("kept"), True).splits(text, None, rows))

    text = recipe.recipe_of(DataSet("own", {}), Path("kept"))
    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert torch.equal(found[0].train.tensors["image"], found[1].train.tensors["image"])
    assert len(kept()) == 1
    assert config.training.data.cache == "kept"


def test_what_a_killed_process_has_left_is_written_anew(files):
    made(files, PETS)
    (file,) = kept()
    file.rename(f"kept/.{file.name}.tmp")
    assert not made(files, PETS).warnings
    assert kept() == [file]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_temporary_file_that_leads_elsewhere_is_not_followed(files, link):
    made(files, PETS)
    (file,) = kept()
    file.unlink()
    Path("precious").write_text("mine")
    link(Path("precious").absolute(), f"kept/.{file.name}.tmp")
    with pytest.raises(MachineError, match="the cache `kept` cannot be written"):
        made(files, PETS)
    assert Path("precious").read_text() == "mine"


def test_a_full_disk_is_refused_and_leaves_nothing(files, capsys):
    config = files.write(PETS)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        assert main(["train", config]) == 3
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    captured = capsys.readouterr()
    assert "error[FC0601]: the cache `kept` cannot be written: file too large" in captured.err
    assert "tiny.yaml:6:" in captured.err
    assert kept() == []
    assert not Path("runs").exists()


def test_any_failure_of_the_disk_is_refused(files):
    disk = Disk(files.path / "kept")
    with disk.attached():
        made(files, PETS)
    assert [call.split()[0] for call in disk.calls] == ["mkdir", "sync", "rename", "sync"]
    for number in range(len(disk.calls)):
        shutil.rmtree("kept", ignore_errors=True)
        with (
            Disk(files.path / "kept", at=number, error=28).attached(),
            pytest.raises(MachineError, match="`kept` cannot be written: no space left on device"),
        ):
            made(files, PETS)
        assert not list(Path("kept").glob(".*"))
    assert not made(files, PETS).warnings


def test_a_folder_that_cannot_be_written_is_refused_unless_it_has_the_rows(files, capsys):
    Path("kept").write_text("")
    assert main(["train", files.write(PETS)]) == 3
    assert "error[FC0601]: the cache `kept` cannot be written: file exists" in capsys.readouterr().err
    assert not Path("runs").exists()


# runs


def test_runs_are_the_same(files):
    text = PETS.replace("folder: pets", "folder: pets, resident: false")
    plain = files.train("data.cache=null", text=text)
    assert_same(plain, files.train(text=text))
    assert_same(plain, files.train("++data.workers=2", text=text))
    assert_same(plain, files.train("++data.workers=2", "data.cache=other", text=text))
    assert Path("other").exists()
    killed(lambda: files.train("trainer.checkpoint_every=1", text=text, name="again.yaml"), 4)
    again = go_on(files, files.runs("again")[0])
    assert again.record["metrics"] == plain.record["metrics"]


def test_augmentations_come_after_the_cache(files):
    text = PETS.replace("cache: kept", "cache: kept, augment: {image: 'AddNoise(0.1)'}")
    assert_same(files.train("data.cache=null", text=text), files.train(text=text))
    plain = made(files, PETS, "data.cache=null")
    assert_equal_rows(made(files, PETS), plain)
    assert len(kept()) == 1


@pytest.mark.slow
def test_runs_of_several_processes_are_the_same(files):
    text = PETS.replace("folder: pets", "folder: pets, resident: false").replace(
        "epochs: 2", "epochs: 2, checkpoint_every: 3"
    )
    assert_alike(files.train("data.cache=null", text=text), team(files, text))
    assert len(kept()) == 1


# data sets that cannot be kept

OWN = TINY.replace("synthetic, shape: [8], classes: 4, rows: 320,", "own, cache: kept,")


def register(monkeypatch, factory):
    monkeypatch.setitem(registry.datasets.registered, "own", provides(cacheable=True)(factory))


class Noise(torch.utils.data.Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, row):
        return {"image": torch.randn(8), "label": row % 4}


class Ragged(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, row):
        return {"image": torch.ones(8), "label": torch.zeros(1 + row // 40)}


class Stream(torch.utils.data.IterableDataset):
    def __len__(self):
        return 4

    def __iter__(self):
        yield from ({"image": torch.ones(8), "label": row} for row in range(4))


def cut(batch, generator):
    return batch


UNFIT = {
    "chance": (lambda: Splits(Noise()), "whose field `image` depends on chance"),
    "an iterable data set": (lambda: Splits(Stream()), "does not apply to an iterable data set"),
    "changed rows": (
        lambda: Splits(Resident({"image": torch.ones(4, 8), "label": torch.zeros(4).long()}, cut)),
        "whose rows are changed in each batch",
    ),
}


@pytest.mark.parametrize(("factory", "words"), UNFIT.values(), ids=UNFIT)
def test_rows_that_differ_each_time_are_refused(files, monkeypatch, factory, words):
    register(monkeypatch, factory)
    with pytest.raises(ConfigError, match=words) as refused:
        made(files, OWN)
    assert refused.value.diagnostics[0].place.file.endswith("tiny.yaml")
    assert kept() == []


def test_the_folder_is_another_one_than_that_of_the_data(files, capsys):
    assert main(["check", files.write(PETS.replace("cache: kept", "cache: ./pets/"))]) == 2
    out = capsys.readouterr().out
    assert "error[FC0501]: `cache` is the folder of the data, `folder`" in out
    assert "tiny.yaml:6:" in out
    made(files, PETS.replace("cache: kept", "cache: pets/.rows"))
    found = made(files, PETS.replace("cache: kept", "cache: pets/.rows"))
    assert len(list(Path("pets/.rows").iterdir())) == 1
    assert_equal_rows(found, made(files, PETS, "data.cache=null"))


def test_names_of_files_that_are_no_unicode_are_kept(files):
    name = os.fsdecode(b"pets/a/caf\xe9.png")
    shutil.copy("pets/a/0.png", name)
    made(files, PETS)
    found = made(files, PETS)
    assert not found.warnings
    assert_equal_rows(found, made(files, PETS, "data.cache=null"))
    assert name in {place_of_row(split, row)[0] for _, split in found.named() for row in range(len(split))}


def test_a_data_set_declares_that_its_rows_can_be_kept(files, monkeypatch, capsys):
    assert main(["check", files.write(TINY.replace("synthetic,", "synthetic, cache: kept,"))]) == 2
    out = capsys.readouterr().out
    assert "error[FC0501]: `cache` does not apply to `synthetic`" in out
    assert "remove it" in out
    assert main(["check", files.write(PETS.replace("name: images, folder", "name: huggingface, path"))]) == 2
    assert "error[FC0501]: `cache` does not apply to `huggingface`" in capsys.readouterr().out
    monkeypatch.setitem(registry.datasets.registered, "own", lambda: Splits(Noise()))
    assert main(["check", files.write(OWN)]) == 2
    assert "write `@flowconf.provides(..., cacheable=True)`" in capsys.readouterr().out
