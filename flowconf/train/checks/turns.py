"""Checks of turns that need the parameters which the terms of the loss move."""

from __future__ import annotations

from flowconf.language import registry
from flowconf.language.config import Config
from flowconf.language.training import listed
from flowconf.report import Label, Reporter, listing
from flowconf.train.checks.first_step import Reach
from flowconf.train.checks.untrained import moves, selected
from flowconf.train.objective.gradients import MARK


def check_turns(config: Config, reach: Reach, reporter: Reporter) -> None:
    """Report turns that train nothing, and settings that do not support turns or gradients of values."""
    training, origins = config.training, config.composition.document.origins
    for name, turn in training.turns.items():
        terms = listed(turn.loss)
        updated = selected(turn.updates, reach)
        moved = {one for term in terms for one in moves(training, reach, term)} & updated
        if reach.certain and updated and not moved:
            where = ("turns", name, "updates") if turn.updates is not None else ("turns", name)
            place = origins.value(where) if turn.updates is not None else origins.key(where)
            paths = sorted({one.split(".")[0] for term in terms for one in reach.terms[term]})
            whom = f"`{terms[0]}` depends on" if len(terms) == 1 else "its terms depend on"
            message = f"the turn `{name}` trains nothing: none of its terms depends on what it updates"
            advice = f"{whom} {listing(paths)}" if paths else None
            reporter.error("FC0403", message, place, at=where, advice=advice)
    if training.turns and training.trainer.strategy == "fsdp":
        labels = (Label("turns are set here", origins.key(("turns",))),)
        message = "turns are not supported with `fsdp`: each turn has gradients for other parameters"
        place = origins.value(("trainer", "strategy"))
        reporter.error("FC0123", message, place, path="trainer.strategy", labels=labels, advice="write `strategy: ddp`")
    for name, loss in training.loss.items():
        if training.trainer.compile and getattr(registry.losses.load(loss.fn), MARK, False):
            labels = (Label(f"`{loss.fn}` needs the gradient of a gradient", origins.value(("loss", name, "fn"))),)
            message = f"`compile` is not supported with the loss `{name}`: compiled code has no gradients of gradients"
            place = origins.value(("trainer", "compile"))
            reporter.error(
                "FC0123", message, place, path="trainer.compile", labels=labels, advice="write `compile: false`"
            )
            break
