"""A change on resume takes effect, is refused with its place, or is reported to begin something anew: for every key.

The keys come from the models and signatures themselves, so that a new one fails here until it is decided.
"""

from __future__ import annotations

import inspect
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch

from flowconf.language import training
from flowconf.report import FlowconfError
from flowconf.train.commands import train as command
from flowconf.train.commands.train import resume
from flowconf.train.data import builtin
from flowconf.train.optim import optimizers, schedules
from flowconf.train.screen import Screen
from tests.train.conftest import TEXT, Folder, killed
from tests.train.test_checkpoints import snapshot
from tests.train.test_turns import WGAN

PHASED = """
schedule: {name: cosine, warmup: 2}
phases:
  warm: {until: {step: 7}, freeze: stem, lr: 0.5}
  long: {until: {epoch: 1.5}, lr: 0.25}
  last: {lr: 0.1, loss: {label: 0.5}}
"""


def group(job, parameter="stem.weight"):
    """The optimizer's group of a parameter."""
    wanted = dict(job.graph.named_parameters())[parameter]
    groups = job.learning_rate.groups
    return next(group for group in groups if any(each is wanted for each in group["params"]))


def state(job):
    """What the optimizers keep, by parameter."""
    return {key: kept for one in (*job.optimizers, *job.repeating) for key, kept in one.state.items()}


def trainer(key):
    return lambda job: getattr(job.config.training.trainer, key)


@dataclass
class Change:
    """Words of a resume, and what becomes of them; `text` is the config of the run."""

    words: tuple[str, ...]
    probe: Callable[[Any], Any] | None = None
    """Gives what shows that they took effect, of the job as it goes on."""
    expected: Any = None
    refused: str | None = None
    """Words of the refusal."""
    anew: str | None = None
    """What is said to begin anew; without it nothing is."""
    text: str = TEXT
    job: Any = field(default=None, repr=False)


_unfinished: dict[str, Path] = {}
"""A folder with a run that was killed after step 9, for each config."""


def unfinished(folder, text):
    """Such a run in `folder`, which no other test changes."""
    if text not in _unfinished:
        path = Path(tempfile.mkdtemp())
        with chdir(path):
            killed(lambda: Folder(path).train(text=text), 10)
        _unfinished[text] = path
    shutil.copytree(_unfinished[text], folder.path, dirs_exist_ok=True)
    return folder.runs()[0]


@pytest.fixture(scope="module", autouse=True)
def _removed():
    yield
    for path in _unfinished.values():
        shutil.rmtree(path)
    _unfinished.clear()


def carried(change, folder, monkeypatch):
    """Resume with a change; gives what was said."""
    run = unfinished(folder, change.text)
    before = snapshot(run)
    said, seen = StringIO(), []
    fit, start = command.fit, Screen.start
    monkeypatch.setattr(command, "fit", lambda job, *given: setattr(change, "job", job) or fit(job, *given))

    def started(self, total, done=0):
        seen.append(change.probe(change.job) if change.probe else None)
        start(self, total, done)

    monkeypatch.setattr(Screen, "start", started)
    if change.refused is not None:
        with pytest.raises(FlowconfError) as caught:
            resume(str(run), change.words, Screen(said))
        (refusal,) = caught.value.diagnostics
        assert change.refused in refusal.message
        assert refusal.place.word in change.words
        assert refusal.help
        assert snapshot(run) == before
        return
    resume(str(run), change.words, Screen(said))
    assert seen == [change.expected]
    assert folder.run(run).record["status"] == "finished"
    fresh = re.search("starts? fresh|phases restart|start from the current", said.getvalue())
    assert (fresh is not None) == (change.anew is not None)
    assert (change.anew or "") in said.getvalue()


# optimizers

VALUES = {
    "lr": 0.02, "betas": [0.8, 0.95], "eps": 1e-6, "weight_decay": 0.3, "amsgrad": True, "fused": False,
    "momentum": 0.7, "dampening": 0.1, "nesterov": True, "lr_decay": 0.1, "alpha": 0.9, "centered": True,
    "momentum_decay": 0.01, "decoupled_weight_decay": True, "rho": 0.8, "beta2_decay": -0.7, "d": 1.5, "lambd": 1e-3,
    "t0": 10.0, "etas": [0.4, 1.3], "step_sizes": [1e-5, 40.0], "ns_coefficients": [3.0, -4.0, 2.0], "ns_steps": 4,
    "adjust_lr_fn": "original", "max_iter": 5, "max_eval": 7, "tolerance_grad": 1e-6, "tolerance_change": 1e-8,
    "history_size": 9, "line_search_fn": "strong_wolfe",
}  # fmt: skip
"""A value for each argument of an optimizer, which is not its default."""
KEEPS_MORE = {"amsgrad", "centered", ("rmsprop", "momentum")}
"""Arguments with which an optimizer keeps more for each parameter."""


