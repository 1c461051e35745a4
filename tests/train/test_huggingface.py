"""Data sets of the library `datasets` in local folders, where it is installed; nothing is downloaded."""

from __future__ import annotations

import sys

import pytest
import torch

import flowconf
from flowconf.report import ConfigError, MachineError
from flowconf.train.data.huggingface import huggingface
from tests.other_packages import imported
from tests.train.conftest import TINY, assert_same, go_on, killed


@pytest.fixture(scope="module")
def library():
    found = imported("datasets")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(imported("huggingface_hub.constants"), "HF_HUB_OFFLINE", True)
        patched.setattr(found.config, "HF_HUB_OFFLINE", True)
        yield found


@pytest.fixture
def saved(folder, library):
    """A saved data set with a text, a picture and a class."""
    image = torch.rand(96, 8, generator=torch.Generator().manual_seed(0))
    whole = library.Dataset.from_dict(
        {"image": image.tolist(), "label": [row % 4 for row in range(96)], "text": ["a"] * 96}
    )
    whole = whole.cast_column("label", library.ClassLabel(names=["a", "b", "c", "d"]))
    parts = {"train": whole, "validation": whole.select(range(32)), "test": whole.select(range(16))}
    library.disable_progress_bars()
    library.DatasetDict(parts).save_to_disk("saved")
    return image


def text(more=""):
    start, end = TINY.index("data:"), TINY.index("loss:")
    own = f"data: {{name: huggingface, path: saved, batch_size: 20{more}}}\n"
    return TINY[:start] + own + TINY[end:].replace("epochs: 2", "epochs: 2, checkpoint_every: 2")


def test_columns_are_fields(saved):
    splits = huggingface(path="saved")
    assert splits.train.fields == {"image": ((8,), torch.float32), "label": ((), torch.int64)}
    batch = splits.train.batch(torch.tensor([3, 90, 3]), torch.Generator())
    assert torch.equal(batch["image"], saved[[3, 90, 3]])
    assert batch["label"].tolist() == [3, 2, 3]
    assert torch.equal(splits.train.column("label"), torch.arange(96) % 4)
    assert [len(part) for _, part in splits.named()] == [96, 32, 16]
    shares = huggingface(path="saved", fields={"x": "image"}, validation=0.25, test="validation")
    assert [len(part) for _, part in shares.named()] == [72, 24, 32]
    assert [*shares.train.fields] == ["x"]


@pytest.mark.parametrize("streaming", [False, True])
def test_names_of_classes_keep_their_numbers(saved, library, streaming):
    assert huggingface(path="saved").classes == {"label": ["a", "b", "c", "d"]}
    few = library.Dataset.from_dict({"image": [[0.0] * 8] * 4, "label": [0, 1, 1, -1]})
    few.cast_column("label", library.ClassLabel(names=["b", "d"])).save_to_disk("few")
    fitted = {"label": {"categories": ["a", "b", "c", "d"]}}
    split = huggingface(path="few", fitted=fitted, streaming=streaming).train
    if streaming:
        assert sorted(int(row["label"]) for row in split) == [-1, 1, 3, 3]
    else:
        assert split.batch(torch.arange(4), torch.Generator())["label"].tolist() == [1, 3, 3, -1]
        assert split.column("label").tolist() == [1, 3, 3, -1]
    with pytest.raises(ConfigError, match="the class `d` of `label` in `few` is not in the training rows"):
        huggingface(path="few", fitted={"label": {"categories": ["a", "b"]}}, streaming=streaming)


@pytest.mark.parametrize("name", ["pandas", "csv", "sql"])
def test_a_reader_of_the_library_is_no_data_set(folder, library, name):
    """Without files of its own, a reader takes those of the current folder; that of `pandas` opens pickles."""
    with pytest.raises(ConfigError, match=f"`{name}` is a reader of the library `datasets`, not a data set"):
        huggingface(path=name)


def test_a_folder_of_files_and_pictures(folder, library, tmp_path, monkeypatch):
    pillow = pytest.importorskip("PIL.Image")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for kind, value in (("cat", 0), ("dog", 255)):
        (folder.path / "pets" / "train" / kind).mkdir(parents=True)
        for number in range(3):
            pillow.new("RGB", (5, 4), (value, 0, 0)).save(folder.path / "pets" / "train" / kind / f"{number}.png")
    split = huggingface(path="pets").train
    assert split.fields["image"] == ((3, 4, 5), torch.float32)
    batch = split.batch(torch.tensor([0, 5]), torch.Generator())
    assert batch["image"][:, 0].amax((1, 2)).tolist() == [0, 1]
    assert batch["label"].tolist() == [0, 1]


@pytest.mark.parametrize("more", ["", ", streaming: true"])
def test_runs_with_workers_and_after_a_kill(folder, saved, more):
    whole = folder.train(text=text(more))
    if not more:
        assert_same(whole, folder.train(text=text(", workers: 2"), name="two.yaml"))
    killed(lambda: folder.train(text=text(more + ", workers: 1"), name="again.yaml"), 3)
    assert_same(whole, go_on(folder, folder.runs("again")[0]))


def test_streams_have_another_order_in_each_epoch(folder, saved):
    split = huggingface(path="saved", streaming=True).train
    orders = []
    for epoch in (0, 1, 0):
        split.set_epoch(epoch)
        orders.append([row["image"][0].item() for row in split])
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])
    assert len(split) == 96


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"path": "nowhere"}, "`nowhere` cannot be loaded"),
        ({"train": "trian"}, "`saved` has no split `trian`"),
        ({"validation": "vald"}, "`saved` has no split `vald`"),
        ({"fields": {"image": "imgae"}}, "`saved` has no column `imgae`"),
        ({"fields": {"image": "text"}}, "`text` of `saved` is text"),
        ({"validation": 1.0}, "shares must"),
        ({"validation": 0.5, "streaming": True}, "cannot be divided into shares"),
    ],
)
def test_what_cannot_be_read(saved, given, words):
    with pytest.raises(ConfigError, match=words):
        huggingface(**{"path": "saved", **given})


def test_rows_of_different_shapes(folder, library):
    ragged = library.Dataset.from_dict({"x": [[1.0], [2.0, 3.0]], "y": [1, 2]})
    ragged.save_to_disk("ragged")
    split = huggingface(path="ragged").train
    with pytest.raises(ConfigError, match="`x` has different shapes in the rows 0, 1"):
        split.batch(torch.tensor([0, 1]), torch.Generator())


def test_mistakes_have_a_place(folder, saved):
    folder.write(text(", fields: {image: imgae, label: label}"))
    with pytest.raises(ConfigError, match=r"tiny\.yaml:9:72") as error:
        flowconf.data("tiny.yaml")
    assert "write `image`" in str(error.value)


def test_without_the_library(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MachineError, match="requires the package `datasets`"):
        huggingface(path="saved")
