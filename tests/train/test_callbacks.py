"""Callbacks: when they are called and with what, that they change nothing, and what of them is saved."""

from __future__ import annotations

import random

import numpy
import pytest
import torch
from safetensors.torch import load_file

import flowconf
from flowconf.api import load
from flowconf.cli.main import main
from flowconf.graph.build import build_graph
from flowconf.language import projects, registry
from flowconf.report import ConfigError, RunError
from flowconf.train.runs.writer import Writer
from tests.train.conftest import TINY, assert_same, go_on, killed, left_behind, train
from tests.train.teams import dying, go_on_together, team, together

NORMED = TINY.replace("hidden: ReLU", "norm: BatchNorm1d(16)\n    hidden: ReLU").replace(
    "trainer: {epochs: 2,", "trainer: {epochs: 2, ema: 0.9, clip: 1.0, log_every: 4,"
)


COMPILES = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]
"""The compiler's own imports warn."""


def watched(text, **sections):
    """A config with callbacks."""
    lines = [f"  {name}: {section}\n" for name, section in sections.items()]
    return text + "callbacks:\n" + "".join(lines)


@pytest.fixture
def register(monkeypatch):
    """Registers callbacks for one test."""
    return lambda **known: [monkeypatch.setitem(registry.callbacks.registered, *item) for item in known.items()]


class Diary:
    """Notes every call."""

    def __init__(self, reported=None):
        self.reported = [] if reported is None else reported

    def start(self, run):
        self.reported.append(("start", run.step))

    def step(self, run):
        self.reported.append(("step", run.step, round(run.epoch, 2), run.phase))

    def values(self, run, values):
        self.reported.append(("values", run.step, values))

    def evaluated(self, run, found):
        self.reported.append(("evaluated", run.step, found))

    def end(self, run):
        self.reported.append(("end", run.step, run.total_steps))


def test_the_calls_of_a_run_in_order(folder, register):
    reported = []
    register(Diary=lambda: Diary(reported))
    text = watched(TINY, diary="{name: Diary, every: 6, read: [logits, stem, label]}") + (
        "phases: {warm: {until: {step: 7}, freeze: stem}}\n"
    )
    run = folder.train(text=text)
    assert [call[:2] for call in reported] == [
        ("start", 0), ("step", 6), ("values", 6), ("evaluated", 8), ("step", 12), ("values", 12), ("evaluated", 16),
        ("evaluated", reported[-2][1]), ("end", 16),
    ]  # fmt: skip
    assert reported[1] == ("step", 6, 0.75, "warm")
    assert reported[4] == ("step", 12, 1.5, None)
    logged = [{name: line[name] for name in line if "/" in name} for line in run.log if "val/loss" in line]
    assert [call[2] for call in reported if call[0] == "evaluated"][:2] == logged
    assert reported[-2][2]["test/accuracy"] == run.record["metrics"]["test/accuracy"]
    assert reported[-1] == ("end", 16, 16)


def values_of(reported, step):
    return next(values[0] for kind, at, *values in reported if (kind, at) == ("values", step))


@pytest.mark.parametrize("parts", [1, 3])
def test_values_are_those_of_the_whole_batch_in_evaluation_mode(folder, register, parts):
    """The bits of the graph with the weights after the step, whatever `accumulate` is."""
    reported = []
    register(Diary=lambda: Diary(reported))
    text = watched(NORMED, diary="{name: Diary, every: 5, read: [logits, hidden, label, image]}")
    run = folder.train("trainer.epochs=null", "+trainer.steps=5", f"+trainer.accumulate={parts}", text=text)
    values = values_of(reported, 5)
    config = load(folder.write(text))
    graph = build_graph(config.model).eval()
    weights = load_file(run.folder / "checkpoints/last.safetensors")
    graph.load_state_dict({name: tensor for name, tensor in weights.items() if not name.startswith("@")})
    assert values["image"].shape == (32, 8)
    assert values["label"].shape == (32,)
    assert torch.allclose(graph(values["image"]), values["logits"], atol=1e-6)
    assert not values["logits"].requires_grad
    data = flowconf.data(folder.write(text))
    batch = next(batch for number, batch in enumerate(data.train, 1) if number == 5)
    assert torch.equal(batch["image"], values["image"])


def test_the_first_rows_of_the_validation_split(folder, register):
    reported = []
    register(Diary=lambda: Diary(reported))
    text = watched(TINY, diary="{name: Diary, every: 8, read: [logits, image], split: val}")
    folder.train(text=text)
    images = next(iter(flowconf.data(folder.write(text)).val))["image"]
    first, second = (values_of(reported, step) for step in (8, 16))
    assert torch.equal(first["image"], second["image"])
    assert torch.equal(first["image"], images[:32])
    assert not torch.equal(first["logits"], second["logits"])


