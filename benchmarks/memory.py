"""Whether the memory of a training step is known before it: the estimate of `train/insight/memory.py` against the step.

    python benchmarks/memory.py [--only NAME] [--device cuda] [--out FOLDER]

Each model takes three steps with AdamW and the mean square of its output as the loss. What the second and third step
allocate is measured by torch's profiler, or by the caching allocator of a device, and added to the weights, the
optimizer's state and the batch. The estimate runs the step on fake tensors. It stops with an error if one is off
by more than `LIMIT`. The same step is measured by hand, of the twin in `by_hand.py` or
`by_hand_more.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import by_hand
import by_hand_more
import torch
from table import Table
from torch import Tensor, nn, optim
from torch.profiler import ProfilerActivity, profile

import flowconf
from flowconf.graph.build import build_graph, check_shapes
from flowconf.graph.shapes.fake_values import faked
from flowconf.report import bytes_in_words
from flowconf.train.insight.memory import StepMemory, nbytes, rehearsed

MODELS = Path(__file__).parent / "models"
LIMIT = 0.15


@dataclass(frozen=True)
class Case:
    """A model, its twin by hand, its batch, and the shape of one row of its input; of tokens, those up to `tokens`."""

    name: str
    twin: Callable[[], nn.Module]
    rows: int
    shape: tuple[int, ...]
    tokens: int = 0
    parameters: Mapping[str, int] = field(default_factory=dict)


CASES = (
    Case("digits_mlp", by_hand_more.digits_mlp, 256, (1, 28, 28)),
    Case("mlp", by_hand.Mlp, 64, (1024,)),
    Case("residual_tower", by_hand.ResidualTower, 64, (1024,)),
    Case("lenet", by_hand_more.lenet, 64, (1, 28, 28)),
    Case("convnet", by_hand_more.convnet, 8, (3, 64, 64)),
    Case("conv_autoenc", by_hand_more.conv_autoenc, 8, (3, 64, 64)),
    Case("resnet20", by_hand_more.ResNet20, 32, (3, 32, 32)),
    Case("lstm_seq", by_hand_more.LstmSeq, 8, (50, 256)),
    Case("gru_seq", by_hand_more.GruSeq, 8, (50, 256)),
    Case("gpt_nano", by_hand_more.GptNano, 8, (128,), tokens=65),
    Case("transformer", by_hand_more.Transformer, 2, (128,), tokens=8192),
)


def batch_of(case: Case, device: torch.device) -> Tensor:
    shape = (case.rows, *case.shape)
    return torch.randint(case.tokens, shape, device=device) if case.tokens else torch.rand(shape, device=device)


def loss_of(graph: nn.Module, batch: Tensor) -> Tensor:
    found = graph(batch)
    outputs = list(found.values()) if isinstance(found, Mapping) else [found]
    return torch.stack([one.square().mean() for one in outputs]).sum()


def estimated(case: Case, device: torch.device) -> StepMemory:
    """The step on fake tensors."""
    plan = flowconf.plan(MODELS / f"{case.name}.yaml")
    inference = check_shapes(plan)
    with faked(grad=True):
        with torch.device(device):
            graph = build_graph(plan, inference)
        batch = batch_of(case, device)
        found = rehearsed(graph, [batch], lambda: loss_of(graph, batch))
        learned = list(graph.parameters())
        gradients = nbytes(one.grad for one in learned if one.grad is not None)
        weights = nbytes([*learned, *graph.buffers()])
        return StepMemory(case.rows, weights, gradients, 2 * nbytes(learned), 0, nbytes([batch]), found)


def measured(case: Case, graph: nn.Module, device: torch.device) -> int:
    """The most bytes of a step that has gradients of the step before."""
    optimizer = optim.AdamW(graph.parameters(), fused=True)
    batch = batch_of(case, device)

    def step() -> None:
        loss = loss_of(graph, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step()
    optimizer.zero_grad()  # the profiler does not see that memory is freed which it has not seen allocated
    state = [value for one in optimizer.state.values() for value in one.values() if isinstance(value, Tensor)]
    before = nbytes([*graph.parameters(), *graph.buffers(), *state, batch])
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        there = torch.cuda.memory_allocated()
        step()
        step()
        return before + torch.cuda.max_memory_allocated() - there
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
        step()
    now = most = 0
    assert profiled.profiler is not None
    for event in sorted(profiled.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return before + most


def main() -> None:
    parser = argparse.ArgumentParser(description="Estimated and measured memory of a training step.")
    parser.add_argument("--only", help="only the model of this name")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="the folder for `memory.json`")
    given = parser.parse_args()
    torch.set_num_threads(1)
    device, worst = torch.device(given.device), 0.0
    about = (
        "The peak memory of a training step with AdamW, in which the gradients of the previous step are replaced: the "
        "estimate of `flowconf summary --memory`, the measured step of the built graph, and the same step by hand."
    )
    columns = ["model", "rows", "estimated", "measured", "by hand", "estimated to measured", "measured to by hand"]
    table = Table("memory", "The memory of a step", about, columns)
    for case in CASES:
        if given.only not in (None, case.name):
            continue
        peak = estimated(case, device).peak
        real = measured(case, flowconf.build(MODELS / f"{case.name}.yaml").to(device), device)
        hand = measured(case, case.twin().to(device), device)
        worst = max(worst, abs(peak / real - 1))
        shown = map(bytes_in_words, (peak, real, hand))
        table.add(case.name, f"{case.rows}", *shown, f"{peak / real:.2f}", f"{real / hand:.2f}")
    table.save(given.out)
    if worst > LIMIT:
        raise SystemExit(f"an estimate is off by {worst:.0%}")


if __name__ == "__main__":
    main()
