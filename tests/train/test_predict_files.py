"""Predictions for new files of the kind that the run was trained on: tables, texts, images."""

from __future__ import annotations

import json
import shutil
from contextlib import chdir
from pathlib import Path

import numpy
import pytest
import torch

import flowconf
from flowconf.cli.main import main
from flowconf.language import registry
from flowconf.train.data.splits import Resident, Splits
from flowconf.train.runs.finished import TrainedRun
from tests.other_packages import imported
from tests.train.conftest import TINY, Folder

HOUSES = "rooms,area,district,price\n" + "".join(
    f"{row % 5},{40 + 7 * row},{('north', 'south', 'east')[row % 3]},{100 + 9 * row}\n" for row in range(24)
)
TABLE = """
model:
  inputs: {size: [B, 2], district: {shape: [B], dtype: int64}}
  flow:
    place: {fork: "Embedding(3, 4)", from: district}
    both: {through: "Concat(dim=1)", from: size, using: [place]}
    price: Linear(_, 1) >> Flatten(0)
data:
  name: table
  train: houses.csv
  validation: 0.25
  fields:
    size: {columns: [rooms, area], standardize: true, missing: mean}
    district: {type: category}
    cost: {columns: price, standardize: true}
  batch_size: 6
loss:
  error: {fn: mse, input: price, target: cost}
trainer: {epochs: 1, devices: cpu}
"""