def test_a_path_with_all_of_its_members_is_read(folder, register):
    reported = []
    register(Diary=lambda: Diary(reported))
    text = watched(
        TINY.replace("hidden: ReLU", "heads: {split: {a: 'Linear(16, 2)', b: 'Linear(16, 14)'}, merge: cat}"),
        diary="{name: Diary, every: 16, read: heads.*}",
    )
    folder.train(text=text)
    assert {name: value.shape[1] for name, value in values_of(reported, 16).items()} == {"heads.a": 2, "heads.b": 14}


class Meddler:
    """Does everything that could change training, except changing weights."""

    def start(self, run):
        self._meddle(run)

    def step(self, run):
        self._meddle(run)

    def values(self, run, values):
        values["hidden"].zero_()
        values["label"].zero_()
        self._meddle(run)

    def evaluated(self, run, found):
        found.clear()
        self._meddle(run)

    def _meddle(self, run):
        torch.rand(3), random.random(), numpy.random.rand()
        torch.manual_seed(1), random.seed(1), numpy.random.seed(1)
        assert not torch.is_grad_enabled()
        assert not any(module.training for module in run.graph.modules())
        run.graph(torch.rand(4, 8))
        for parameter in run.graph.parameters():
            parameter.grad = None
            parameter.requires_grad_(True)
        with torch.enable_grad():
            run.graph(torch.rand(4, 8)).sum().backward()
        run.graph.train()
        run.graph.stem.training = False
        run.graph.stem.weight.requires_grad_(False)
        run.config["trainer"]["epochs"] = 100


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("+trainer.accumulate=3",),
        ("optimizer.name=lbfgs", "optimizer.lr=0.1", "trainer.ema=null"),
        ("trainer.precision=fp16",),
        pytest.param(("trainer.compile=true",), marks=COMPILES),
        ("+phases={warm: {until: {step: 5}, freeze: stem}}",),
    ],
    ids=" ".join,
)
def test_training_is_the_same_to_the_bit(folder, register, words):
    register(Meddler=Meddler)
    text = watched(NORMED, meddler="{name: Meddler, every: 3, read: [hidden, label]}")
    words = [word for word in words if not word.startswith("+phases")]
    phases = "phases: {warm: {until: {step: 5}, freeze: stem}}\n"
    added = phases if len(words) == 0 else ""
    assert_same(folder.train(*words, text=text + added), folder.train(*words, text=NORMED + added))


class Vandal:
    def step(self, run):
        run.graph.stem.weight.mul_(2)


def test_a_callback_that_changes_weights_ends_the_run(folder, register):
    register(Vandal=Vandal)
    with pytest.raises(RunError) as caught:
        folder.train(text=watched(TINY, vandal="{name: Vandal, every: 4}"))
    (reported,) = caught.value.diagnostics
    assert reported.message == "the callback `vandal` has changed `stem.weight`, and callbacks must not change training"
    assert reported.place.column == 18


class Counter:
    """Logs something that depends on all steps so far."""

    def __init__(self, *, start: int = 0):
        self.count = start
        self.sums = []
        self.mean = torch.zeros(16, dtype=torch.float64)

    def step(self, run):
        self.count += run.step

    def values(self, run, values):
        self.sums.append(float(values["hidden"].sum()))
        self.mean += values["hidden"].double().mean(0)
        run.log({"count": self.count, "sums": len(self.sums)}, histograms={"mean": self.mean})
        run.log(images={"mean": self.mean.view(4, 4)}, texts={"sums": str(self.sums)})

    def state_dict(self):
        return {"count": self.count, "nested": {"sums": self.sums, "mean": self.mean}, "more": [None, "a", True]}

    def load_state_dict(self, state):
        self.count, self.sums, self.mean = state["count"], state["nested"]["sums"], state["nested"]["mean"]
        assert state["more"] == [None, "a", True]


COUNTED = watched(NORMED, counter="{name: Counter, every: 2, read: hidden, start: 3}")


@pytest.mark.parametrize("step", [1, 8, 9, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 7, 10, 15))])
def test_state_is_part_of_the_checkpoint(folder, register, step):
    register(Counter=Counter)
    text = COUNTED.replace("log_every: 4,", "log_every: 4, checkpoint_every: 3,")
    whole = folder.train(text=text)
    killed(lambda: folder.train(text=text), step)
    resumed = go_on(folder)
    assert_same(resumed, whole)
    counted = [line["counter/count"] for line in resumed.log if "counter/count" in line]
    assert counted == [3 + sum(range(2, last + 1, 2)) for last in range(2, 17, 2)]
    for file in (whole.folder / "images").rglob("*.png"):
        assert (resumed.folder / file.relative_to(whole.folder)).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("shares", ["null", "[3, 1]"])
