"""Checks of the further sets of `data`: those that are evaluated, and those that are mixed into the training rows."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from flowconf.language.plan import GraphPlan
from flowconf.language.sections.augmentations import views
from flowconf.language.training import PhaseSection, SetSection, TrainingConfig, evaluated_on, listed, placed
from flowconf.report import Label, Reporter, suggest
from flowconf.report.origins import Path

MAIN = "main"
"""The data set of `data` among those of its mixture."""
SPLITS = ("train", "val", "test")


def further_sets(training: TrainingConfig) -> dict[Path, SetSection]:
    """The further sets of a config by path."""
    found: dict[Path, SetSection] = {}
    for key, sections in (("evaluate", training.data.evaluate), ("mixture", training.data.mixture)):
        found |= {("data", key, name): section for name, section in sections.items()}
    return found


def arguments(training: TrainingConfig, section: SetSection) -> dict[str, Any]:
    """The arguments of a further set: with those of the data set itself if it has no name."""
    return {**training.data.args, **section.args} if section.name is None else section.args


def evaluated_fields(training: TrainingConfig, name: str) -> list[str]:
    """The names that losses and metrics read which are evaluated on a set; some are values of the graph."""
    measured = [one for one in (*training.loss.values(), *training.metrics.values()) if evaluated_on(one, name)]
    return list(dict.fromkeys(text for one in measured for text in one.references))


def check(training: TrainingConfig, reporter: Reporter) -> None:
    """Report unknown splits of losses and metrics, and settings that exclude each other."""
    known = (*SPLITS, *training.data.evaluate)
    for kind, sections in (("loss", training.loss), ("metrics", training.metrics)):
        for name, section in sections.items():
            for at, split in placed(section.splits, (kind, name, "splits")):
                if split not in known:
                    advice = suggest(split, known, "splits")
                    reporter.error("FC0402", f"unknown split `{split}`", at=at, advice=advice)
    _check_sample(training, reporter)


def check_phase(training: TrainingConfig, phase: PhaseSection, where: Path, reporter: Reporter) -> None:
    """Report weights of a phase for sets that are not mixed, and a phase in which none has a weight."""
    known = [MAIN, *training.data.mixture] if training.data.mixture else []
    for name in phase.mixture:
        at = (*where, "mixture", name)
        if name not in known:
            advice = suggest(name, known, "sets") if known else "mix sets with `data.mixture`"
            reporter.error("FC0402", f"unknown set `{name}` of `data.mixture`", reporter.key(at), at=at, advice=advice)
    weights = {MAIN: 1.0, **{name: section.weight for name, section in training.data.mixture.items()}, **phase.mixture}
    if phase.mixture and not any(weights.values()):
        reporter.error("FC0123", "every set of the mixture has weight 0", at=(*where, "mixture"))


def check_buckets(training: TrainingConfig, fields: Collection[str], reporter: Reporter) -> None:
    """Report fields of `data.buckets` that the data set does not have."""
    section, where = training.data.buckets, ("data", "buckets")
    if section is None:
        return
    for at, name in [*placed(section.mask, (*where, "mask")), *placed(section.cut, (*where, "cut"))]:
        if name not in fields:
            advice = suggest(name, fields, "fields")
            reporter.error("FC0502", f"the data has no field `{name}`", at=at, advice=advice)


def check_cut_inputs(training: TrainingConfig, plan: GraphPlan, reporter: Reporter) -> None:
    """Report inputs of the graph with one length, whose field is cut to different ones."""
    section = training.data.buckets
    cut = () if section is None else (section.mask, *listed(section.cut))
    names = {*cut, *(new for new, old in views(training).items() if old in cut)}
    for given in plan.inputs:
        length = (given.shape or ())[1:2]
        if given.name in names and any(isinstance(size, int) for size in length):
            message = f"`{given.name}` is cut to the longest row of a batch, but the input has the length {length[0]}"
            place = given.places[1] if len(given.places) > 1 else given.place
            advice = "write a name for the size, such as `T`"
            reporter.error("FC0502", message, place, path=f"inputs.{given.name}", advice=advice)


def _check_sample(training: TrainingConfig, reporter: Reporter) -> None:
    """Report two ways of drawing rows."""
    sample, where = training.data.sample, ("data", "sample")
    ways: list[Path] = [(*where, key) for key in ("by", "weight") if getattr(sample, key) is not None]
    ways += [("data", "mixture")] if training.data.mixture else []
    if len(ways) > 1:
        first, second = (".".join(map(str, way)) for way in ways[:2])
        labels = (Label(f"`{second}` is set here", reporter.key(ways[1])),)
        message = f"`{first}` and `{second}` exclude each other: each says how training rows are drawn"
        reporter.error("FC0123", message, reporter.key(ways[0]), at=ways[0], labels=labels, advice="keep one of them")
