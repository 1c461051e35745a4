"""Tables as data: CSV, JSON lines, Parquet; what is fitted on the training rows is that of the run for good."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from flowconf.cli.main import main
from flowconf.report import ConfigError, MachineError
from flowconf.train.commands.train import resume
from flowconf.train.data.declarations import DataSet
from flowconf.train.data.tables import table
from tests.train.conftest import killed, place_in

CSV = """rooms,area,district,price,floor
3,80.5,north,210,1
4,,south,,2
2,55,east,150,0
5,120,north,,3
3,70,south,190,1
2,60,east,160,0
"""
ROWS = [line.split(",") for line in CSV.splitlines()[1:]]
FIELDS = {
    "size": {"columns": ["rooms", "area"], "standardize": True, "missing": "mean"},
    "district": {"type": "category"},
    "price": {"missing": "mask"},
    "floor": {"type": "integer"},
}
CONFIG = """
model:
  inputs: {size: [B, 2], district: {shape: [B], dtype: int64}}
  flow:
    place: {fork: "Embedding(3, 4)", from: district}
    both: {through: "Concat(dim=1)", from: size, using: [place]}
    out: Linear(_, 8) >> ReLU >> Linear(8, 1) >> Flatten(0)
data:
  name: table
  train: houses.csv
  validation: 0.34
  fields:
    size: {columns: [rooms, area], standardize: true, missing: mean}
    district: {type: category}
    price: {standardize: true, missing: mask}
  batch_size: 2
loss:
  fit: {fn: mse, input: out, target: price, mask: price_present}
