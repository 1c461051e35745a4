"""Checks of turns that need no data."""

from __future__ import annotations

from flowconf.language.training import TrainingConfig, listed, placed
from flowconf.report import Label, Reporter, suggest


def check(training: TrainingConfig, reporter: Reporter) -> None:
    """Report unknown terms of turns, terms that are named twice, and terms in no turn."""
    if not training.turns:
        return
    for name, turn in training.turns.items():
        terms = listed(turn.loss)
        for number, (at, term) in enumerate(placed(turn.loss, ("turns", name, "loss"))):
            if term not in training.loss:
                message = f"unknown term `{term}` of the loss"
                reporter.error("FC0402", message, at=at, advice=suggest(term, training.loss, "terms"))
            elif term in terms[:number]:
                labels = (Label("also here", reporter.value((*at[:-1], terms.index(term)))),)
                message = f"the turn `{name}` names the term `{term}` twice"
                reporter.error("FC0123", message, at=at, labels=labels, advice="remove one of them")
    used = {term for turn in training.turns.values() for term in listed(turn.loss)}
    if any(term not in training.loss for term in used):
        return
    for term in training.loss:
        if term not in used:
            names = ", ".join(f"`{name}`" for name in training.turns)
            message = f"the term `{term}` of the loss is in no turn"
            advice = f"write it in the `loss` of a turn ({names}), or remove it"
            reporter.error("FC0122", message, reporter.key(("loss", term)), at=("loss", term), advice=advice)
