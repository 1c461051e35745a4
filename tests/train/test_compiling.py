"""Compiled graphs: what is reported of their breaks, and the numbers of the graph as it is written."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from flowconf.api import load
from flowconf.language import registry
from flowconf.train.compiling import mode_of
from flowconf.train.insight.compile_report import report
from flowconf.train.prepare import prepare
from tests.train.conftest import TINY, weights
from tests.train.teams import team

BROKEN = """
model:
  inputs: {image: [B, 8]}
  flow:
    stem: Linear(8, 16)
    norm: BatchNorm1d(16)
    inner:
      graph:
        flow:
          one: Linear(16, 16)
          looks: Looks
    ends: {loop: "Linear(16, 16)", until: ThresholdHalt(100), max: 2}
    sent:
      switch: {a: "Linear(16, 16)", b: Tanh}
      router: FixedSelector(0)
    logits: Linear(16, 4)
    aside: {from: stem, loop: Tanh, until: ThresholdHalt(1), max: 3}
data: {name: synthetic, shape: [8], classes: 4, rows: 340, batch_size: 32}
loss:
  label: {fn: cross_entropy, input: logits, target: label}
trainer: {steps: 10, devices: cpu, compile: true}
"""


class Looks(nn.Module):
    """Looks at a value from Python."""

    def forward(self, x):
        return x + 1 if x.sum().item() > 1e9 else x


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
"""The compiler's own imports warn."""


@pytest.fixture(autouse=True)
def modules(monkeypatch):
    monkeypatch.setattr(registry.modules, "registered", {**registry.modules.registered, "Looks": Looks})


def test_breaks_are_reported_by_path_with_their_place_and_leave_no_trace(folder, caplog):
    job = prepare(load(folder.write(BROKEN)), folder.path)
    before = {name: tensor.clone() for name, tensor in job.graph.state_dict().items()}
    state = torch.get_rng_state()
    first, *notes = report(job)
    assert first.startswith("compiled   as ")
    assert first.endswith(" graphs, with graph breaks at")
    looks, ends, sent, sizes = (note.strip() for note in notes)
    assert looks.startswith("`inner.looks` (tiny.yaml:11:11): ")
    assert "test_compiling.py:" in looks
    assert ends == (
        "`ends` (tiny.yaml:12:5): data-dependent iterations; `times` without a condition has no graph break"
    )
    assert sent == (
        "`sent` (tiny.yaml:13:5): data-dependent routing; a `gate` runs all branches and has no graph break"
    )
    assert sizes == (
        "batches of 32, 16 rows: each size is compiled separately; `data.drop_last: true` drops the last one"
    )
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in job.graph.state_dict().items())
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_graph_without_breaks_is_one_piece(folder):
    job = prepare(load(folder.write(), ["trainer.compile=true"]), folder.path)
    assert report(job) == ["compiled   as 1 graph"]


@pytest.mark.parametrize(
    ("asked", "adds_up", "mode"),
    [
        (True, False, "default"),
        (True, True, "default"),
        ("reduce-overhead", False, "reduce-overhead"),
        ("reduce-overhead", True, "default"),
        ("max-autotune", True, "max-autotune-no-cudagraphs"),
    ],
)
def test_cuda_graphs_are_replayed_where_nothing_of_one_call_is_needed_in_the_next(asked, adds_up, mode):
    assert mode_of(asked, adds_up) == mode


def test_parts_of_several_sizes_are_reported(folder):
    words = ["trainer.compile=reduce-overhead", "trainer.accumulate=3"]
    job = prepare(load(folder.write(), words), folder.path)
    sizes, graphs = (line.strip() for line in report(job)[1:])
    assert sizes.startswith(
        "batches of 11, 10 rows: each size is compiled separately; `accumulate` does not divide them"
    )
    assert graphs == "without CUDA graphs: the run is on `cpu`"


def alike(first, second):
    for name, tensor in weights(first).items():
        torch.testing.assert_close(weights(second)[name], tensor, rtol=1e-4, atol=1e-5)


PLAIN = TINY.replace("    drop: Dropout(0.1)\n", "").replace("rows: 320", "rows: 330")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        [],
        ["trainer.accumulate=2", "trainer.ema=0.9", "+phases={first: {until: {step: 3}, freeze: stem}}"],
        ["trainer.precision=bf16"],
    ],
    ids=["plain", "parts, averages and phases", "bf16"],
)
def test_a_compiled_run_gives_the_numbers_of_the_graph_as_it_is_written(folder, words):
    plain, compiled = (folder.train(*words, f"trainer.compile={asked}", text=PLAIN) for asked in ("false", "true"))
    if words == ["trainer.precision=bf16"]:  # kernels that are fused round less often
        assert compiled.record["metrics"] == pytest.approx(plain.record["metrics"], rel=0.02)
    else:
        alike(plain, compiled)
    assert "compiled   as 1 graph" in folder.said.getvalue()


@pytest.mark.slow
def test_two_processes_compile_too(folder):
    alike(team(folder, PLAIN), team(folder, PLAIN, "trainer.compile=true"))