def arguments(of):
    return [name for name in inspect.signature(of).parameters if name not in ("params", "progress")]


def text_with(optimizer):
    """The config with an optimizer, and parameters that it takes."""
    text = TEXT.replace("name: adamw", f"name: {optimizer}")
    if optimizer == "muon":
        text = text.replace("(8, 16)", "(8, 16, bias=false)").replace("(16, 4)", "(16, 4, bias=false)")
    return text


def optimizer_change(name, key, prefix="optimizer"):
    value = VALUES[key] if (name, key) != ("adafactor", "eps") else [1e-6, 0.01]
    written = str(value).lower()
    words = (f"++{prefix}.{key}={written}", *((f"++{prefix}.momentum=0.7",) if key == "nesterov" else ()))
    expected = tuple(value) if isinstance(value, list) else None if key == "fused" else value
    probed = {"lr": "initial", "fused": "fused"}.get(key, key)

    def probe(job):
        return job.learning_rate.base[0] if probed == "initial" else group(job)[probed]

    anew = "optimizer state starts fresh for" if {key, (name, key)} & KEEPS_MORE else None
    if name == "lbfgs" and key != "lr":  # its state is one for all parameters
        anew = "optimizer state starts fresh: `lbfgs` had other settings"
    return Change(words, probe, expected, anew=anew, text=text_with(name))


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name in optimizers.__all__ if name != "sparseadam"
                     for key in arguments(getattr(optimizers, name))]
)  # fmt: skip
def test_every_argument_of_an_optimizer(folder, monkeypatch, name, key):
    carried(optimizer_change(name, key), folder, monkeypatch)


OTHER = [name for name in optimizers.__all__ if name not in ("adamw", "muon", "sparseadam")]


@pytest.mark.parametrize("other", OTHER)
def test_another_optimizer(folder, monkeypatch, other):
    said = f"optimizer state starts fresh: the config has `{other}`, and the checkpoint `adamw`"
    change = Change((f"optimizer.name={other}",), lambda job: len(state(job)), 4 if other == "adagrad" else 0,
                    anew=said)  # fmt: skip
    carried(change, folder, monkeypatch)


