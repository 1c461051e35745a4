"""The memory of a step before it is taken: against torch's own account of a real step, and the largest batch."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import flowconf
from flowconf.cli.main import main
from flowconf.graph.build import build_graph, check_shapes
from flowconf.graph.shapes.fake_values import faked
from flowconf.train.checks import road
from flowconf.train.commands.fit import bytes_of, largest_batch, memory_of
from flowconf.train.insight.memory import nbytes, rehearsed
from tests.train.conftest import TINY

ROOT = Path(__file__).parent.parent.parent
MODELS = ROOT / "benchmarks" / "models"


def saved(graph, batch):
    """The bytes that autograd keeps for the backward pass, besides the parameters and the batch."""
    there = {one.untyped_storage().data_ptr() for one in (*graph.parameters(), *graph.buffers(), batch)}
    kept: dict[int, tuple[Tensor, int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in there:
            kept[storage.data_ptr()] = (tensor, storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = graph(batch).square().mean()
    assert loss.requires_grad
    return sum(size for _, size in kept.values())


@pytest.mark.parametrize(
    ("name", "shape"), [("mlp", (16, 1024)), ("lenet", (32, 1, 28, 28)), ("resnet20", (8, 3, 32, 32))]
)
def test_what_is_kept_is_what_autograd_saves(name, shape):
    plan = flowconf.plan(MODELS / f"{name}.yaml")
    inference = check_shapes(plan)
    with faked(grad=True):
        graph, batch = build_graph(plan, inference), torch.rand(shape)
        found = rehearsed(graph, [batch], lambda: graph(batch).square().mean())
        gradients = nbytes(one.grad for one in graph.parameters())
    expected = saved(flowconf.build(MODELS / f"{name}.yaml"), torch.rand(shape))
    assert sum(found.kept.values()) == pytest.approx(expected, rel=0.02)
    assert gradients == sum(tensor.nbytes for tensor in flowconf.build(MODELS / f"{name}.yaml").parameters())
    assert found.forward >= sum(found.kept.values())


@pytest.fixture(scope="module")
def benchmark():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import memory
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return memory


@pytest.mark.slow
def test_every_model_of_the_benchmark_is_within_its_limit(benchmark):
    for case in benchmark.CASES:
        real = benchmark.measured(case, flowconf.build(MODELS / f"{case.name}.yaml"), torch.device("cpu"))
        assert benchmark.estimated(case, torch.device("cpu")).peak == pytest.approx(real, rel=benchmark.LIMIT), (
            case.name
        )


@pytest.mark.gpu
def test_every_model_of_the_benchmark_is_within_its_limit_on_a_device(benchmark):
    for case in benchmark.CASES:
        graph = flowconf.build(MODELS / f"{case.name}.yaml").to("cuda")
        real = benchmark.measured(case, graph, torch.device("cuda"))
        found = benchmark.estimated(case, torch.device("cuda")).peak
        assert found == pytest.approx(real, rel=benchmark.LIMIT), case.name


def estimate(folder, *words):
    walk = road.begin(folder.write(TINY), words, trained=True).to(road.END)
    return memory_of(walk.checked, walk.inference)


def test_the_parts_of_a_step(folder):
    found = estimate(folder, "trainer.ema=0.9")(32)
    weights = 4 * (8 * 16 + 16 + 16 * 4 + 4)
    assert (found.weights, found.gradients, found.averages) == (weights, weights, weights)
    assert weights * 2 <= found.optimizer <= weights * 2 + 64
    assert found.batch == 32 * (8 * 4 + 8)
    assert {"hidden", "drop"} <= found.found.kept.keys()


def test_parts_of_a_batch_and_short_numbers_need_less(folder):
    whole = estimate(folder)(1024)
    assert estimate(folder, "trainer.accumulate=4")(1024).kept < whole.kept / 3
    assert estimate(folder, "trainer.precision=bf16")(1024).kept < whole.kept
    assert estimate(folder, "+model.flow.stem.frozen=true")(1024).gradients < whole.gradients


@pytest.mark.parametrize("limit", [1_000, 10_000, 123_456, 10**8])
def test_the_largest_batch_fits_and_a_larger_one_does_not(limit):
    tried = []

    def peak(rows):
        tried.append(rows)
        return 900 + max(500, 40 * rows)

    rows = largest_batch(peak, limit)
    if limit < 1400:
        assert rows == 0
    else:
        assert peak(rows) <= limit < peak(int(rows * 1.03) + 2)
    assert len(tried) < 12


@pytest.mark.parametrize(("text", "size"), [("8GB", 8e9), ("500 MB", 5e8), ("1.5kB", 1500)])
def test_sizes(text, size):
    assert bytes_of(text) == size


def test_fit_proposes_a_batch_and_trains_nothing(folder, capsys):
    folder.write(TINY)
    assert main(["train", "tiny.yaml", "--fit", "1MB"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("memory     ")
    assert "for a step of 32 rows" in out[0]
    assert out[2].startswith("write `data.batch_size=")
    assert not (folder.path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["tiny.yaml", "--fit", "8G"], 2, "expected `auto` or a size such as `8GB`, got `8G`"),
        (["tiny.yaml", "--fit", "2kB"], 1, "a step of one row needs"),
        (["tiny.yaml", "-m", "--fit", "8GB"], 2, "requires a config, without -m and --resume"),
    ],
)
def test_what_cannot_fit_is_refused(folder, capsys, words, code, message):
    folder.write(TINY)
    assert main(["train", *words]) == code
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_summary_says_what_a_step_needs(folder, capsys):
    folder.write(TINY)
    assert main(["summary", "tiny.yaml", "--memory"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("memory     ") for line in lines) == 1
    assert lines[-1].startswith("kept       ")