def test_two_processes_see_what_one_sees(folder, register, strategy, shares):
    """Rank 0 sees the whole batch."""
    register(Counter=Counter)
    text = COUNTED.replace("Dropout(0.1)", "Identity").replace("norm: BatchNorm1d(16)\n    ", "")
    one = folder.train(text=text)
    two = team(folder, text, f"trainer.strategy={strategy}", f"trainer.shares={shares}")
    mine, theirs = ([line for line in run.log if "counter/count" in line] for run in (one, two))
    assert len(mine) == len(theirs) == 8
    for first, second in zip(mine, theirs, strict=True):
        assert first["counter/count"] == second["counter/count"]
        edges = [line["histograms"]["counter/mean"]["edges"] for line in (first, second)]
        assert edges[0] == pytest.approx(edges[1], rel=1e-3, abs=1e-4)


def test_two_processes_that_are_killed_go_on(folder, register):
    register(Counter=Counter)
    whole = team(folder, COUNTED)
    config = load(folder.write(COUNTED), ["trainer.devices=2"])

    def dies(rank):
        begin = Writer.begin
        Writer.begin = lambda self, write: (begin(self, write), self.wait())
        dying(9)
        train(config)

    together(dies)
    run = folder.runs()[-1]
    go_on_together(run)
    assert_same(folder.run(run), whole)


def test_two_processes_train_the_same_with_and_without(folder, register):
    register(Meddler=Meddler)
    text = watched(NORMED, meddler="{name: Meddler, every: 3, read: [hidden, label]}")
    assert_same(team(folder, text), team(folder, NORMED))


class Looker:
    def step(self, run):
        run.log({"weight": run.graph.stem.weight.norm()})


def test_a_sharded_graph_cannot_be_looked_at(folder, register, capfd):
    register(Looker=Looker)
    config = load(folder.write(watched(TINY, looker="{name: Looker}")), ["trainer.devices=2", "+trainer.strategy=fsdp"])
    assert together(lambda rank: train(config))[0] == 1
    assert "the callback `looker` uses `run.graph`, which is sharded over the processes" in capfd.readouterr().err


def test_turns_and_streams(folder, register):
    reported = []
    register(Diary=lambda: Diary(reported))
    text = watched(TINY, diary="{name: Diary, every: 5, read: [logits, label]}").replace(
        "optimizer:", "turns: {low: {loss: label, updates: stem}, high: {loss: label, updates: logits}}\noptimizer:"
    )
    folder.train(text=text)
    assert values_of(reported, 15)["logits"].shape == (32, 4)


def test_a_callback_that_was_not_there_starts_fresh(folder, register):
    register(Counter=Counter)
    killed(lambda: folder.train(text=NORMED), 12)
    (run,) = folder.runs()
    words = "+callbacks.counter={name: Counter, every: 2, read: hidden}"
    resumed = go_on(folder, run, words)
    assert "the callback `counter` starts fresh: the checkpoint has no state of it" in folder.said.getvalue()
    assert [line["counter/sums"] for line in resumed.log if "counter/sums" in line] == [1, 2, 3, 4]


def test_one_that_is_removed_changes_nothing(folder, register):
    register(Counter=Counter)
    whole = folder.train(text=NORMED)
    killed(lambda: folder.train(text=COUNTED), 12)
    assert left_behind(go_on(folder, None, "callbacks.counter=null")).keys() == left_behind(whole).keys()


class Strange:
    def __init__(self, *, what: str):
        self.what = {"set": {1}, "number": {1: 2}, "array": numpy.zeros(3), "at": {"@": 1}}[what]

    def step(self, run):
        pass

    def state_dict(self):
        return {"inner": [self.what]}


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("set", "`state_dict().inner[0]` is `set`"),
        ("number", "`state_dict().inner[0]` is a mapping with keys that are no strings"),
        ("array", "`state_dict().inner[0]` is `ndarray`"),
        ("at", "`state_dict().inner[0]` is a mapping with keys that are no strings"),
    ],
)
def test_state_that_cannot_be_saved(folder, register, what, said):
    register(Strange=Strange)
    with pytest.raises(RunError) as caught:
        folder.train(text=watched(TINY, strange=f"{{name: Strange, what: {what}}}"))
    assert said in caught.value.diagnostics[0].message


# mistakes of a project


