"""What a built graph costs: its time over that of the same model written by hand (`by_hand.py`).

    python benchmarks/overhead.py [--rounds 60] [--small] [--only NAME] [--device cuda]

Both have the same weights, and must give the same bits; on a device, whose sums have no order, nearly the same. They
run in turns on one thread: each round times the graph, the model by hand and a second copy of it, in random order, for
a few milliseconds each. A row shows the median of the rounds' ratios; what the second copy shows is noise. The time is
that of `clock.py`.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import by_hand
import torch
from clock import now
from torch import Tensor, nn

import flowconf

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "benchmarks" / "models"
LIMIT = 1.03
SLICE = 0.004
"""Seconds of one measurement; a model that takes longer runs once."""


@dataclass(frozen=True)
class Case:
    """A graph, its twin, and the sizes at which they are compared."""

    name: str
    file: Path
    twin: Callable[..., nn.Module]
    shape: tuple[int | str, ...]
    """Of one row of the input; a text is the name of a parameter."""
    full: Mapping[str, int]
    """The parameters, and `batch`."""
    small: Mapping[str, int]
    view: tuple[str, ...] = ()
    """What the trainer asks the graph for; the graph itself when empty."""


LETTER = ROOT / "configs" / "graph" / "fbrl" / "letter.yaml"
WORD = ROOT / "configs" / "fbrl_word.yaml"
LOSSES = ("logits", "reproduction", "scan.at", "read.at")
CASES = (
    Case("letter", LETTER, by_hand.LetterReader, (1, 32, 32), {"batch": 96}, {"width": 32, "batch": 4}),
    Case(
        "letter, training",
        LETTER,
        by_hand.LetterTraining,
        (1, 32, 32),
        {"batch": 96},
        {"width": 32, "batch": 4},
        LOSSES,
    ),
    Case("word", WORD, by_hand.WordReader, (1, 32, 96), {"batch": 48}, {"width": 32, "batch": 2}),
    Case(
        "word, training",
        WORD,
        by_hand.WordTraining,
        (1, 32, 96),
        {"batch": 48},
        {"width": 32, "batch": 2},
        ("length", "where"),
    ),
    Case(
        "residual tower",
        MODELS / "residual_tower.yaml",
        by_hand.ResidualTower,
        ("width",),
        {"width": 1024, "batch": 256},
        {"width": 32, "batch": 8},
    ),
    Case(
        "gated routing",
        MODELS / "gated_routing.yaml",
        by_hand.GatedRouting,
        ("width",),
        {"width": 512, "batch": 256},
        {"width": 32, "batch": 8},
    ),
    Case(
        "iterative refine",
        MODELS / "iterative_refine.yaml",
        by_hand.IterativeRefine,
        ("width",),
        {"width": 1024, "batch": 256},
        {"width": 32, "batch": 8},
    ),
    Case(
        "mlp",
        MODELS / "mlp.yaml",
        by_hand.Mlp,
        ("width",),
        {"width": 1024, "hidden": 2048, "batch": 256},
        {"width": 32, "hidden": 64, "batch": 8},
    ),
)

Run = Callable[[], object]


def models(case: Case, sizes: Mapping[str, int], device: torch.device) -> tuple[list[nn.Module], Tensor]:
    """The graph, its twin, a copy of the twin, all with the same weights; and an input."""
    params = {name: value for name, value in sizes.items() if name != "batch"}
    prefix = "model." if case.file == WORD else ""
    overrides = [f"{prefix}params.{name}={value}" for name, value in params.items()]
    graph = flowconf.build(case.file, overrides, weights=False)
    twins = [case.twin(**params) for _ in range(2)]
    for twin in twins:
        twin.load_state_dict(graph.state_dict())
    shape = (params[size] if isinstance(size, str) else size for size in case.shape)
    image = torch.rand(sizes["batch"], *shape, device=device)
    graph.to(device)
    return [graph.view(case.view) if case.view else graph, *(twin.to(device) for twin in twins)], image


def tensors(output: Tensor | Mapping[str, Tensor]) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else list(output.values())


def forward(model: nn.Module, image: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return tensors(model(image))


def forward_backward(model: nn.Module, image: Tensor) -> list[Tensor]:
    """Gradients of the sum of all outputs."""
    output = tensors(model(image))
    model.zero_grad()
    torch.autograd.backward(output, [torch.ones_like(value) for value in output])
    return output


MODES = {"forward": forward, "forward + backward": forward_backward}


def check(models: list[nn.Module], image: Tensor) -> None:
    """Stop unless all models give the same bits, gradients included."""
    same = torch.equal if image.device.type == "cpu" else partial(torch.allclose, rtol=1e-3, atol=1e-4)
    values = [forward_backward(model, image) for model in models]
    gradients = [dict(model.named_parameters()) for model in models]
    for other in (1, 2):
        if not all(same(a, b) for a, b in zip(values[0], values[other], strict=True)):
            raise SystemExit("the outputs differ")
        for name, mine in gradients[0].items():
            theirs = gradients[other][name].grad
            if mine.grad is not theirs and (mine.grad is None or theirs is None or not same(mine.grad, theirs)):
                raise SystemExit(f"the gradients of `{name}` differ")


def seconds(run: Run, times: int, device: torch.device) -> float:
    """Seconds of one run, from `times` of them."""
    began = now(device)
    for _ in range(times):
        run()
    return (now(device) - began) / times


def rounds(runs: list[Run], count: int, device: torch.device) -> Iterator[list[float]]:
    """Times of all runs in each of `count` rounds, in random order within the round."""
    times = max(1, round(SLICE / min(seconds(runs[1], 3, device) for _ in range(3))))
    order = list(range(len(runs)))
    for _ in range(count):
        random.shuffle(order)
        took = {which: seconds(runs[which], times, device) for which in order}
        yield [took[which] for which in range(len(runs))]


def measure(case: Case, size: str, count: int, copies: int, device: torch.device) -> None:
    """Two rows of the table. The models are made anew several times: where their memory lies matters too."""
    sizes = case.full if size == "full" else case.small
    found: dict[str, list[list[float]]] = {mode: [] for mode in MODES}
    for _ in range(copies):
        made, image = models(case, sizes, device)
        check(made, image)
        for mode, call in MODES.items():
            runs = [partial(call, model, image) for model in made]
            gc.collect()
            gc.disable()
            found[mode] += rounds(runs, -(-count // copies), device)
            gc.enable()
    for mode, rows in found.items():
        by_hand_us = 1e6 * statistics.median(row[1] for row in rows)
        ratio, noise = (statistics.median(row[which] / row[1] for row in rows) for which in (0, 2))
        mark = "" if ratio <= LIMIT else f"  above {LIMIT}"
        print(f"{case.name:18}{size:7}{mode:20}{by_hand_us:12,.0f} us{ratio:9.3f}{noise:9.3f}{mark}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="what a built graph costs over the same model written by hand")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--copies", type=int, default=3, help="how often the models are made anew")
    parser.add_argument("--small", action="store_true", help="only the small sizes")
    parser.add_argument("--device", type=torch.device, default="cpu")
    parser.add_argument("--only", default="", help="only the models whose name starts so")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{'':45}{'by hand':>15}{'graph':>9}{'noise':>9}")
    for case in CASES:
        for size in ("small", "full")[: 1 if options.small else 2]:
            if case.name.startswith(options.only):
                measure(case, size, options.rounds, options.copies, options.device)


if __name__ == "__main__":
    main()
