"""Checks of the selectors in the training sections that need no modules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from flowconf.language import references
from flowconf.language.plan import GraphPlan
from flowconf.language.selectors import SelectorError, parse, with_kind
from flowconf.language.training import TrainingConfig, placed
from flowconf.report import Place, Reporter, Suggestion
from flowconf.report.origins import Origins, Path


@dataclass(frozen=True)
class Written:
    """A selector where it is written: as a key, or as a value."""

    text: str
    where: Path
    what: str = "the path"
    is_key: bool = False

    def place(self, origins: Origins) -> Place:
        return origins.key(self.where) if self.is_key else origins.value(self.where)


def written(training: TrainingConfig) -> Iterator[Written]:
    """All selectors of the training sections."""
    for text in training.optimizer.groups:
        yield Written(text, ("optimizer", "groups", text), "the optimizer group", is_key=True)
    decay = training.optimizer.layer_decay
    yield from _listed(decay.layers if decay is not None else None, ("optimizer", "layer_decay", "layers"))
    statistics = training.trainer.statistics
    yield from _listed(statistics.at if statistics is not None else None, ("trainer", "statistics", "at"))
    for name, loss in training.loss.items():
        yield from _listed(loss.updates, ("loss", name, "updates"))
    for name, turn in training.turns.items():
        yield from _listed(turn.updates, ("turns", name, "updates"))
    for name, phase in training.phases.items():
        yield from _listed(phase.freeze, ("phases", name, "freeze"))
        yield from _listed(phase.thaw, ("phases", name, "thaw"))
        for text in phase.lr if isinstance(phase.lr, dict) else ():
            yield Written(text, ("phases", name, "lr", text), is_key=True)


def _listed(texts: str | list[str] | None, where: Path) -> Iterator[Written]:
    yield from (Written(text, at) for at, text in placed(texts, where))


def check(training: TrainingConfig, plan: GraphPlan, reporter: Reporter) -> None:
    """Report texts that are not selectors, and paths that do not exist in the graph.

    What a wildcard or a kind selects, and names within a module, are checked where the modules are known.
    """
    for one in written(training):
        place = one.place(reporter.origins)
        try:
            selector = parse(one.text)
            names = selector.head
            if selector.kind is not None and "layer_decay" in one.where:
                path = replace(selector, kind=None)
                message = f"`{one.text}` names parameters of `{path}`, not layers"
                reporter.error("FC0405", message, place, at=one.where, advice=f"write `{path}`")
            if names:
                references.find_path(plan, names)
        except SelectorError as problem:
            reporter.error("FC0405", problem.message, place, at=one.where, advice=problem.advice)
        except references.WithinModule:  # the name may be that of a parameter
            continue
        except references.NotFound as problem:
            of_kind = with_kind(parse(one.text))
            near = problem.advice_for(one.text) or problem.message
            advice = near if of_kind is None else Suggestion(f'"{of_kind}"', instead_of=one.text)
            message = f"{one.what} `{one.text}` does not exist in the graph"
            reporter.missing(names[0], "FC0405", message, place, at=one.where, cause=(one.text,), advice=advice)
