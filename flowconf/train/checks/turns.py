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
    training = config.training
    for name, turn in training.turns.items():
        terms = listed(turn.loss)
        updated = selected(turn.updates, reach)
        moved = {one for term in terms for one in moves(training, reach, term)} & updated
        if reach.certain and updated and not moved:
            where = ("turns", name, "updates") if turn.updates is not None else ("turns", name)
            place = reporter.value(where) if turn.updates is not None else reporter.key(where)
            paths = sorted({one.split(".")[0] for term in terms for one in reach.terms[term]})
            whom = f"`{terms[0]}` depends on" if len(terms) == 1 else "its terms depend on"
            message = f"the turn `{name}` trains nothing: none of its terms depends on what it updates"
            advice = f"{whom} {listing(paths)}" if paths else None
            reporter.error("FC0403", message, place, at=where, advice=advice)
    for name, loss in training.loss.items():
        if getattr(registry.losses.load(loss.fn), MARK, False):
            _check_second_gradients(config, name, loss.fn, reporter)
            break


def _check_second_gradients(config: Config, name: str, fn: str, reporter: Reporter) -> None:
    """Report settings that do not support a loss with a gradient of a gradient."""
    trainer = config.training.trainer
    labels = (Label(f"`{fn}` needs the gradient of a gradient", reporter.value(("loss", name, "fn"))),)
    asked = {
        "compile": (bool(trainer.compile), "compile", "compiled code has no gradients of gradients", "false"),
        "strategy": (trainer.strategy == "fsdp", "fsdp", "the weights are released after the first gradient", "ddp"),
    }
    for key, (is_set, shown, why, instead) in asked.items():
        if is_set:
            message = f"`{shown}` is not supported with the loss `{name}`: {why}"
            reporter.error("FC0123", message, at=("trainer", key), labels=labels, advice=f"write `{key}: {instead}`")