GROUPED = TEXT.replace("lr: 0.01}", "lr: 0.01, groups: {stem: {lr: 0.002}}}")
GROUPS = {
    "another group": Change(("+optimizer.groups.logits.lr=0.5",), lambda job: group(job, "logits.bias")["lr"], 0.5),
    "one that changes": Change(("optimizer.groups.stem.lr=0.5",), lambda job: group(job)["lr"], 0.5, text=GROUPED),
    "one less": Change(("optimizer.groups.stem=null",), lambda job: group(job)["lr"], 0.01, text=GROUPED),
    "one with other values": Change(
        ("+optimizer.groups.logits.amsgrad=true",),
        lambda job: [len(state) for state in state(job).values()],
        [3, 3],
        anew="optimizer state starts fresh for `logits.weight`, `logits.bias`",
    ),
    "a part that is frozen": Change(
        ("+model.flow.stem={through: 'Linear(8, 16)', frozen: true}",), lambda job: len(state(job)), 2
    ),
    "a part that is thawed": Change(
        ("model.flow.stem={through: 'Linear(8, 16)'}",), lambda job: len(state(job)), 2,
        text=TEXT.replace("    stem: Linear(8, 16)", "    stem: {through: 'Linear(8, 16)', frozen: true}"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", GROUPS.values(), ids=GROUPS)
def test_groups(folder, monkeypatch, change):
    carried(change, folder, monkeypatch)


# schedules


def stretch(job, number=0):
    """A schedule of the job."""
    return job.learning_rate.schedules[0].stretches[number]


def total(job):
    """The number of steps, and the end of the schedule."""
    return job.total_steps, stretch(job).end


SHAPES = {
    "final": 0.25, "at": [0.25, 0.9], "factor": 0.5, "value": 0.5, "start": 0.5, "power": 3.0, "cycles": 2, "low": 0.2,
    "decay": 0.5, "rise": 0.5, "longer": 2.0, "patience": 3, "by": 0.1, "cooldown": 2, "lowest": 0.1, "mode": "max",
}  # fmt: skip
HALVES = TEXT + "schedule: [{name: linear, final: 0.5, until: {fraction: 0.5}}, {name: constant, value: 0.5}]\n"
OWN = TEXT.replace("lr: 0.01}", "lr: 0.01, groups: {stem: {schedule: {name: linear}}}}")
SCHEDULED = {
    "name": Change(("schedule.name=linear",), lambda job: stretch(job).shape(0.75), 0.25),
    "warmup": Change(("schedule.warmup=12",), lambda job: stretch(job).warmup, 12),
    "until": Change(("+schedule.until={step: 12}",), lambda job: stretch(job).end, 12),
}
CHAINS = {
    "to a list": Change(
        ("+schedule=[{name: linear, until: {step: 12}}, {name: cosine}]",), lambda job: stretch(job, 1).begin, 12
    ),
    "of a list": Change(("schedule.0.until.fraction=0.25",), lambda job: stretch(job).end, 4, text=HALVES),
    "of a group": Change(
        ("optimizer.groups.stem.schedule.name=cosine",),
        lambda job: job.learning_rate.schedules[1].stretches[0].shape.func.__name__, "cosine", text=OWN,
    ),
    "plateau": Change(
        ("schedule.name=plateau",), lambda job: stretch(job).shape.value, "val/loss",
    ),
    "no plateau any more": Change(
        ("schedule.name=constant",), lambda job: stretch(job).shape(0.5), 1.0,
        text=TEXT + "schedule: {name: plateau}\n",
    ),
}  # fmt: skip


def test_every_key_of_the_schedule_is_decided():
    assert SCHEDULED.keys() == training.ScheduleSection.model_fields.keys()


@pytest.mark.parametrize("change", [*SCHEDULED.values(), *CHAINS.values()], ids=[*SCHEDULED, *CHAINS])
def test_the_schedule(folder, monkeypatch, change):
    carried(change, folder, monkeypatch)


def argument(job, key):
    """An argument of a function, or of an instance."""
    shape = stretch(job).shape
    return shape.keywords[key] if hasattr(shape, "keywords") else getattr(shape, key)


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name in schedules.__all__ for key in arguments(getattr(schedules, name))]
)
def test_every_argument_of_a_schedule(folder, monkeypatch, name, key):
    given = "{name: steps, at: [0.5]}" if name == "steps" else f"{{name: {name}}}"
    text = f"{TEXT}schedule: {given}\n"
    expected = "train/loss" if (name, key) == ("plateau", "value") else SHAPES[key]
    kept, there = ("sign", -1.0) if key == "mode" else (key, expected)
    change = Change((f"++schedule.{key}={expected}",), lambda job: argument(job, kept), there, text=text)
    carried(change, folder, monkeypatch)


# phases

IN = TEXT + PHASED
SECOND = "{second: {name: synthetic, shape: [8], classes: 4, rows: 64, seed: 1}}"
MIXED = IN.replace("data: {", f"data: {{mixture: {SECOND}, ", 1)
PHASES = {
    "when": Change(("phases.last.when={step: 11}",), lambda job: job.phases.sections[-1].when.step, 11, text=IN),
    "until": Change(("phases.long.until={epoch: 1.2}",), lambda job: job.phases.sections[1].until.epoch, 1.2, text=IN),
    "freeze": Change(("phases.long.freeze=stem",), lambda job: job.graph.stem.weight.requires_grad, False, text=IN),
    "thaw": Change(("phases.long.thaw=stem",), lambda job: job.graph.stem.weight.requires_grad, True, text=IN),
    "lr": Change(("phases.long.lr=0.75",), lambda job: job.learning_rate.factors, [0.75], text=IN),
    "loss": Change(("phases.long.loss={label: 0.25}",), lambda job: job.active.weights, [0.25], text=IN),
    "mixture": Change(
        ("phases.long.mixture={second: 3}",), lambda job: job.phases.sections[1].mixture, {"second": 3}, text=MIXED,
    ),
}  # fmt: skip


def test_every_key_of_a_phase_is_decided():
    assert PHASES.keys() == training.PhaseSection.model_fields.keys()


MEMBERS = {
    "the one before it is gone": Change(
        ("phases.warm=null",), lambda job: (job.phases.current, job.phases.number), ("long", 0), text=IN,
    ),
    "the one of the moment is gone": Change(
        ("phases.long=null",), lambda job: job.phases.current, None, text=IN,
        anew="phases restart: the run was in phase `long`",
    ),
    "all are gone": Change(
        ("phases.warm=null", "phases.long=null", "phases.last=null"),
        lambda job: job.learning_rate.factors, [1.0], text=IN, anew="phases restart",
    ),
    "the first ones": Change(
        ("+phases={tail: {when: {step: 12}, lr: 0.5}}",), lambda job: job.phases.current, None,
    ),
    "one that watches another value": Change(
        ("~phases.long.until.epoch", "+phases.long.until.stalled={metric: val/accuracy, epochs: 0.5}"),
        lambda job: job.phases.current, "long", text=IN,
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", [*PHASES.values(), *MEMBERS.values()], ids=[*PHASES, *MEMBERS])
def test_phases(folder, monkeypatch, change):
    carried(change, folder, monkeypatch)


# turns and parts

PAIR = WGAN.replace("steps: 60", "steps: 24").replace("rows: 800", "rows: 320")
TURNS = {
    "loss": Change(
        ("turns.critic.loss=[real, fake]",), lambda job: len(job.round[0].terms), 2,
        text=PAIR.replace("  generator: {loss: fool", "  spare: {loss: penalty}\n  generator: {loss: fool"),
    ),
    "updates": Change(("turns.critic.updates=critic.two",), lambda job: len(job.round[0].trained), 2, text=PAIR),
    "steps": Change(("turns.critic.steps=2",), lambda job: len(job.round), 3, text=PAIR),
}  # fmt: skip
NO_TURNS = Change(
    ("turns.critic=null", "turns.generator=null"), lambda job: [one.turn for one in job.round], [None], text=PAIR
)
OF_GROUPS = {
    "name": Change(
        ("optimizer.groups.generator.name=rmsprop", "~optimizer.groups.generator.betas"),
        lambda job: [type(one).__name__ for one in job.optimizers], ["Adam", "RMSprop"], text=PAIR,
        anew="optimizer state starts fresh for `generator.one.0.weight`",
    ),
    "schedule": Change(
        ("optimizer.groups.generator.schedule.final=0.25",),
        lambda job: job.learning_rate.schedules[1].stretches[0].shape.keywords["final"], 0.25, text=PAIR,
    ),
}  # fmt: skip
DECAYED = TEXT.replace("lr: 0.01}", "lr: 0.01, layer_decay: {layers: [stem, logits], factor: 0.5}}")
DECAYS = {
    "layers": Change(("optimizer.layer_decay.layers=[logits]",), lambda job: group(job)["lr"], 0.0025, text=DECAYED),
    "factor": Change(("optimizer.layer_decay.factor=1.0",), lambda job: group(job)["lr"], 0.01, text=DECAYED),
}


def test_every_key_of_turns_groups_and_layers_is_decided():
    assert TURNS.keys() == training.TurnSection.model_fields.keys()
    assert OF_GROUPS.keys() == training.GroupSection.model_fields.keys()
    assert DECAYS.keys() == training.LayerDecay.model_fields.keys()


@pytest.mark.parametrize(
    "change", [*TURNS.values(), NO_TURNS, *OF_GROUPS.values(), *DECAYS.values()],
    ids=[*TURNS, "none", *OF_GROUPS, *DECAYS],
)  # fmt: skip
def test_turns_groups_and_layers(folder, monkeypatch, change):
    carried(change, folder, monkeypatch)


# data

DATA = {
    "name": Change(
        (
            "data.name=digits",
            "~data.shape",
            "~data.classes",
            "~data.rows",
            "model.inputs.image=[B, 64]",
            "model.flow.stem='Linear(64, 16)'",
            "model.flow.logits='Linear(16, 10)'",
        ),
        refused="`stem.weight` has shape [16, 64]",
    ),
    "batch_size": Change(("data.batch_size=16",), refused="`data.batch_size` cannot be changed when resuming"),
    "evaluation_batch_size": Change(
        ("data.evaluation_batch_size=7",), lambda job: job.config.training.data.evaluation_batch_size, 7
    ),
    "drop_last": Change(("data.drop_last=true",), refused="`data.drop_last` cannot be changed when resuming"),
    "workers": Change(("data.workers=1",), lambda job: job.config.training.data.workers, 1),
    "prefetch": Change(("data.prefetch=3",), lambda job: job.config.training.data.prefetch, 3),
    "cache": Change(("data.cache=rows",), refused="`cache` does not apply to `synthetic`"),
    "evaluate": Change((f"data.evaluate={SECOND}",), lambda job: list(job.config.training.data.evaluate), ["second"]),
    "mixture": Change((f"data.mixture={SECOND}",), refused="the training split has 308 rows, and had 256 up to step 9"),
    "augment": Change(
        ("data.augment={image: 'AddNoise(0.1)'}",),
        lambda job: dict(job.config.training.data.augment),
        {"image": "AddNoise(0.1)"},
    ),
    "buckets": Change(("data.buckets={mask: label, cut: label}",), refused="bool [length], and `label` is int64 []"),
    "sample": Change(("data.sample={by: label}",), lambda job: job.config.training.data.sample.by, "label"),
}
"""The keys of the section."""
SETS = {
    "rows": Change(("data.rows=400",), refused="the training split has 320 rows, and had 256 up to step 9"),
    "shape": Change(
        ("data.shape=[2, 4]", "model.inputs.image=[B, 2, 4]", "model.flow.stem='Flatten() >> Linear(8, 16)'"),
        refused="2 tensors of the graph are not in",
    ),
    "classes": Change(("data.classes=3",), lambda job: int(job.train.split.tensors["label"].max()), 2),
    "spread": Change(("++data.spread=0.0",), lambda job: len(job.train.split.tensors["image"].unique(dim=0)), 4),
    "validation": Change(("++data.validation=0.2",), refused="the training split has 224 rows, and had 256"),
    "test": Change(("++data.test=0.2",), refused="the training split has 224 rows, and had 256"),
    "seed": Change(("++data.seed=5",), lambda job: len(job.train), 256),
}  # fmt: skip
"""The arguments of a data set."""


def test_every_key_of_the_data_is_decided():
    assert DATA.keys() == training.DataSection.model_fields.keys()
    assert SETS.keys() == set(arguments(builtin.synthetic))


@pytest.mark.parametrize("change", [*DATA.values(), *SETS.values()], ids=[*DATA, *SETS])
def test_the_data(folder, monkeypatch, change):
    if change is DATA["name"] or change is SETS["shape"]:
        with pytest.raises(FlowconfError, match=re.escape(change.refused)):
            resume(str(unfinished(folder, change.text)), change.words, Screen(StringIO()))
        return
    carried(change, folder, monkeypatch)


# the trainer

EFFECTS: dict[str, Any] = {
    "threads": 1, "clip": 0.5, "clip_value": 0.1, "accumulate": 2, "patience": 1, "evaluate_every": 4,
    "checkpoint_every": 2, "log_every": 3, "test": False, "timeout": 500,
    "progress": False, "tensorboard": False, "mode": "min", "find_nan": True,
    "channels_last": True, "report": True,
}  # fmt: skip
TRAINER = {
    **{key: Change((f"trainer.{key}={str(value).lower()}",), trainer(key), value) for key, value in EFFECTS.items()},
    "epochs": Change(("trainer.epochs=3",), total, (24, 24)),
    "steps": Change(("trainer.steps=12",), total, (12, 12)),
    "best": Change(("trainer.best=val/loss",), trainer("best"), "val/loss"),
    "ema": Change(
        ("trainer.ema=0.9",), lambda job: len(job.averages.values), 4,
        anew="averages start from the current weights for `stem.weight`",
    ),
    "precision": Change(
        ("trainer.precision=fp16",), lambda job: job.precision.scaler.get_scale(), 2.0**16,
        anew="the loss scale starts fresh",
    ),
    "deterministic": Change(
        ("trainer.deterministic=true",), lambda job: torch.are_deterministic_algorithms_enabled(), True
    ),
    "compile": Change(("trainer.compile=true",), lambda job: hasattr(job.active.view, "_orig_mod"), True),
    "profile": Change(("trainer.profile={wait: 11, warmup: 1, active: 1}",), lambda job: job.config.training.trainer
                      .profile.wait, 11),
    "keep": Change(("trainer.keep={best: 2}",), lambda job: job.config.training.trainer.keep.best, 2),
    "statistics": Change(
        ("trainer.statistics={every: 2, of: [weight]}",), lambda job: job.config.training.trainer.statistics.every, 2
    ),
    "runs": Change(("trainer.runs=elsewhere",), refused="`trainer.runs` cannot be changed when resuming"),
}  # fmt: skip
STARTS = {
    "devices": (("trainer.devices=2",), 2),
    "strategy": (("trainer.devices=2", "trainer.strategy=fsdp"), 2),
    "shares": (("trainer.devices=2", "trainer.shares=[3, 1]"), 2),
    "restarts": (("trainer.devices=2", "trainer.restarts=0"), 2),
    "nodes": (("trainer.nodes=2", "trainer.rendezvous=a:1"), 1),
    "rendezvous": (("trainer.nodes=2", "trainer.rendezvous=b:1"), 1),
}
"""Keys that say which processes are started."""


def test_every_key_of_the_trainer_is_decided():
    assert {*TRAINER, *STARTS} == training.TrainerSection.model_fields.keys()


QUIET = pytest.mark.filterwarnings("ignore::DeprecationWarning")
SLOW = [
    pytest.param(TRAINER[key], id=key, marks=[pytest.mark.slow, QUIET]) for key in ("compile", "find_nan", "profile")
]


@pytest.mark.parametrize(
    "change", [*(pytest.param(change, id=key) for key, change in TRAINER.items() if key not in
                 ("compile", "find_nan", "profile")), *SLOW]
)  # fmt: skip
def test_the_trainer(folder, monkeypatch, change):
    carried(change, folder, monkeypatch)


@pytest.mark.parametrize("key", STARTS)
def test_the_processes_that_are_started(folder, monkeypatch, key):
    words, processes = STARTS[key]
    run = unfinished(folder, TEXT)
    started = []
    monkeypatch.setattr(command.launch, "start", lambda task, count: started.append((task, count)))
    resume(str(run), words, Screen(StringIO()))
    ((task, count),) = started
    assert count == processes
    changed = getattr(task.walk.checked.training.trainer, key)
    assert changed != training.TrainerSection.model_fields[key].default
    assert task.overrides == words


def test_shares_that_were_measured_give_way_to_those_of_the_config():
    from flowconf.train.runs.saved import SavedShares
    from flowconf.train.team.distributed import Team

    measured = SavedShares(measured=[1.0, 9.0], measured_from=0)
    for measures, expected in ((False, (3.0, 1.0)), (True, (1.0, 9.0))):
        team = Team("cpu", 0, 2, (3.0, 1.0), measures)
        team.restore_shares(measured)
        assert team.shares.at(5) == expected


# the rest


OTHERS = {
    "seed": Change(("seed=3",), refused="`seed` cannot be changed"),
    "init_from": Change(("init_from=elsewhere.safetensors",), refused="`init_from` cannot be changed"),
    "checkpoint": Change(
        ("model.flow.stem={through: 'Linear(8, 16)', checkpoint: other.safetensors}",),
        refused="`model.flow.stem.checkpoint` cannot be changed",
    ),
    "init": Change(
        ("model.flow.stem={through: 'Linear(8, 16)', init: {bias: 1.0}}",),
        refused="`model.flow.stem.init` cannot be changed",
    ),
    "fewer steps than there were": Change(
        ("trainer.epochs=1",), refused="`trainer.epochs` ends the run after step 8, but 9 steps are done"
    ),
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_what_a_run_was_built_on(folder, monkeypatch, change):
    carried(change, folder, monkeypatch)


def test_all_of_it_may_change_before_the_first_checkpoint(folder):
    killed(lambda: folder.train(text=TEXT), 2)
    resume(str(folder.runs()[0]), ["seed=3", "data.batch_size=16", "optimizer.name=sgd"], Screen(folder.said))
    assert max(line["step"] for line in folder.run(folder.runs()[0]).log) == 32


def test_terms_of_the_loss_that_are_other_ones(folder):
    run = unfinished(folder, TEXT)
    words = ["+loss.more={fn: cross_entropy, input: logits, target: label, weight: 0.5}"]
    resume(str(run), words, Screen(folder.said))
    assert "losses since the last log line are not logged" in folder.said.getvalue()
