"""The benchmarks stay in working order: each script's comparison of results runs, without its times."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

HOME = Path("benchmarks").absolute()
sys.path.insert(0, str(HOME))
import overhead  # noqa: E402
import page  # noqa: E402
import table  # noqa: E402
import training  # noqa: E402

import flowconf  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def registered():
    flowconf.register_dataset(training.drawn)


QUICK = ("mlp", "gated_routing", "transformer")


@pytest.mark.parametrize(
    "case",
    [pytest.param(one, id=one.name, marks=() if one.name in QUICK else pytest.mark.slow) for one in training.CASES],
)
def test_the_loop_gives_the_losses_of_the_loop_by_hand(case, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "BATCHES", 4)
    training.check_losses(case, tmp_path, CPU)


def test_a_comparison_that_fails_is_no_result(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "BATCHES", 4)
    monkeypatch.setattr(training, "tightest", lambda *_: [0.0])
    with pytest.raises(SystemExit, match="do not give the same losses"):
        training.check_losses(training.CASES[0], tmp_path, CPU)


class Operations(TorchDispatchMode):
    """Counts the operations of torch within the block."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.counts[str(function)] += function.namespace == "aten"
        return function(*args, **(kwargs or {}))


def in_a_step(count, loop, case, folder):
    """What `count` counts in a step of a loop: the difference between a long and a short run, once caches are full."""
    found = []
    for steps in (8, 24, 8):
        config = training.config_of(case, folder, False, steps, CPU, ["trainer.log_every=1000"])
        found.append(count(partial(loop, case, config, folder, training.Timed(CPU))))
    return {name: times / 16 for name, times in (found[1] - found[2]).items()}


def operations(run):
    with Operations() as seen:
        run()
    return seen.counts


def calls(run):
    """How often each function of the package is called."""
    seen = Counter()

    def note(frame, event, argument):
        if event == "call" and "/flowconf/" in frame.f_code.co_filename:
            seen[f"{Path(frame.f_code.co_filename).name}: {frame.f_code.co_qualname}"] += 1

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return seen


@pytest.mark.parametrize("name", ["mlp", "gated_routing"])
def test_a_step_runs_no_operation_that_a_loop_by_hand_does_not_need(name, tmp_path):
    """The loop by hand splits the rows of an epoch at once, and detaches one loss, not a loss and its terms."""
    case = next(one for one in training.CASES if one.name == name)
    mine, theirs = (in_a_step(operations, loop, case, tmp_path) for loop in (training.ours, training.tightest))
    more = {kind: times - theirs.get(kind, 0) for kind, times in mine.items() if times > theirs.get(kind, 0)}
    assert sum(mine.values()) <= sum(theirs.values()) + 2, more


def test_a_step_calls_few_functions_of_the_package(tmp_path):
    """A call takes about a tenth of a microsecond, and three times that between the kernels of a step."""
    called = in_a_step(calls, training.ours, training.CASES[0], tmp_path)
    assert sum(called.values()) <= 76, called


@pytest.mark.slow
@pytest.mark.parametrize("case", overhead.CASES, ids=lambda case: case.name)
def test_the_graph_gives_the_bits_of_its_twin(case):
    overhead.check(*overhead.models(case, case.small, CPU))


def test_a_saved_table_becomes_a_section_of_the_page(tmp_path, monkeypatch):
    made = table.Table("start", "The start", "Seconds.", ["command", "seconds"])
    made.add("`check`", "1.5")
    made.save(tmp_path)
    monkeypatch.setattr(page, "PAGE", tmp_path / "benchmarks.md")
    monkeypatch.setattr(sys, "argv", ["page.py", str(tmp_path)])
    page.main()
    text = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert "## The start\n\nSeconds.\n\nMeasured on: " in text
    assert "| command | seconds |\n| --- | --- |\n| `check` | 1.5 |\n" in text


@pytest.mark.parametrize(
    "words",
    [
        "checkpoints.py --rounds 1 --width 64",
        pytest.param("memory.py --only digits_mlp", marks=pytest.mark.slow),
        pytest.param("data.py --rounds 1 --rows 256", marks=pytest.mark.slow),
        pytest.param("shares.py --steps 8", marks=pytest.mark.slow),
        pytest.param("commands.py --rounds 1 --most 40", marks=pytest.mark.slow),
    ],
)
def test_a_script_makes_its_table(words, tmp_path):
    script, *more = words.split()
    command = [sys.executable, str(HOME / script), *more, "--out", str(tmp_path)]
    subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(HOME.parent)})
    assert list(tmp_path.glob("*.json"))
