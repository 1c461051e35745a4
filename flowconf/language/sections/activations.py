"""Warnings for a loss that gets values of another kind than it expects: logits, probabilities or log-probabilities."""

from __future__ import annotations

import re

from flowconf.language import references, registry
from flowconf.language.arguments import Call
from flowconf.language.plan import Chain, GraphPlan, Mount, Value
from flowconf.language.training import TrainingConfig, placed
from flowconf.report import Label, Reporter

RETURNS = {
    **dict.fromkeys(("Softmax", "Softmax2d", "Softmin", "Sigmoid"), "Probabilities"),
    **dict.fromkeys(("LogSoftmax", "LogSigmoid"), "LogProbabilities"),
    **dict.fromkeys(("Linear", "Bilinear", "Conv1d", "Conv2d", "Conv3d"), "Logits"),
    **dict.fromkeys(("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Tanh"), "Logits"),
}
"""The kinds of values that modules of torch return; those of a project say it in the return annotation of `forward`."""
PASSING = ("Flatten", "Identity", "Reshape", "Transpose", "Unflatten")
"""Modules that return the values that they get."""
EXPECTED = {
    "Logits": ("logits", ("Probabilities",), "remove `{last}`"),
    "LogProbabilities": ("log-probabilities", ("Probabilities", "Logits"), "end `{read}` with `LogSoftmax({dim})`"),
    "Probabilities": ("probabilities", ("Logits", "LogProbabilities"), "end `{read}` with `Sigmoid`{other}"),
}
"""The annotation of an argument of a loss -> its name in messages, the kinds that differ, what to write."""


def check(training: TrainingConfig, plan: GraphPlan, reporter: Reporter) -> None:
    """Warn about values of the graph that a loss would treat as something else, by the modules that return them."""
    for name, loss in training.loss.items():
        if loss.fn not in registry.losses:
            continue
        signature = registry.losses.signature(loss.fn)
        positional = (parameter for parameter in signature.parameters if parameter.kind == "positional")
        for parameter, (at, read) in zip(positional, placed(loss.input, ("loss", name, "input")), strict=False):
            wanted = _kind(parameter.type)
            last = last_call(plan, read, PASSING) if wanted is not None else None
            if wanted is None or last is None:
                continue
            what, others, advice = EXPECTED[wanted]
            if _returned(last) in others:
                message = f"`{loss.fn}` expects {what}, but `{read}` is the output of `{last}`"
                labels = (Label(f"`{read}` ends here", last.place),)
                on_logits = f"{loss.fn}_with_logits"
                other = f", or write `fn: {on_logits}`" if on_logits in registry.losses else ""
                write = advice.format(last=last, read=read, dim=loss.args.get("dim", 1), other=other)
                reporter.warn("FC0412", message, at=at, labels=labels, advice=write)


def _kind(annotation: str) -> str | None:
    """The kind of values that an annotation names."""
    return next((kind for kind in EXPECTED if re.search(rf"\b{kind}\b", annotation)), None)


def _returned(call: Call) -> str | None:
    """The kind of values that a module returns."""
    if registry.modules.home(call.name).startswith("torch."):
        return RETURNS.get(call.name)
    return _kind(registry.modules.class_source(call.name).returns)


def last_call(plan: GraphPlan, text: str, passing: tuple[str, ...] = ()) -> Call | None:
    """The call whose output a reference is, if it is that of one module alone; modules of `passing` are skipped."""
    try:
        value = references.find_anywhere(plan, text)
    except references.NotFound:
        return None
    while value.inner is not None and not value.spot:
        step = plan.step(value.member)
        mount = step.body.target if step is not None and len(step.parts) == 1 else None
        if not isinstance(mount, Mount):
            return None
        plan, value = mount.graph, value.inner
    return _of_value(plan, value, passing)


def _of_value(plan: GraphPlan, value: Value, passing: tuple[str, ...]) -> Call | None:
    """The call whose output a value of a graph is."""
    step = plan.step(value.member)
    if step is None or value.is_part or step.verb not in ("through", "graph", "fork") or step.take is not None:
        return None
    members = [step.body.target]
    while members and isinstance(members[-1], Chain | Mount | Call):
        last = members[-1]
        if isinstance(last, Chain):
            members[-1:] = [member.target for member in last.members]
        elif isinstance(last, Mount):
            outputs = [value for _, value in last.graph.outputs]
            return _of_value(last.graph, outputs[0], passing) if len(outputs) == 1 else None
        elif last.name in passing:
            members.pop()
        else:
            return last
    return _of_value(plan, step.stream, passing) if not members else None