trainer: {epochs: 2, devices: cpu}
"""


def number(cell):
    return float(cell) if cell else None


@pytest.fixture
def houses(folder):
    folder.write(CSV, "houses.csv")
    rows = [
        dict(zip(("rooms", "area", "district", "price", "floor"), map(of, cells), strict=True))
        for cells in ROWS
        for of in [lambda cell: cell]
    ]
    rows = [{name: cell if name == "district" else number(cell) for name, cell in row.items()} for row in rows]
    folder.write("".join(json.dumps(row) + "\n" for row in rows), "houses.jsonl")
    folder.write(CSV.replace(",", "\t"), "houses.tsv")
    folder.write(CSV.replace(",", ";"), "semicolons.csv")
    return folder


def parquet(folder):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import Table
    from pyarrow import parquet as files

    rows = [json.loads(line) for line in (folder.path / "houses.jsonl").read_text().splitlines()]
    files.write_table(Table.from_pylist(rows), folder.path / "houses.parquet")


@pytest.mark.parametrize("file", ["houses.csv", "houses.tsv", "houses.jsonl", "semicolons.csv", "houses.parquet"])
def test_the_same_table_in_each_format(houses, file):
    if file.endswith("parquet"):
        parquet(houses)
    arguments = {"train": file, "fields": FIELDS, "delimiter": ";" if file == "semicolons.csv" else None}
    splits = table(**arguments)
    order = splits.train.source.rows
    found = {name: tensor[order.argsort()] for name, tensor in splits.train.tensors.items()}
    size = torch.tensor([[float(row[0]), float(row[1] or 77.1)] for row in ROWS])
    deviation = torch.cat([size[:, :1].std(0, correction=0), size[[0, 2, 3, 4, 5], 1:].std(0, correction=0)])
    torch.testing.assert_close(found["size"], (size - size.mean(0)) / deviation)
    assert found["district"].tolist() == [1, 2, 0, 1, 2, 0]
    assert found["price"].tolist() == [210, 0, 150, 0, 190, 160]
    assert found["price_present"].tolist() == [True, False, True, False, True, True]
    assert found["floor"].dtype == torch.int64
    assert splits.fitted["district"] == {"categories": ["east", "north", "south"]}
    said = DataSet("table", arguments).declared()
    assert {name: field[:2] for name, field in said.items()} == splits.train.fields


def test_what_is_fitted_comes_from_training_rows_alone(houses):
    splits = table(train="houses.csv", fields=FIELDS, validation=0.34)
    rows = splits.train.source.rows.tolist()
    rooms = torch.tensor([float(ROWS[row][0]) for row in rows], dtype=torch.float64)
    assert splits.fitted["size"]["mean"][0] == pytest.approx(rooms.mean().item())
    again = table(train="houses.csv", fields=FIELDS, validation="houses.csv", fitted=splits.fitted)
    held = splits.validation.source.rows
    assert torch.equal(again.validation.tensors["size"][held], splits.validation.tensors["size"])


@pytest.mark.parametrize(
    ("field", "words", "place"),
    [
        ({"price": {}}, "`price` is missing in row 1 of `houses.csv`", "houses.csv:3:10"),
        ({"district": "district"}, "`district` must be a number, got `north` in row 0", "houses.csv:2:8"),
        ({"area": {"type": "integer", "missing": "mask"}}, "`area` must be an integer, got `80.5` in row 0", ":2:3"),
        (
            {"d": {"columns": "district", "type": "category", "categories": ["north", "east"]}},
            "no category of `d`",
            ":3",
        ),
    ],
)
def test_a_cell_without_a_value(houses, field, words, place):
    with pytest.raises(ConfigError, match=words.replace(".", r"\.")) as error:
        table(train="houses.csv", fields=field)
    assert place in str(error.value.diagnostics[0].place)


@pytest.mark.parametrize(
    ("file", "text", "field", "words"),
    [
        ("a.csv", "a\n1\n-1e39\n", {}, "`a` must be within the range of float32, got `-1e39` in row 1 of `a.csv`"),
        ("a.jsonl", f'{{"a": 1{"0" * 50}}}\n', {}, "`a` must be within the range of float32, got `1000"),
        ("a.jsonl", '{"a": [1, 1e39]}\n', {"pad": [2]}, "`a` must have numbers within the range of float32, got `1e"),
        ("a.csv", "a\n1\ninf\n", {"standardize": True}, "`a` must be finite, because `a` needs its mean, got `inf`"),
    ],
)
def test_a_number_beyond_float32(folder, file, text, field, words):
    folder.write(text, file)
    with pytest.raises(ConfigError) as error:
        table(train=file, fields={"a": field})
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ("a,b\n1,2\n3\n", "the row at line 3 of `bad.csv` has 1 cells, but there are 2 columns", 3),
        ("a,a\n1,2\n", "duplicate column `a`", 1),
        ("", "has no header", 0),
        ("a,b\n", "has no rows", 0),
        ('a,b\n"1,2\n', "is not a CSV file", 0),
        ("a;b\n1;2\n", "has no column `a`", 0),
    ],
)
def test_files_that_are_no_tables(folder, text, words, line):
    folder.write(text, "bad.csv")
    with pytest.raises(ConfigError, match=words) as error:
        table(train="bad.csv", fields={"a": "a"})
    assert error.value.diagnostics[0].place.line == line


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ('{"a": 1}\n{"a": \n', "line 2 of `bad.jsonl` is not JSON", 2),
        ('{"a": 1}\n[1]\n', "line 2 of `bad.jsonl` must be an object", 2),
        ('{"b": 1}\n', "has no column `a`", 0),
        ('{"a": 1}\n\n{"a": [1]}\n', r"`a` must be a number, got `\[1\]` in row 1", 3),
    ],
)
def test_json_lines_that_are_not(folder, text, words, line):
    folder.write(text, "bad.jsonl")
    with pytest.raises(ConfigError, match=words) as error:
        table(train="bad.jsonl", fields={"a": "a"})
    assert error.value.diagnostics[0].place.line == line


def test_text_that_is_not_utf8(folder):
    (folder.path / "bad.csv").write_bytes(b"a\n\xff\n")
    with pytest.raises(ConfigError, match="is not valid UTF-8"):
        table(train="bad.csv", fields={"a": "a"})


def test_parquet_without_its_package(houses, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (houses.path / "houses.parquet").write_bytes(b"PAR1")
    assert "price" in DataSet("table", {"train": "houses.parquet", "fields": {"price": "price"}}).declared()
    with pytest.raises(MachineError, match="Parquet files require pyarrow") as error:
        table(train="houses.parquet", fields={"price": "price"})
    assert "pip install 'flowconf[tables]'" in str(error.value)


def test_a_damaged_parquet_file(houses):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    (houses.path / "houses.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(ConfigError, match="damaged or not a Parquet file"):
        table(train="houses.parquet", fields={"price": "price"})


def test_quoted_cells_and_missing_words(folder):
    folder.write('a,b\n"1,000",x\n', "quoted.csv")
    with pytest.raises(ConfigError, match="`a` must be a number, got `1,000`"):
        table(train="quoted.csv", fields={"a": "a"})
    folder.write("a,country\n1,NA\nNA,SE\n", "countries.csv")
    fields = {"a": {"missing": "mask"}, "country": {"type": "category"}}
    with pytest.raises(ConfigError, match="`a` must be a number, got `NA`") as error:
        table(train="countries.csv", fields=fields)
    assert "missing_values: ['', \"NA\"]" in str(error.value)
    fields["country"]["missing"] = "category"
    found = table(train="countries.csv", fields=fields, missing_values=["NA"])
    assert sorted(found.train.tensors["country"].tolist()) == [0, 1]


def test_numbers_as_categories_are_in_their_order(folder):
    folder.write("label\n10\n2\n1\n", "labels.csv")
    assert table(train="labels.csv", fields={"label": {"type": "category"}}).fitted == {
        "label": {"categories": ["1", "2", "10"]}
    }


def test_a_run_keeps_what_it_has_fitted(houses, capsys):
    run = houses.train(text=CONFIG).folder
    known = json.loads((run / "data.json").read_text())
    assert known["district"]["categories"] == ["east", "north", "south"]
    # other rows, without two of the districts: categories, means and deviations stay those of the run
    houses.write("rooms,area,district,price\n2,55,south,150\n9,300,south,\n", "new.csv")
    words = ["data.train=new.csv", "data.validation=0"]
    assert main(["predict", str(run), *words, "--split", "train", "--with", "district", "-o", "new.jsonl"]) == 0
    rows = [json.loads(line) for line in (houses.path / "new.jsonl").read_text().splitlines()]
    assert [row["district"] for row in rows] == [2, 2]
    houses.write("rooms,area,district,price\n2,55,west,150\n", "strange.csv")
    capsys.readouterr()
    assert main(["eval", str(run), "data.train=strange.csv", "data.validation=0", "--split", "train"]) == 2
    assert "`west` in row 0 of `strange.csv` is no category of `district`" in capsys.readouterr().err
    assert main(["eval", str(run), "data.fields.size.columns=[rooms]", "--split", "train"]) == 2


def test_resuming_after_a_kill_takes_what_the_run_has_fitted(houses):
    whole = houses.train(text=CONFIG).record["metrics"]
    killed(lambda: houses.train(text=CONFIG), at=2)
    folder = houses.runs()[-1]
    file = houses.path / "houses.csv"
    assert json.loads((folder / "data.json").read_text()) == json.loads((houses.runs()[0] / "data.json").read_text())
    known = json.loads((folder / "data.json").read_text())
    known["size"]["mean"][0] += 1
    (folder / "data.json").write_text(json.dumps(known))
    resume(str(folder))
    assert houses.run(folder).record["metrics"] != whole  # they are read from the run, not fitted again
    assert file.is_file()


def test_a_damaged_file_of_a_run_is_refused(houses, capsys):
    run = houses.train(text=CONFIG).folder
    (run / "data.json").write_text("{")
    assert main(["eval", str(run), "--split", "train"]) == 2
    assert "is damaged" in capsys.readouterr().err


LISTS = """{"box": [[1, 2, 3, 4], [5, 6, 7, 8]], "kind": ["cat", "dog"], "n": [1]}
{"box": [], "kind": [], "n": [1, 2, 3]}
{"box": [[9, 9, 9, 9]], "kind": ["cat"], "n": null}
"""
OF_LISTS = {"box": {"pad": [3, 4]}, "kind": {"type": "category", "pad": [2]}, "n": {"type": "integer", "pad": [4]}}


@pytest.mark.parametrize("file", ["lists.jsonl", "lists.parquet"])
def test_lists_are_padded(folder, file):
    folder.write(LISTS, "lists.jsonl")
    if file.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        from pyarrow import Table
        from pyarrow import parquet as files

        files.write_table(Table.from_pylist([json.loads(line) for line in LISTS.splitlines()]), file)
    split = table(train=file, fields=OF_LISTS).train
    back = split.source.rows.argsort()
    found = {name: tensor[back] for name, tensor in split.tensors.items()}
    assert found["box"][0].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [0] * 4]
    assert found["box_present"].tolist() == [[True, True, False], [False] * 3, [True, False, False]]
    assert found["kind"].tolist() == [[0, 1], [0, 0], [0, 0]]
    assert found["n"].tolist() == [[1, 0, 0, 0], [1, 2, 3, 0], [0] * 4]
    assert {
        name: field[:2] for name, field in DataSet("table", {"train": file, "fields": OF_LISTS}).declared().items()
    } == split.fields


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"box": {"pad": [1, 4]}}, r"`box` has 2 items, more than 1, in row 0"),
        ({"box": {"pad": [3, 2]}}, r"`box` has items that are not of the size \[2\], in row 0"),
        ({"kind": {"pad": [3]}}, r"`kind` must have numbers, got `cat`, in row 0"),
        ({"x": {"pad": [3]}}, r"`x` must be a list, got `1`, in row 0"),
        ({"kind": {"pad": [3], "missing": "mask"}}, r"`missing` does not apply to lists"),
        ({"kind": {"pad": [0]}}, r"must be an integer of at least 1"),
        ({"a": {"columns": ["box", "n"], "pad": [3]}}, r"a field of lists has one column"),
    ],
)
def test_lists_that_do_not_fit(folder, fields, words):
    folder.write(LISTS.replace('{"box"', '{"x": 1, "box"'), "lists.jsonl")
    with pytest.raises(ConfigError, match=words):
        table(train="lists.jsonl", fields=fields)


@pytest.mark.parametrize(
    ("old", "new", "code", "marked"),
    [
        ("columns: [rooms, area]", "columns: [rooms, aera]", "FC0501", "aera"),
        ("{columns: [rooms, area], standardize: true, missing: mean}", "[rooms, aera]", "FC0501", "aera"),
        ("standardize: true, missing: mask", "standardise: true", "FC0121", "standardise"),
        ("{type: category}", "{type: categories}", "FC0123", "categories"),
        ("{type: category}", "{type: category, missing: mean}", "FC0123", "mean}"),
        ("{type: category}", "{type: category, standardize: true}", "FC0123", "true}"),
        ("{type: category}", "{categories: [a]}", "FC0123", "[a]"),
        ("{type: category}", "{type: category, categories: [a, b, a]}", "FC0123", "[a, b"),
        ("{type: category}", "{type: category, columns: 3}", "FC0123", "3}"),
        ("  batch_size: 2", "    price_present: price", "FC0123", "price\n"),
        ("houses.csv", "houses.xlsx", "FC0501", "houses.xlsx"),
    ],
)
def test_mistakes_are_marked_in_the_config(houses, capsys, old, new, code, marked):
    at = CONFIG.index(old)
    text = CONFIG.replace(old, new)
    (houses.path / "houses.xlsx").write_bytes(b"")
    out = houses.refusal(text, capsys)
    assert f"error[{code}]" in out
    assert place_in(text, marked, at) in out, out


def test_the_example_learns():
    """`configs/diabetes.yaml`: a fifth of the targets is missing."""
    root = Path(__file__).parents[2]
    import flowconf

    assert main(["check", str(root / "configs/diabetes.yaml"), f"data.train={root}/configs/tables/diabetes.csv"]) == 0
    batches = flowconf.data(root / "configs/diabetes.yaml", [f"data.train={root}/configs/tables/diabetes.csv"])
    assert not all(batch["target_present"].all() for batch in batches.train)


def test_the_example_beats_the_mean(folder):
    root = Path(__file__).parents[2]
    text = (root / "configs/diabetes.yaml").read_text().replace("configs/tables", f"{root}/configs/tables")
    metrics = folder.train("trainer.epochs=12", text=text).record["metrics"]
    assert metrics["val/loss"] < 0.7  # the variance of the target is 1
