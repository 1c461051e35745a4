"""The benchmarks stay in working order: each script's comparison of results runs, without its times."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

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
    monkeypatch.setattr(training, "tightest", lambda *_: (0.0, [0.0]))
    with pytest.raises(SystemExit, match="do not give the same losses"):
        training.check_losses(training.CASES[0], tmp_path, CPU)


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
