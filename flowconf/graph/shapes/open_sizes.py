"""Unknown sizes such as `H`: a graph that does not accept all values may accept multiples, or small values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from flowconf.graph.shapes.sizes import Sizes
from flowconf.graph.shapes.trial import Trial
from flowconf.language.open_size import parts
from flowconf.language.plan import GraphPlan

Run = Callable[[Sizes], Trial]
"""Runs a trial of a graph with given sizes."""

MULTIPLES = (64, 96, 80, 224)
"""Together they have the common factors of sizes that networks halve or split into patches."""
SMALL = (13, 7, 5)
"""For graphs with a maximum size, such as a number of learned positions."""
LARGE = 1009


def fitting(graph: GraphPlan, run_graph: Callable[[GraphPlan, Sizes], Trial], sizes: Sizes) -> Trial:
    """A trial with accepted sizes, with a note of their constraints; without any, the most likely trial."""
    run = partial(run_graph, graph)
    first = run(sizes)
    symbols = _open(graph, sizes)
    if not symbols or _fits_all(run, first, symbols):
        return first
    likeliest = None
    for multiple in MULTIPLES:
        chosen = dict.fromkeys(symbols, multiple)
        trial = run(sizes.at_multiples(chosen))
        if not _fails(trial):
            return _least_multiples(run, trial, chosen)
        likeliest = likeliest or trial
    if not _fails(first):
        return first
    for small in SMALL:
        trial = run(sizes.at(dict.fromkeys(symbols, small)))
        if not _fails(trial):
            return _largest(run, trial, dict.fromkeys(symbols, small))
    assert likeliest is not None
    return likeliest


def _open(graph: GraphPlan, sizes: Sizes) -> list[str]:
    """The symbols of the inputs that the data does not determine, except those of the batch size."""
    shapes = [given.shape for given in graph.inputs if given.shape]
    found = [parts(size)[1] for shape in shapes for size in shape[1:] if isinstance(size, str)]
    rows = {shape[0] for shape in shapes}
    return [symbol for symbol in dict.fromkeys(found) if symbol not in rows and symbol not in sizes.known]


def _fails(trial: Trial) -> bool:
    return bool(trial.result.reporter.errors)


def _fits_all(run: Run, trial: Trial, symbols: Sequence[str]) -> bool:
    """Whether a trial has accepted sizes, and its graph accepts others: one may happen to be divisible as needed."""
    return not _fails(trial) and not any(_fails(run(sizes)) for sizes in trial.sizes.others(symbols))


def _least_multiples(run: Run, fits: Trial, chosen: Mapping[str, int]) -> Trial:
    """The trial with the smallest accepted multiple of each symbol."""
    least = dict(chosen)
    for symbol, multiple in chosen.items():
        for smaller in [number for number in range(1, multiple) if multiple % number == 0]:
            trial = run(fits.sizes.at_multiples({**least, symbol: smaller}))
            if _fits_all(run, trial, [symbol]):
                least[symbol], fits = smaller, trial
                break
    numbers: dict[int, list[str]] = {}
    for symbol, multiple in least.items():
        if multiple > 1:
            numbers.setdefault(multiple, []).append(symbol)
    for number, symbols in numbers.items():
        must = f"must be multiples of {number}" if len(symbols) > 1 else f"must be a multiple of {number}"
        fits.result.reporter.notes.append(f"{_listed(symbols)} {must}")
    return fits


def _largest(run: Run, fits: Trial, chosen: Mapping[str, int]) -> Trial:
    """The trial with small sizes, and a note of the largest accepted size of each symbol."""
    for symbol, small in chosen.items():
        fitting_size, failing = small, LARGE
        while failing - fitting_size > 1:
            middle = (fitting_size + failing) // 2
            if _fails(run(fits.sizes.at({**chosen, symbol: middle}))):
                failing = middle
            else:
                fitting_size = middle
        if failing < LARGE:
            fits.result.reporter.notes.append(f"`{symbol}` must be at most {fitting_size}")
    return fits


def _listed(symbols: list[str]) -> str:
    return " and ".join([", ".join(f"`{symbol}`" for symbol in symbols[:-1]), f"`{symbols[-1]}`"][not symbols[1:] :])
