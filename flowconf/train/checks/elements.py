"""Whether losses and metrics compare and average along the right dimensions, as far as their shapes show it."""

from __future__ import annotations

from collections.abc import Sequence

from flowconf.graph.shapes.sizes import EXPECTS
from flowconf.language.registry import modules
from flowconf.language.sections.activations import last_call
from flowconf.report import Label, Reporter, dtype_name
from flowconf.train.checks.terms import Given, TermCheck, Tried, dimension
from flowconf.train.objective.terms import Average


def check_elements(check: TermCheck, tried: Tried, into: Reporter) -> None:
    """Report a result that is not one of single rows, and classes along a dimension that probably has none.

    The values of `check` are fake, with a large prime as the number of rows.
    """
    operands, elements = check.operands(tried), check.elements(tried.term)
    if operands is None or elements is None or not check.batch:
        return
    given = f"`{tried.name}`: `{tried.section.fn}`"
    place = into.value((*tried.path, "fn"))
    rows = len(next(iter(check.batch.values())))
    reshaped = check.reshaped(operands)
    other = None if reshaped is None else reshaped[1].elements(tried.term)
    if tried.path[0] == "loss" and not elements.dtype.is_floating_point:
        kind = dtype_name(elements.dtype)
        message, advice = f"{given} returns {kind} values, which have no gradient", "return floating-point values"
        into.error("FC0406", message, place, path=tried.name, advice=advice)
    elif elements.ndim and elements.numel() < rows // 4:  # even pairs of rows are more
        message = f"{given} returns {check.show(elements)}, without the dimension of the rows"
        advice = "return one value for each row, `[B, ...]`, or one number for all of them, `[]`"
        into.error("FC0414", message, place, path=tried.name, labels=_labels(check, operands), advice=advice)
    elif reshaped is not None and other is not None and other.shape == operands[1].value.shape != elements.shape:
        shown = " and ".join(check.named_value(operand) for operand in operands[:2])
        message = f"{given} compares each row with all others: it returns {check.show(elements)} for {shown}"
        place = into.value(operands[0].where)
        into.warn("FC0414", message, place, path=tried.name, labels=_labels(check, operands), advice=reshaped[0])
    else:
        _check_dimension(check, tried, operands, into)


def check_agreement(check: TermCheck, tried: Sequence[Tried], into: Reporter) -> None:
    """Report a metric that takes each score as yes or no, of scores that a loss takes as those of classes."""
    classes: dict[str, Tried] = {}
    for one in sorted(tried, key=lambda one: one.path[0] != "loss"):
        operands = check.operands(one)
        if operands is None or len(one.term.operands) != 2 or dimension(one.term) is None:
            continue
        scores, target = operands[:2]
        if one.path[0] == "loss" and scores.value.ndim == target.value.ndim + 1:
            classes[scores.source.name] = one
        elif one.path[0] == "metrics" and scores.value.shape == target.value.shape and scores.source.name in classes:
            loss = classes[scores.source.name]
            shown = check.named_value(scores)
            message = f"`{one.name}` takes each of {shown} as yes or no, and `{loss.name}` as scores of classes"
            advice = f"write `target: {loss.term.operands[1].name}`"
            labels = (Label("they are scores of classes here", into.value((*loss.path, "input"))),)
            into.warn("FC0414", message, into.value(target.where), path=one.name, labels=labels, advice=advice)


def _check_dimension(check: TermCheck, tried: Tried, operands: Sequence[Given], into: Reporter) -> None:
    """Report classes along a dimension by default, where the last one fits as well and its module makes that one."""
    dim, scores = dimension(tried.term), operands[0].value
    if dim is None or "dim" in tried.term.args or operands[0].source.in_batch or len(tried.term.operands) != 2:
        return
    last, name = scores.ndim - 1, operands[0].source.name
    others = [other for axis, other in check.axes(tried.term, operands) if axis == last]
    if operands[1].value.ndim != last or not others or not check.fits(Average(others[0])):
        return
    call = last_call(check.config.model, name)
    if call is not None and any(EXPECTS.get(one) == -1 for one in modules.class_source(call.name).init.names):
        shown = check.named_value(operands[0])
        message = (
            f"`{tried.section.fn}` takes dimension {dim} of {shown} as classes, and `{call}` makes dimension {last}"
        )
        labels = (Label(f"`{name}` ends here", call.place),)
        advice = f"write `args: {{dim: {last}}}`, or `args: {{dim: {dim}}}` if that dimension has the classes"
        place = into.value(operands[0].where)
        into.warn("FC0414", message, place, path=tried.name, labels=labels, advice=advice, cause=(name, last))


def _labels(check: TermCheck, operands: Sequence[Given]) -> tuple[Label, ...]:
    return tuple(dict.fromkeys(check.label(operand) for operand in operands))
