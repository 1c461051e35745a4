"""Unknown sizes such as `H`: a graph that does not accept all values may accept some, such as multiples of 16.

A graph is tried with sizes of several forms. The form with which it fits is its condition, which is noted; with none of
them, the graph is refused.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from flowconf.graph.shapes.sizes import Sizes
from flowconf.graph.shapes.trial import Trial
from flowconf.language.open_size import parts
from flowconf.language.plan import GraphPlan
from flowconf.report import Label, Place, joined

Run = Callable[[Sizes], Trial]
"""Runs a trial of a graph with given sizes."""
Form = tuple[int, int]
"""The sizes `step * k + offset`."""

MULTIPLES = (64, 96, 80, 224)
"""Together they have the common factors of sizes that networks halve or split into patches."""
STEPS = (2, 3, 4, 8, 16, 32)
"""Steps of sizes with an offset: those of networks whose layers do not pad."""
EXAMPLES = (4, 8, 16, 32, 64, 128, 256)
"""Sizes to try; the first one that does not fit is reported as an example."""
COUNTS = (131, 132)
"""How often a step is contained in a size with an offset: a form has to fit with both."""
FEW = 13
"""Forms that are tried for one symbol alone: those with steps up to 8."""
SMALL = (13, 7, 5)
"""For graphs with a maximum size, such as a number of learned positions."""
LARGE = 1009
MOST_CALLS = 1500
"""Steps that are run to find a form with an offset, in all trials together."""
EVEN = 960
"""A number with the common factors of sizes, which primes do not have: a graph may fit odd sizes only."""


def fitting(graph: GraphPlan, run_graph: Callable[[GraphPlan, Sizes], Trial], sizes: Sizes) -> Trial:
    """A trial with accepted sizes, with a note of their constraints; without any, the most likely trial."""
    search = _Search(graph, lambda sizes: run_graph(graph, sizes))
    first = search.run(sizes)
    symbols = _open(graph, sizes)
    search.others = _others(sizes)
    found = first
    if symbols and not (search.fits_all(first, symbols) and search.fits(search.others)):
        found = search.fitting(first, symbols, sizes)
    if not _fails(found) and found.result.holes:
        search.refuse_holes(found)
    return found


@dataclass
class _Search:
    """Looks for sizes with which a graph fits."""

    graph: GraphPlan
    run: Run
    others: Sizes | None = None
    """Other sizes with which the graph fits too, if there are any."""

    def fits(self, *sizes: Sizes) -> bool:
        return not any(_fails(self.run(some)) for some in sizes)

    def fits_all(self, trial: Trial, symbols: Sequence[str]) -> bool:
        """Whether a graph accepts the sizes of a trial, and others: one may happen to be divisible as needed."""
        return not _fails(trial) and self.fits(*trial.sizes.others(symbols))

    def fitting(self, first: Trial, symbols: Sequence[str], sizes: Sizes) -> Trial:
        """A trial that fits; without any, the most likely one."""
        likeliest = None
        for multiple in MULTIPLES:
            chosen = dict.fromkeys(symbols, multiple)
            trial = self.run(sizes.at_multiples(chosen))
            if not _fails(trial):
                return self.least_multiples(trial, chosen)
            likeliest = likeliest or trial
        other = self.run(_others(sizes))
        if {one.of_reader for one in first.misfits} & {one.of_reader for one in other.misfits}:
            return likeliest or first  # the same values do not fit, whatever the unknown sizes are
        if likeliest is not None and self.has_other_errors(likeliest, symbols, sizes):
            return self.with_example(likeliest, symbols, sizes)
        for small in SMALL:
            chosen, *smaller = (dict.fromkeys(symbols, size) for size in (small, small - 1, small // 2))
            trial = self.run(sizes.at(chosen))
            if not _fails(trial) and self.fits(*map(sizes.at, smaller)):
                return self.largest(trial, chosen)
        is_fixed = bool(_expected(first) & _expected(other))
        found = self.exact(symbols, sizes) if is_fixed else self.with_offset(symbols, sizes)
        return found or self.with_example(likeliest or other, symbols, sizes)

    def has_other_errors(self, fails: Trial, symbols: Sequence[str], sizes: Sizes) -> bool:
        """Whether a trial with multiples has errors that do not depend on them: equal with numbers for the symbols."""
        numbers = self.run(Sizes(known={**sizes.known, **dict.fromkeys(symbols, MULTIPLES[0])}))
        return not _errors(fails).isdisjoint(_errors(numbers))

    def with_example(self, fails: Trial, symbols: Sequence[str], sizes: Sizes) -> Trial:
        """The trial, with the same mistake at the smallest sizes that make it."""
        diagnostics = fails.result.reporter.diagnostics
        at, error = next((number, each) for number, each in enumerate(diagnostics) if each.severity == "error")
        for small in EXAMPLES:
            trial = self.run(Sizes(known={**sizes.known, **dict.fromkeys(symbols, small)}))
            errors = trial.result.reporter.errors
            same = [
                each for each in errors if (each.code, each.path, each.place) == (error.code, error.path, error.place)
            ]
            if same and same[0].message == error.message:
                break  # it has nothing to do with these sizes
            if same:
                note = Label(f"at {small} for {joined(symbols)}: {same[0].message}", Place())
                diagnostics[at] = replace(error, labels=(*error.labels, note))
                break
        return fails

    def least_multiples(self, fits: Trial, chosen: Mapping[str, int]) -> Trial:
        """The trial with the smallest accepted multiple of each symbol, and a note of them."""
        least = dict(chosen)
        for symbol, multiple in chosen.items():
            for smaller in [number for number in range(1, multiple) if multiple % number == 0]:
                trial = self.run(fits.sizes.at_multiples({**least, symbol: smaller}))
                if self.fits_all(trial, [symbol]):
                    least[symbol], fits = smaller, trial
                    break
        numbers: dict[int, list[str]] = {}
        for symbol, multiple in least.items():
            if multiple > 1:
                numbers.setdefault(multiple, []).append(symbol)
        self.others = _others(fits.sizes)
        fits.result.multiples = {symbol: number for symbol, number in least.items() if number > 1}
        for number, symbols in numbers.items():
            must = f"must be multiples of {number}" if len(symbols) > 1 else f"must be a multiple of {number}"
            _note(fits, f"{joined(symbols)} {must}")
        return fits

    def largest(self, fits: Trial, chosen: Mapping[str, int]) -> Trial:
        """The trial with small sizes, and a note of the largest accepted size of each symbol."""
        self.others = fits.sizes.at({symbol: small - 1 for symbol, small in chosen.items()})
        for symbol, small in chosen.items():
            larger = range(small + 1, LARGE)
            fitting_count = bisect_left(
                larger, True, key=lambda size: self.fails_at(fits.sizes, {**chosen, symbol: size})
            )
            if fitting_count < len(larger):
                _note(fits, f"`{symbol}` must be at most {small + fitting_count}")
        return fits

    def with_offset(self, symbols: Sequence[str], sizes: Sizes) -> Trial | None:
        """A trial with sizes such as `4 * k + 1`, and a note of them; None if none of the forms fits.

        The symbols have the same form, or only one of them has an offset.
        """
        most = max(1, MOST_CALLS // max(1, len(self.graph.steps)))
        for forms in islice(_with_offsets(symbols), most):
            if self.fits(*_of(sizes, forms)):
                return self.least_offsets(forms, sizes)
        return None

    def least_offsets(self, forms: dict[str, Form], sizes: Sizes) -> Trial:
        """A trial with the least restrictive form of each symbol, and a note of them and of the smallest sizes."""
        for symbol, (step, offset) in list(forms.items()):
            for weaker in [number for number in range(1, step) if step % number == 0]:
                tried = {**forms, symbol: (weaker, offset % weaker)}
                if self.fits(*_of(sizes, tried)):
                    forms = tried
                    break
        chosen, self.others = _of(sizes, forms)
        fits = self.run(chosen)
        by_form: dict[Form, list[str]] = {}
        for symbol, form in forms.items():
            if form[0] > 1:
                by_form.setdefault(form, []).append(symbol)
        for (step, offset), named in by_form.items():
            smallest = self.smallest(forms, sizes, named)
            fits.result.offsets |= dict.fromkeys(named if offset else (), smallest)
            _note(fits, f"{joined(named)} must be {step} * k{f' + {offset}' if offset else ''}, at least {smallest}")
        return fits

    def smallest(self, forms: Mapping[str, Form], sizes: Sizes, named: Sequence[str]) -> int:
        """The smallest size of the form of some symbols, where the others are large."""
        step, offset = forms[named[0]]
        tried = range(offset or step, step * COUNTS[0] + offset, step)
        large = _numbers(forms, COUNTS[0])

        def fits(size: int) -> bool:
            return not self.fails_at(sizes, large | dict.fromkeys(named, size))

        return tried.start + step * bisect_left(tried, True, key=fits)

    def exact(self, symbols: Sequence[str], sizes: Sizes) -> Trial | None:
        """A trial with the only sizes that fit, the same for all symbols, and a note of them; None without any."""
        low, high = 0, LARGE
        while high - low > 1:
            middle = (low + high) // 2
            trial = self.run(sizes.at(dict.fromkeys(symbols, middle)))
            if not _fails(trial):
                return self.range_of(trial, symbols, sizes, middle)
            if _is_too_large(trial):
                high = middle
            else:
                low = middle
        return None

    def range_of(self, fits: Trial, symbols: Sequence[str], sizes: Sizes, size: int) -> Trial:
        """The trial, with a note of the range of sizes around one that fits."""
        needed = [symbol for symbol in symbols if self.fails_at(sizes, {**dict.fromkeys(symbols, size), symbol: LARGE})]
        ends = []
        for direction in (-1, 1):
            end = size
            while 1 <= end + direction <= LARGE and not self.fails_at(sizes, dict.fromkeys(symbols, end + direction)):
                end += direction
            ends.append(end)
        self.others = None
        least, most = ends
        between = f"{least}" if least == most else f"{least} or {most}" if most == least + 1 else f"{least} to {most}"
        both = f" must{' both' if len(needed) == 2 else ' all' if needed[2:] else ''} be {between}"
        _note(fits, f"{joined(needed or list(symbols))}{both}")
        return fits

    def fails_at(self, sizes: Sizes, numbers: Mapping[str, int]) -> bool:
        return _fails(self.run(sizes.at(numbers)))

    def refuse_holes(self, found: Trial) -> None:
        """Report each `_` that was filled with a size that depends on an unknown one."""
        symbols = list(found.sizes.symbols)
        if not symbols or self.others is None:
            return
        other = self.run(self.others).result.holes
        own = found.result.holes
        for path, call in found.result.filled.items():
            if own[path] == other.get(path, own[path]):
                continue
            alone = {symbol: self.run(found.sizes.at({symbol: self.others.symbols[symbol]})) for symbol in symbols}
            on = [symbol for symbol, trial in alone.items() if trial.result.holes.get(path) != own[path]]
            message = (
                f"`_` in `{call}` cannot be inferred: it depends on {joined(on or symbols)}, which may have any size"
            )
            advice = "declare the size, or make this input independent of it, such as with `AdaptiveAvgPool2d(1)`"
            found.result.reporter.error("FC0204", message, call.place, path=path, advice=advice)


def _of(sizes: Sizes, forms: Mapping[str, Form]) -> tuple[Sizes, Sizes]:
    """Two sizes of each form, with consecutive counts: so that a form with a larger step does not suffice."""
    first, second = (sizes.at(_numbers(forms, count)) for count in COUNTS)
    return first, second


def _numbers(forms: Mapping[str, Form], count: int) -> dict[str, int]:
    """A size of each form, different for each symbol."""
    return {
        symbol: step * (count + 2 * number) + offset for number, (symbol, (step, offset)) in enumerate(forms.items())
    }


def _with_offsets(symbols: Sequence[str]) -> Iterator[dict[str, Form]]:
    """The forms to try, those with small steps first."""
    forms = [(step, offset) for step in STEPS for offset in range(1, step)]
    for form in forms:
        yield dict.fromkeys(symbols, form)
    for symbol in symbols if len(symbols) > 1 else ():
        for form in forms[:FEW]:
            yield {**dict.fromkeys(symbols, (64, 0)), symbol: form}


def _others(sizes: Sizes) -> Sizes:
    """Other numbers for the symbols: what differs from a trial with primes depends on unknown sizes."""
    others = {symbol: EVEN * (number + 2) for number, symbol in enumerate(sizes.symbols)}
    return sizes.at({symbol: number * sizes.multiples.get(symbol, 1) for symbol, number in others.items()})


def _errors(trial: Trial) -> set[tuple[Place, str, str, tuple[Label, ...]]]:
    """The errors of a trial, with the sizes that they mention."""
    return {(one.place, one.path, one.message, one.labels) for one in trial.result.reporter.errors}


def _expected(trial: Trial) -> set[tuple[str, int]]:
    """The readers of values that do not fit, with the fixed size that they expect."""
    return {(one.reader, one.expected) for one in trial.misfits if isinstance(one.expected, int)}


def _is_too_large(trial: Trial) -> bool:
    """Whether the first value that does not fit is too large; a graph that fails otherwise is given too little."""
    first = next((one for one in trial.misfits if isinstance(one.expected, int)), None)
    return first is not None and isinstance(first.expected, int) and first.actual > first.expected


def _open(graph: GraphPlan, sizes: Sizes) -> list[str]:
    """The symbols of the inputs that the data does not determine, except those of the batch size."""
    shapes = [given.shape for given in graph.inputs if given.shape]
    found = [parts(size)[1] for shape in shapes for size in shape[1:] if isinstance(size, str)]
    rows = {shape[0] for shape in shapes}
    return [symbol for symbol in dict.fromkeys(found) if symbol not in rows and symbol not in sizes.known]


def _fails(trial: Trial) -> bool:
    return bool(trial.result.reporter.errors)


def _note(trial: Trial, note: str) -> None:
    trial.result.reporter.notes.append(note)