@pytest.fixture
def project(folder, monkeypatch):
    """A project whose callbacks have mistakes."""
    (folder.path / "pyproject.toml").write_text('[tool.flowconf]\nmodules = ["seers"]\n')
    (folder.path / "seers.py").write_text(SEERS)
    monkeypatch.setattr(projects, "_trust", projects.Trust())
    monkeypatch.syspath_prepend(folder.path)
    before = set(registry.callbacks.registered)
    yield folder
    import sys

    sys.modules.pop("seers", None)
    for name in set(registry.callbacks.registered) - before:
        del registry.callbacks.registered[name]


SEERS = """
import flowconf

@flowconf.register_callback
class Failing:
    def __init__(self, *, at: int = 3):
        if at < 0:
            raise ValueError("before the start")
        self.at = at

    def step(self, run):
        if run.step == self.at:
            run.log({"bad name": 1}) if self.at == 4 else run.log({"norm": "high"})

@flowconf.register_callback
class Empty:
    def steps(self, run):
        pass

@flowconf.register_callback
class Reading:
    def values(self, run, values):
        pass

@flowconf.register_callback
class Stepping:
    def step(self, run):
        pass

@flowconf.register_callback
class Lacking:
    def evaluated(self, run):
        pass

@flowconf.register_callback
def making(*, what: str = "nothing"):
    return object()
"""


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (3, "TypeError: the scalar `norm` must be a number, got `str`"),
        (4, "ValueError: a name must consist of letters"),
    ],
)
def test_an_exception_shows_the_line_of_the_project(project, capsys, at, said):
    project.write(watched(TINY, failing=f"{{name: Failing, at: {at}}}"))
    assert main(["train", "tiny.yaml"]) == 1
    reported = capsys.readouterr().err
    assert said in reported
    assert "in `step` of the callback `failing`" in reported
    assert "seers.py:13" in reported
    assert 'run.log({"bad name": 1}) if self.at == 4' in reported
    assert project.run(project.runs()[0]).record["status"] == "failed"


def test_one_that_cannot_be_made_is_refused_before_anything_is_written(project, capsys):
    reported = project.refusal(watched(TINY, failing="{name: Failing, at: -1}"), capsys, "train")
    assert "the callback `failing` cannot be made: ValueError: before the start" in reported
    assert "seers.py:8" in reported
    assert "tiny.yaml:17" in reported
    assert not (project.path / "runs").exists()


@pytest.mark.parametrize(
    ("section", "code", "said"),
    [
        ("{name: Empty}", "FC0123", "the callback `Empty` has none of the methods `start`, `step`, `values`"),
        ("{name: Reading}", "FC0122", "`Reading` has the method `values`, which requires `read`"),
        ("{name: Stepping, read: stem}", "FC0410", "`read` has no effect: the callback `Stepping` has no method"),
        ("{name: Stepping, split: val}", "FC0410", "`split` has no effect: the callback `Stepping` has no method"),
        ("{name: Lacking}", "FC0133", "`Lacking` must have the method `def evaluated(self, run, found)`"),
    ],
)
def test_the_methods_of_a_class_are_checked(project, section, code, said):
    (reported,) = flowconf.check(project.write(watched(TINY, one=section)), trust=True)
    assert reported.code == code
    assert reported.message.startswith(said)
    assert reported.place.file.endswith("tiny.yaml")
    assert any(str(label.place.file).endswith("seers.py") for label in reported.labels)


def test_what_a_function_makes_is_checked_before_anything_is_written(project, capsys):
    project.write(watched(TINY, one="{name: making}"))
    assert main(["check", "tiny.yaml"]) == 0
    assert main(["train", "tiny.yaml"]) == 2
    assert "the callback `making` has none of the methods" in capsys.readouterr().err
    assert not (project.path / "runs").exists()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("one: {name: Histogram, read: stem}", "unknown callback `Histogram`"),
        ("one: {name: Images, read: stem, row: 3}", "`Images` takes no argument `row`"),
        ("one: {name: Images, read: stem, rows: 0}", "`callbacks.one.rows` must be an integer of at least 1, got `0`"),
        ("one: {name: Images, read: steam}", "`steam` is neither a value of the graph nor a field of the data"),
        ("val: {name: Images, read: stem}", "a callback cannot be named `val`, which is the name of other"),
    ],
)
def test_mistakes_have_places(folder, section, message):
    with pytest.raises(ConfigError) as caught:
        load(folder.write(TINY + f"callbacks:\n  {section}\n"))
    (reported,) = caught.value.diagnostics
    assert reported.message.startswith(message)
    assert reported.place.line == 17