ARRAYS = (("size", (2,), torch.float32), ("district", (), torch.int64))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The folder of a run that was trained on a table, which is gone since."""
    folder = Folder(tmp_path_factory.mktemp("table"))
    with chdir(folder.path):
        Path("houses.csv").write_text(HOUSES)
        run = folder.train(text=TABLE, name="houses.yaml").folder
        whole = flowconf.predict(run, "train", fields=["row", "size", "district"])
        Path("houses.csv").unlink()
    return run, whole


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def same_file(ending: str) -> str:
    """The training table without its targets."""
    rows = [line.split(",")[:3] for line in HOUSES.splitlines()]
    if ending == "csv":
        text = "".join(f"{district},{rooms},{area}\n" for rooms, area, district in rows)
    else:
        found = ({"rooms": int(rooms), "area": int(area), "district": place} for rooms, area, place in rows[1:])
        text = "".join(json.dumps(row) + "\n" for row in found)
    Path(f"new.{ending}").write_text(text)
    return f"new.{ending}"


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_rows_of_another_table_have_the_units_of_the_run(table, here, ending, capsys):
    run, whole = table
    words = ["-i", same_file(ending), "-o", "out.jsonl", "--with", "row", "--with", "district", "--batch-size", "7"]
    assert main(["predict", str(run), *words]) == 0
    shown = ["row  [24] int64", "district  [24] int64", "price  [24] float32", "district: 0 east, 1 north, 2 south"]
    assert capsys.readouterr().out.splitlines() == shown
    found = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [row["row"] for row in found] == list(range(24))
    for place, row in enumerate(whole["row"].tolist()):
        assert found[row]["price"] == pytest.approx(whole["price"][place].item(), rel=1e-5)
        assert found[row]["district"] == whole["district"][place].item()
    tensors = flowconf.predict(run, Path(f"new.{ending}"), fields=["size"])
    torch.testing.assert_close(tensors["price"][whole["row"]], whole["price"])
    assert torch.equal(tensors["size"][whole["row"]], whole["size"])


def test_values_in_the_units_of_a_standardized_field(table, here, capsys):
    run, whole = table
    known = json.loads((run / "data.json").read_text())
    (mean,), (std,) = known["cost"]["mean"], known["cost"]["std"]
    words = ["--with", "row", "--with", "size", "--units", "price=cost", "--units", "size=size"]
    assert main(["predict", str(run), "-i", same_file("csv"), "-o", "out.jsonl", *words]) == 0
    found = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    for place, row in enumerate(whole["row"].tolist()):
        assert found[row]["price"] == pytest.approx(whole["price"][place].item() * std + mean, rel=1e-5)
    rooms_and_areas = [[float(cell) for cell in line.split(",")[:2]] for line in HOUSES.splitlines()[1:]]
    assert [row["size"] for row in found] == [pytest.approx(cells, abs=1e-4) for cells in rooms_and_areas]
    plain = flowconf.predict(run, Path("new.csv"))["price"]
    scaled = flowconf.predict(run, Path("new.csv"), units={"price": "cost"})["price"]
    torch.testing.assert_close(scaled, (plain.double() * std + mean).float())
    arrays = {name: torch.zeros(2, *shape, dtype=dtype) for name, shape, dtype in ARRAYS}
    plain, scaled = (flowconf.predict(run, arrays, units=units)["price"] for units in (None, {"price": "cost"}))
    torch.testing.assert_close(scaled, (plain.double() * std + mean).float())


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("district,rooms\nnorth,3\n", "new.csv", "`new.csv` has no column `area`"),
        ("district,rooms,area\neast,3,8\nnorth,three,80\n", "new.csv:3:7", "got `three` in row 1 of `new.csv`"),
        ("district,rooms,area\nwest,3,80\n", "new.csv:2:1", "`west` in row 0 of `new.csv` is no category of"),
        ("district,rooms,area\n,3,80\n", "new.csv:2:1", "`district` is missing in row 0 of `new.csv`"),
        ("district,rooms,area\neast,3\n", "new.csv:2:1", "has 2 cells, but there are 3 columns"),
        ("district,rooms,area\n", "new.csv", "`new.csv` has no rows"),
        (None, "new.csv", "there is no file `new.csv`"),
    ],
)
def test_what_a_table_lacks_is_reported_with_row_and_column(table, here, text, place, words, capsys):
    run, _ = table
    if text is not None:
        Path("new.csv").write_text(text)
    before = sorted(here.rglob("*"))
    assert main(["predict", str(run), "-i", "new.csv", "-o", "out.csv"]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert f"--> {place}\n" in said
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-i", "new.csv"], "to write values for its rows: `-o FILE`"),
        (["-i", "new.csv", "--value", "price"], "require `-o FILE`"),
        (["-i", "new.csv", "-o", "out.csv", "--with", "pric"], "the rows of `new.csv` have no field `pric`"),
        (["-i", "new.csv", "-o", "out.csv", "--with", "cost"], "`new.csv` has no column `price`"),
        (["-i", "new.png", "-o", "out.csv"], "`new.png` is not a table by its suffix"),
        (["-i", "new.csv", "--units", "price=cost"], "require `-o FILE`"),
        (["-i", "new.csv", "-o", "out.csv", "--units", "price"], "expected `VALUE=FIELD`"),
        (["-i", "new.csv", "-o", "out.csv", "--units", "price=district"], "no standardized field `district`"),
        (["-i", "new.csv", "-o", "out.csv", "--units", "pric=cost"], "write `price`"),
        (["-i", "new.csv", "-o", "out.csv", "--with", "row", "--units", "row=cost"], "there are no numbers `row`"),
        (["-i", "new.csv", "-o", "out.csv", "--units", "price=size"], "its units are those of 2 columns"),
    ],
)
def test_what_cannot_be_predicted(table, here, words, said, capsys):
    run, _ = table
    same_file("csv")
    assert main(["predict", str(run), *words]) == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not Path("out.csv").exists()


def test_images_of_a_folder(folder):
    pillow = pytest.importorskip("PIL.Image")
    for kind, value in (("cat", 20), ("dog", 220)):
        (folder.path / "pets" / kind).mkdir(parents=True)
        for number in range(8):
            pillow.new("L", (6, 6), value + number).save(folder.path / "pets" / kind / f"{number}.png")
    text = TINY.replace(
        "synthetic, shape: [8], classes: 4, rows: 320", "images, folder: pets, size: [2, 4], channels: 1"
    )
    text = text.replace("[B, 8]}", "[B, 1, 2, 4]}").replace("stem: Linear", "stem: Flatten >> Linear")
    run = folder.train(text=text.replace("epochs: 2, best: val/accuracy", "epochs: 1"))
    for source, files in (("pets/cat", [f"pets/cat/{number}.png" for number in range(8)]), ("pets/dog/3.png", None)):
        assert main(["predict", str(run.folder), "-i", source, "-o", "out.jsonl", "--with", "file"]) == 0
        rows = [json.loads(line) for line in (folder.path / "out.jsonl").read_text().splitlines()]
        assert [row["file"] for row in rows] == (files or [source])
        values = [int(row["file"][-5]) + (220 if "dog" in row["file"] else 20) for row in rows]
        image = torch.tensor(values).float().div(255).view(-1, 1, 1, 1).expand(-1, 1, 2, 4)
        expected = flowconf.predict(run.folder, {"image": image})["logits"]
        torch.testing.assert_close(torch.tensor([row["logits"] for row in rows]), expected)
    for source, words in (("runs", "`runs` has no images"), ("pets/bird", "there is no file or folder `pets/bird`")):
        with pytest.raises(flowconf.ConfigError, match=words):
            flowconf.predict(run.folder, Path(source))
    with pytest.raises(flowconf.ConfigError, match="have no field `label`"):
        flowconf.predict(run.folder, Path("pets"), fields=["label"])
    assert TrainedRun(run.folder).classes == {"label": ["cat", "dog"]}
    (folder.path / "few").mkdir()
    shutil.copytree("pets/dog", "few/dog")
    dogs = flowconf.predict(run.folder, "test", fields=["label"], overrides=["data.folder=few", "data.test=0.5"])
    assert dogs["label"].tolist() == [1, 1, 1, 1]
    (folder.path / "few" / "dog").rename(folder.path / "few" / "fox")
    with pytest.raises(flowconf.ConfigError, match="the class `fox` of `few` has no training images") as refused:
        flowconf.predict(run.folder, "test", overrides=["data.folder=few"])
    assert refused.value.diagnostics[0].place.word == "data.folder=few"


LETTERS = """
model:
  inputs: {tokens: {shape: [B, 4], dtype: int64}}
  flow:
    next: Embedding(8, 8) >> Linear(8, 8)
