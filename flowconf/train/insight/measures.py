"""The cost of a step by path: computed from the profiler's events, summed over the graph, and shown as a table.

The profiler's events are nested, so all time of a step is attributed to its innermost event, and the rows sum up to
the whole step. An event of the forward pass belongs to the path that was being visited; an event of the backward pass
to the path that created the autograd node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

STEP, VISIT, PART = "training step", "step ", "part "
"""The prefixes of the profiler ranges of a whole step, a visit of a path, and a part outside of the graph."""
OUTSIDE = "~"
"""The prefix that distinguishes the names of parts outside of the graph from paths."""
NODE = "autograd::engine::evaluate_function: "
BACKWARD, LOSS, REST = "backward", "loss", "the rest"


@dataclass
class Cost:
    """Microseconds on CPU and device, allocated bytes, and floating-point operations."""

    cpu: float = 0.0
    device: float = 0.0
    memory: float = 0.0
    flops: float = 0.0

    def add(self, other: Cost, times: float = 1.0) -> None:
        self.cpu += other.cpu * times
        self.device += other.device * times
        self.memory += other.memory * times
        self.flops += other.flops * times


@dataclass
class Measure:
    """The cost of a path, or of a part outside of the graph; `forward` and `backward` include everything below it."""

    path: str
    calls: float = 0.0
    forward: Cost = field(default_factory=Cost)
    backward: Cost = field(default_factory=Cost)
    below: dict[str, Measure] = field(default_factory=dict)

    def at(self, path: str) -> Measure:
        """The measure of a path below this one, created if it does not exist; the order of creation is kept."""
        found = self
        for name in path.split(".") if path else ():
            inner = f"{found.path}.{name}" if found.path else name
            found = found.below.setdefault(name, Measure(inner))
        return found

    def total(self) -> Cost:
        """Forward and backward together."""
        both = Cost()
        both.add(self.forward)
        both.add(self.backward)
        return both

    def add_up(self) -> None:
        """Add to each measure those below it."""
        for inner in self.below.values():
            inner.add_up()
            self.forward.add(inner.forward)
            self.backward.add(inner.backward)

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Measure]]:
        """This measure and all below it, in the order of the graph, with their depth."""
        yield depth, self
        for inner in self.below.values():
            yield from inner.walk(depth + 1)


@dataclass
class Profile:
    """The cost of one training step, averaged over `steps` steps."""

    label: str
    steps: int
    on_device: bool
    graph: Measure
    parts: Measure
    peak: float
    """Floating-point operations a second that the device reaches in a product of two large matrices."""

    def at(self, path: str) -> Measure:
        """The measure of a path of the graph, or of a part outside of it."""
        return self.parts.at(path.removeprefix(OUTSIDE)) if path.startswith(OUTSIDE) else self.graph.at(path)

    @property
    def whole(self) -> Cost:
        """The whole step."""
        both = Cost()
        both.add(self.graph.total())
        for part in self.parts.below.values():
            both.add(part.total())
        return both

    @property
    def speed(self) -> float:
        """Floating-point operations a second in a step."""
        whole = self.whole
        return whole.flops / (whole.cpu / 1e6) if whole.cpu else 0.0

    def share(self, measure: Measure) -> float:
        """The share of the step's time: of device time if there is a device, else of CPU time."""
        whole, own = self.whole, measure.total()
        return own.device / whole.device if self.on_device and whole.device else own.cpu / (whole.cpu or 1.0)

    def rows(self) -> Iterator[tuple[int, str, Measure]]:
        """Depth, name and measure of each row: first the graph, then the rest of the step."""
        for depth, measure in self.graph.walk():
            yield depth, measure.path.rpartition(".")[2] or self.label, measure
        for depth, measure in self.parts.walk(-1):
            if measure.path:
                yield depth, measure.path.rpartition(".")[2], measure

    def as_data(self) -> dict[str, Any]:
        """The profile as plain data: times in milliseconds, memory in bytes."""
        return {
            "label": self.label,
            "steps": self.steps,
            "step": _plain(self.whole),
            "flops_per_second": self.speed,
            "peak_flops_per_second": self.peak,
            "graph": [self._row(measure) for _, measure in self.graph.walk()],
            "parts": [self._row(measure) for _, measure in self.parts.walk() if measure.path],
        }

    def _row(self, measure: Measure) -> dict[str, Any]:
        return {
            "path": measure.path,
            "calls": measure.calls,
            "share": self.share(measure),
            "forward": _plain(measure.forward),
            "backward": _plain(measure.backward),
        }

    def table(self) -> str:
        """The rows as a table: times of one step in milliseconds, allocated memory, and FLOPs."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False, title_justify="left")
        table.add_column("", no_wrap=True)
        names = ["calls", "forward", "backward", *(["on device"] if self.on_device else []), "share"]
        for name in [*names, "allocates", "in backward", "FLOPs", "in backward"]:
            table.add_column(name, justify="right", no_wrap=True)
        rows = list(self.rows())
        for number, (depth, name, measure) in enumerate(rows):
            table.add_row(*self._cells(depth, name, measure), end_section=number == len(rows) - 1)
        whole = self.whole
        total = ["a step", "", f"{whole.cpu / 1000:,.2f} ms", "", *([_ms(whole.device)] if self.on_device else [])]
        table.add_row(*total, "100.0 %", _amount(whole.memory, "B"), "", _amount(whole.flops), "")
        text = StringIO()
        Console(file=text, width=200, no_color=True, markup=False, emoji=False).print(table)
        lines = [line.rstrip() for line in text.getvalue().strip("\n").splitlines()]
        speed, peak = (_amount(number, "FLOP/s") for number in (self.speed, self.peak))
        share = f"{self.speed / self.peak:.1%}".replace("%", " %")
        return "\n".join([*lines, f"{speed}: {share} of the {peak} of a product of large matrices"])

    def _cells(self, depth: int, name: str, measure: Measure) -> list[str]:
        ahead, back = measure.forward, measure.backward
        on_device = [_ms(ahead.device + back.device)] if self.on_device else []
        times = [f"{measure.calls:g}" if measure.calls else "", _ms(ahead.cpu), _ms(back.cpu), *on_device]
        rest = [_amount(ahead.memory, "B"), _amount(back.memory, "B"), _amount(ahead.flops), _amount(back.flops)]
        return ["  " * depth + name, *times, f"{self.share(measure):.1%}".replace("%", " %"), *rest]


def measured(
    label: str,
    events: Iterable[Any],
    path_of: Callable[[int], str],
    on_device: bool,
    flops: Mapping[tuple[str, bool], float],
    peak: float,
) -> Profile:
    """The profile of the steps in `events`.

    `path_of` returns the path for the sequence number of an autograd node (empty outside of the graph); `flops` are
    those of one step by path and whether they belong to the backward pass; `peak` is that of the device.
    """
    found = Profile(label, 0, on_device, Measure(""), Measure(""), peak)
    own = [event for event in events if event.device_type.name == "CPU"]
    found.steps = sum(event.name == STEP for event in own)
    main = next(event.thread for event in own if event.name == STEP)
    owners: dict[int, tuple[Measure, bool] | None] = {}
    elsewhere = 0.0
    for event in own:
        owner = _owner(event, found, path_of, owners)
        if owner is None:
            continue
        measure, back = owner
        measure.calls += (event.name == VISIT + measure.path) / found.steps
        cost = measure.backward if back else measure.forward
        cost.add(_cost(event, on_device), 1 / found.steps)
        elsewhere += 0.0 if event.thread == main else event.self_cpu_time_total / found.steps
    waiting = found.parts.at(BACKWARD).backward  # the main thread waits for the autograd threads
    waiting.cpu = max(0.0, waiting.cpu - elsewhere)
    for (path, back), number in flops.items():
        measure = found.at(path or OUTSIDE + (LOSS if back else REST))
        (measure.backward if back else measure.forward).flops += number
    found.graph.add_up()
    found.parts.add_up()
    found.parts.below[REST] = found.parts.below.pop(REST)
    return found


def _owner(
    event: Any, found: Profile, path_of: Callable[[int], str], owners: dict[int, tuple[Measure, bool] | None]
) -> tuple[Measure, bool] | None:
    """The measure that an event belongs to, and whether it is in the backward pass; None outside of all steps."""
    if id(event) not in owners:
        owners[id(event)] = _own_place(event, found, path_of) or (
            _owner(event.cpu_parent, found, path_of, owners) if event.cpu_parent is not None else None
        )
    return owners[id(event)]


def _own_place(event: Any, found: Profile, path_of: Callable[[int], str]) -> tuple[Measure, bool] | None:
    name: str = event.name
    if name == STEP:
        return found.parts.at(REST), False
    if name.startswith(VISIT):
        return found.graph.at(name.removeprefix(VISIT)), False
    if name.startswith(PART):
        return found.parts.at(name.removeprefix(PART)), name == PART + BACKWARD
    if name.startswith(NODE):
        made = event.sequence_nr >= 0
        return found.at(path_of(event.sequence_nr) or OUTSIDE + LOSS if made else OUTSIDE + BACKWARD), True
    return None


def _cost(event: Any, on_device: bool) -> Cost:
    allocated = event.self_device_memory_usage if on_device else event.self_cpu_memory_usage
    return Cost(event.self_cpu_time_total, event.self_device_time_total, max(0, allocated))


def _plain(cost: Cost) -> dict[str, float]:
    return {"cpu": cost.cpu / 1000, "device": cost.device / 1000, "memory": cost.memory, "flops": cost.flops}


def _ms(microseconds: float) -> str:
    return f"{microseconds / 1000:,.2f} ms" if microseconds else ""


def _amount(number: float, unit: str = "") -> str:
    """A number with three significant digits and an SI prefix; empty for zero."""
    for prefix in ("", "k", "M", "G", "T"):
        if number < 1000 or prefix == "T":
            return f"{number:,.3g} {prefix}{unit}" if number else ""
        number /= 1000
    raise AssertionError
