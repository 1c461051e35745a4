"""How training rows are drawn, mixtures, and further sets: the same with workers, processes, and after a kill."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from torch.utils.data import Dataset

import flowconf
from flowconf.cli.main import main
from flowconf.language import registry
from flowconf.report import ConfigError
from flowconf.train.data.batches import Items
from flowconf.train.data.joined import column_of, joined
from flowconf.train.data.sampling import Groups, Sampler, by_value, by_weight, drawn_order, epoch_order
from flowconf.train.data.splits import Resident, Splits
from tests.train.conftest import TINY, assert_same, go_on, killed
from tests.train.teams import assert_alike, team

CPU = torch.device("cpu")
EMPTY = torch.Generator()


class Rows(Dataset):
    """Rows with a rare class, that depend on nothing but their number."""

    def __init__(self, rows=96, add=0.0):
        self.rows, self.add = rows, add

    def __len__(self):
        return self.rows

    def __getitem__(self, row):
        image = torch.sin(torch.arange(8) * (row + 1.0)) + self.add
        return {"image": image, "label": 3 if row % 12 == 0 else row % 3, "weight": float(row % 2)}


@pytest.fixture(autouse=True)
def data(monkeypatch):
    def rare(*, rows: int = 96, add: float = 0.0):
        return Splits(Rows(rows, add), Rows(32, add), Rows(16, add))

    monkeypatch.setitem(registry.datasets.registered, "rare", rare)


def text(more="", workers=0, phases="", best="val/accuracy"):
    start, end = TINY.index("data:"), TINY.index("loss:")
    own = f"data: {{name: rare, batch_size: 20, workers: {workers}{more}}}\n"
    rest = (
        TINY[end:].replace("epochs: 2", "epochs: 3, checkpoint_every: 2").replace("best: val/accuracy", f"best: {best}")
    )
    return TINY[:start].replace("    drop: Dropout(0.1)\n", "") + own + rest + phases


BALANCED = ", sample: {by: label}"
MIXTURE = ", mixture: {other: {add: 5.0, rows: 40, weight: 0.5}}"
PHASES = "phases:\n  early: {until: {step: 7}}\n  late: {mixture: {other: 0}}\n"


def test_without_groups_each_row_comes_once():
    sampler = Sampler(10, 4, 3, CPU)
    assert torch.equal(torch.cat([*sampler.rest_of_epoch()]), epoch_order(10, 3, 0))
    assert torch.equal(torch.cat([*sampler.rest_of_epoch()]), epoch_order(10, 3, 1))


def test_values_are_drawn_equally_often():
    label = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)
    rows = drawn_order(groups := by_value(label, "label"), groups.weights, 6000, 0, 0)
    counts = torch.bincount(label[rows])
    assert ((counts - 2000).abs() < 200).all()
    for value in (0, 1, 2):  # the rows of a value take turns
        own = torch.bincount(rows[label[rows] == value], minlength=1000)[label == value]
        assert own.max() - own.min() <= 1
    assert torch.equal(rows, drawn_order(groups, groups.weights, 6000, 0, 0))
    assert not torch.equal(rows, drawn_order(groups, groups.weights, 6000, 0, 1))


def test_rows_are_drawn_by_their_weight():
    weight = torch.tensor([0.0, 1.0, 3.0, 0.0])
    rows = drawn_order(groups := by_weight(weight, "weight"), groups.weights, 4000, 0, 0)
    assert set(rows.tolist()) == {1, 2}
    assert (rows == 2).float().mean() == pytest.approx(0.75, abs=0.03)


def test_a_change_of_weights_leaves_the_earlier_rows():
    groups = Groups(torch.arange(100) // 50, (1.0, 1.0), ("main", "other"))
    sampler = Sampler(100, 10, 0, CPU, groups=groups)
    epoch = sampler.rest_of_epoch()
    first = next(epoch)
    next(epoch)
    sampler.weights = groups.weighted({"other": 0.0})
    again = torch.cat([sampler.current(), *epoch])
    assert (again < 50).all()
    assert (first >= 50).any()
    resumed = Sampler(100, 10, 0, CPU, groups=groups, weights=(1.0, 0.0), position=10)
    assert torch.equal(torch.cat([*resumed.rest_of_epoch()]), again)


@pytest.mark.parametrize(
    ("make", "values", "words"),
    [
        (by_value, torch.rand(4), "rows can be drawn by an integer or boolean of each row, and `x` is float32"),
        (by_value, torch.zeros(4, 2, dtype=torch.int64), r"`x` is int64 \[2\]"),
        (by_weight, torch.tensor([1.0, -2.0]), "the weight `x` is -2 in row 1"),
        (by_weight, torch.tensor([1.0, float("nan")]), "the weight `x` is nan in row 1"),
        (by_weight, torch.zeros(3), "every row has the weight `x` 0"),
        (by_weight, torch.zeros(3, 2), "the weight of a row is a number"),
    ],
)
def test_fields_that_are_no_groups(make, values, words):
    with pytest.raises(ValueError, match=words):
        make(values, "x")


def test_joined_splits():
    parts = [
        Items(Rows(5)),
        Resident({name: column_of(Items(Rows(7, 1.0)), name) for name in ("image", "label", "weight")}),
    ]
    both = joined(parts)
    rows = torch.tensor([11, 0, 4, 5, 0])
    batch = both.batch(rows, EMPTY)
    each = [parts[int(row >= 5)].batch(torch.tensor([row % 5 if row < 5 else row - 5]), EMPTY) for row in rows.tolist()]
    assert all(torch.equal(batch[name], torch.cat([one[name] for one in each])) for name in batch)
    assert len(both) == 12
    assert both.source.of(6) == (None, 1)
    assert torch.equal(column_of(both, "label"), torch.cat([column_of(part, "label") for part in parts]))
    with pytest.raises(ValueError, match="`x` is float32 \\[\\] and absent"):
        joined([Resident({"x": torch.rand(3)}), Resident({"y": torch.rand(3)})])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Runs that are never interrupted, by what is drawn."""
    return {}