data: {name: text, file: a.txt, length: 4, batch_size: 2}
loss: {next: {fn: cross_entropy, input: next, target: target, args: {dim: -1}}}
trainer: {steps: 1, devices: cpu}
"""


def test_another_text_has_the_numbers_of_the_first(folder):
    folder.write("abcdefgh" * 20, "a.txt")
    run = folder.train(text=LETTERS)
    folder.write("hgfedcbahg", "b.txt")
    found = flowconf.predict(run.folder, Path("b.txt"), fields=["tokens"])
    assert found["tokens"].tolist() == [[7, 6, 5, 4], [3, 2, 1, 0]]
    again = flowconf.predict(run.folder, "train", fields=["tokens"], overrides=["data.file=b.txt", "data.validation=0"])
    assert torch.equal(again["tokens"], found["tokens"])
    assert TrainedRun(run.folder).classes["target"] == list("abcdefgh")
    for text, words in (("xyz" * 4, "are not in the vocabulary"), ("abc", r"no window of 4 \+ 1 tokens")):
        folder.write(text, "c.txt")
        with pytest.raises(flowconf.ConfigError, match=words):
            flowconf.predict(run.folder, Path("c.txt"))


def test_texts_for_a_tokenizer(folder):
    tokenizers = imported("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1, "c": 2, "?": 3}, unk_token="?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save("tokenizer.json")
    folder.write(
        "".join(json.dumps({"text": "a b c"[: 1 + row % 5], "kind": row % 2}) + "\n" for row in range(8)), "a.jsonl"
    )
    text = LETTERS[: LETTERS.index("data:")].replace("Linear(8, 8)", "Linear(8, 2) >> Mean(dim=1)") + (
        "data: {name: tokens, train: a.jsonl, tokenizer: tokenizer.json, form: padded, length: 4, batch_size: 2,\n"
        "  fields: {kind: {type: category}}}\n"
        "loss: {kind: {fn: cross_entropy, input: next, target: kind}}\ntrainer: {steps: 1, devices: cpu}\n"
    )
    run = folder.train(text=text)
    folder.write("b c\n\na\n", "b.txt")
    assert flowconf.predict(run.folder, Path("b.txt"), fields=["tokens"])["tokens"].tolist() == [[1, 2, 0, 0], [0] * 4]
    folder.write("a\na b c a b\n", "b.txt")
    with pytest.raises(flowconf.ConfigError, match=r"b\.txt:2") as raised:
        flowconf.predict(run.folder, Path("b.txt"))
    assert "the text in row 1 of `b.txt` has 5 tokens, more than 4" in str(raised.value)


def numbers_of(file, needed, /, *, scale, fitted, **others):
    """Rows of numbers in a text file."""
    rows = [[float(word) for word in line.split()] for line in Path(file).read_text().splitlines()]
    return Resident({"image": torch.tensor(rows) * scale * fitted["unit"]})


@pytest.fixture
def own(folder, monkeypatch):
    """A run with a data set of a project that reads rows of files."""

    @flowconf.provides("image", "label", rows=numbers_of)
    def numbers(*, scale: float = 1.0, fitted: dict | None = None) -> Splits:
        fields = {"image": torch.ones(8, 8), "label": torch.zeros(8, dtype=torch.int64)}
        return Splits(Resident(fields), fitted={"unit": 0.5})

    monkeypatch.setitem(registry.datasets.registered, "numbers", numbers)
    text = TINY.replace("synthetic, shape: [8], classes: 4, rows: 320", "numbers, scale: 3.0")
    return folder.train(text=text.replace("epochs: 2, best: val/accuracy", "steps: 1")).folder


def test_a_data_set_of_a_project_reads_rows_of_files(folder, own):
    rows = numpy.arange(24).reshape(3, 8)
    folder.write("\n".join(" ".join(map(str, row)) for row in rows), "a.txt")
    found = flowconf.predict(own, Path("a.txt"), ["logits", "image"], fields=["row"])
    assert torch.equal(found["image"], torch.from_numpy(rows).float() * 1.5)
    assert found["row"].tolist() == [0, 1, 2]
    folder.write("a b", "a.txt")
    with pytest.raises(flowconf.ConfigError, match="`rows` of the data set `numbers` fails: ValueError"):
        flowconf.predict(own, Path("a.txt"))
