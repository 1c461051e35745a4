"""The beginnings and ends of phases, as far as known from the config: phases that never run, and useless `until`s."""

from __future__ import annotations

from dataclasses import dataclass

from flowconf.language.training import Condition, TrainerSection, TrainingConfig
from flowconf.report import Label, Place, Reporter
from flowconf.report.origins import Path, dotted


@dataclass(frozen=True)
class Edge:
    """The beginning or end of a phase: the key of its condition, its number, and its place."""

    key: str
    at: float
    path: Path
    place: Place

    def __str__(self) -> str:
        return f"{self.key} {self.at:g}" if self.key != "fraction" else f"{self.at:.0%} of the run"


def check(training: TrainingConfig, reporter: Reporter) -> None:
    """Report phases without steps, and ends without effect."""
    begun: Edge | None = None
    end_before: tuple[str, Edge] | None = None
    for name, phase in training.phases.items():
        when = _edge(phase.when, ("phases", name, "when"), reporter)
        until = _edge(phase.until, ("phases", name, "until"), reporter)
        begins = when if phase.when is not None else end_before[1] if end_before else None
        never = _never(begins, training.trainer, reporter)
        if begins is not None and never is not None:
            message = f"the phase `{name}` never begins, because the run ends before it"
            labels = tuple(label for label in never if label.place != begins.place)
            reporter.warn("FC0122", message, begins.place, path=dotted(begins.path), labels=labels)
        elif begins is not None and begun is not None and _is_after(begun, begins):
            message = f"the phase `{name}` begins at {begins}, before the previous phase, which then has no steps"
            label = Label(f"the previous phase begins at {begun}", begun.place)
            advice = "write phases in chronological order"
            reporter.error("FC0123", message, begins.place, path=dotted(begins.path), labels=(label,), advice=advice)
        elif begins is not None and until is not None and not _is_after(until, begins) and until.key == begins.key:
            message = f"the phase `{name}` has no steps: it begins at {begins} and ends at {until}"
            reporter.error("FC0123", message, until.place, path=dotted(until.path))
        elif end_before is not None and when is not None and _is_after(end_before[1], when):
            last, end = end_before
            message = f"`until` of the phase `{last}` has no effect: it ends at {when}, when `{name}` begins"
            label = Label(f"`{name}` begins here", when.place)
            advice = f"remove `until` of `{last}`, or move `when` of `{name}` after it"
            reporter.warn("FC0410", message, end.place, path=dotted(end.path), labels=(label,), advice=advice)
        begun = begins
        end_before = (name, until) if until is not None else None


def _edge(condition: Condition | None, path: Path, reporter: Reporter) -> Edge | None:
    """The point of the run of a condition, or None if it depends on evaluations."""
    if condition is None or condition.trend is not None:
        return None
    at = (*path, condition.key)
    return Edge(condition.key, condition.number, at, reporter.value(at))


def _is_after(one: Edge, other: Edge) -> bool:
    """Whether an edge comes after another; edges with different keys cannot be compared."""
    return one.key == other.key and one.at > other.at


def _never(edge: Edge | None, trainer: TrainerSection, reporter: Reporter) -> tuple[Label, ...] | None:
    """Labels for the end of the run if it is at or before an edge, otherwise None."""
    ends = {"epoch": trainer.epochs, "step": trainer.steps, "fraction": 1}
    end = ends[edge.key] if edge is not None else None
    if edge is None or end is None or edge.at < end:
        return None
    key = f"{edge.key}s"
    return (Label("the run ends here", reporter.value(("trainer", key))),) if edge.key != "fraction" else ()