def reference(folder, whole, name, more, phases):
    if name not in whole:
        whole[name] = folder.train(text=text(more, phases=phases))
    return whole[name]


CASES = {"balanced": (BALANCED, ""), "mixture": (MIXTURE, PHASES)}


@pytest.mark.parametrize("name", CASES)
def test_workers_change_nothing(folder, whole, name):
    more, phases = CASES[name]
    assert_same(reference(folder, whole, name, more, phases), folder.train(text=text(more, 2, phases), name="two.yaml"))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("step", [6, 9])
def test_nor_does_a_kill(folder, whole, name, step):
    more, phases = CASES[name]
    killed(lambda: folder.train(text=text(more, 1, phases), name="again.yaml"), step)
    assert_same(reference(folder, whole, name, more, phases), go_on(folder, folder.runs("again")[0]))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_nor_do_two_processes(folder, whole, name):
    more, phases = CASES[name]
    assert_alike(reference(folder, whole, name, more, phases), team(folder, text(more, 0, phases)))


def test_a_phase_ends_a_mixture(folder):
    config = folder.write(text(MIXTURE))
    found = torch.cat([batch["image"].mean(1) > 2.5 for batch in flowconf.data(config).train])
    assert found.float().mean() == pytest.approx(1 / 3, abs=0.1)
    config = folder.write(text(MIXTURE.replace("0.5", "0.0")))
    assert not any((batch["image"].mean(1) > 2.5).any() for batch in flowconf.data(config).train)


def test_rows_in_an_epoch(folder):
    config = folder.write(text(", sample: {rows: 30}"))
    batches = [*flowconf.data(config).train]
    assert [len(batch["label"]) for batch in batches] == [20, 10]


SETS = ", evaluate: {far: {add: 3.0}, few: {rows: 20, split: train}}"


def test_further_sets(folder, capsys):
    found = text(SETS, best="far/accuracy").replace(
        "target: label}\noptimizer", "target: label, splits: [val, far]}\noptimizer"
    )
    run = folder.train(text=found)
    names = {"val/loss", "val/accuracy", "far/loss", "far/accuracy", "few/loss", "test/loss"}
    assert names <= run.record["metrics"].keys()
    assert "few/accuracy" not in run.record["metrics"]
    best = max(line["far/accuracy"] for line in run.log if "far/accuracy" in line)
    assert run.record["metrics"]["far/accuracy"] == best
    assert main(["eval", str(run.folder), "--format", "json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["far/accuracy"] == best
    assert main(["predict", str(run.folder), "--split", "few", "--with", "label", "-o", "few.csv"]) == 0
    with (folder.path / "few.csv").open() as file:
        assert len([*csv.reader(file)]) == 21
    assert main(["eval", str(run.folder), "--split", "fwe"]) == 2
    assert "write `few`" in capsys.readouterr().err
    assert len(flowconf.data(folder.write(found)).named("far").feed) == 96 + 32 + 16
    assert main(["runs", "--where", "far/accuracy>=0"]) == 0
    assert "far/accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (", evaluate: {far: {ad: 3.0}}", "FC0133", "write `add`"),
        (", evaluate: {val: {add: 3.0}}", "FC0126", "a further set cannot be named `val`"),
        (", evaluate: {far: {name: raer}}", "FC0501", "unknown data set `raer`"),
        (", evaluate: {far: {name: digits}}", "FC0502", "`image` is float32 [64] in the set `far`"),
        (", evaluate: {far: {split: tset}}", "FC0123", "must be one of"),
        (", mixture: {far: {weight: -1}}", "FC0123", "must be a number of at least 0"),
        (", mixture: {far: {name: digits}}", "FC0502", "`image` is float32 [64] in the set `far`"),
        (", sample: {by: lable}", "FC0502", "write `label`"),
        (", sample: {by: image}", "FC0501", "`image` is float32 [8]"),
        (", sample: {by: label, weight: weight}", "FC0123", "exclude each other"),
        (", sample: {by: label}, mixture: {far: {}}", "FC0123", "exclude each other"),
        (", sample: {bye: label}", "FC0121", "write `by`"),
    ],
)
def test_mistakes(folder, more, code, words, capsys):
    found = text(more)
    out = folder.refusal(found, capsys, "train")
    assert f"error[{code}]" in out, out
    assert words in out, out
    assert "--> tiny.yaml:" in out
    assert not (folder.path / "runs").exists()


def test_a_set_makes_the_split_that_it_uses(folder, monkeypatch, capsys):
    made = []

    def slow(*, add: float = 0.0):
        def split(name):
            def make():
                made.append((name, add))
                if add > 5:
                    raise ValueError("too much")
                return {"image": torch.rand(16, 8) + add, "label": torch.arange(16) % 4}

            fields = {"image": ((8,), torch.float32), "label": ((), torch.int64)}
            return Resident(make, fields=fields, rows=16)

        return Splits(split("train"), split("val"), split("test"))

    monkeypatch.setitem(registry.datasets.registered, "rare", slow)
    sets = ", evaluate: {far: {add: 1.0, split: test}}, mixture: {near: {add: 2.0}}"
    folder.train(text=text(sets))
    assert made == [("train", 0.0), ("val", 0.0), ("test", 0.0), ("test", 1.0), ("train", 2.0)]
    reported = folder.refusal(text(sets.replace("2.0", "6.0")), capsys, "train")
    assert "error[FC0501]: invalid arguments for the data set `rare`: too much" in reported
    assert "--> tiny.yaml:8:100\n" in reported
    assert len([*(folder.path / "runs").rglob("run.json")]) == 1


def test_mistakes_of_phases_and_splits(folder, capsys):
    assert "write `other`" in folder.refusal(text(MIXTURE, phases=PHASES.replace("other: 0", "othr: 0")), capsys)
    assert "every set of the mixture has weight 0" in folder.refusal(
        text(MIXTURE, phases=PHASES.replace("other: 0", "other: 0, main: 0")), capsys
    )
    assert "write `far`" in folder.refusal(
        text(SETS).replace("target: label}\noptimizer", "target: label, splits: fra}\noptimizer"), capsys
    )


def test_a_stream_cannot_be_drawn_from(folder, monkeypatch):
    class Stream(torch.utils.data.IterableDataset):
        def __len__(self):
            return 40

        def __iter__(self):
            return (Rows()[row] for row in range(40))

    monkeypatch.setitem(registry.datasets.registered, "rare", lambda: Splits(Stream(), Rows(8)))
    with pytest.raises(ConfigError, match="the rows of an iterable data set cannot be drawn"):
        folder.train(text=text(BALANCED))
    with pytest.raises(ConfigError, match="an iterable data set cannot be joined"):
        folder.train(text=text(", mixture: {other: {}}"))
