"""Warnings for a loss that gets values of another kind than it expects: logits, probabilities or log-probabilities."""

from __future__ import annotations

from flowconf.language import references, registry
from flowconf.language.arguments import Call
from flowconf.language.plan import Chain, GraphPlan, Mount, Step
from flowconf.language.training import TrainingConfig, listed
from flowconf.report import Label, Reporter

NORMALIZED = ("Softmax", "Softmax2d", "Softmin", "Sigmoid")
UNBOUNDED = (
    "Linear",
    "Bilinear",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
)
EXPECTED = {
    "Logits": ("logits", NORMALIZED, "remove `{last}`"),
    "LogProbabilities": ("log-probabilities", (*NORMALIZED, *UNBOUNDED), "end `{read}` with `LogSoftmax({dim})`"),
    "Probabilities": ("probabilities", (*UNBOUNDED, "LogSoftmax", "Tanh"), "end `{read}` with `Sigmoid`"),
}
"""Annotation of an argument of a loss -> what it expects, the modules that do not return that, what to write."""


def check(training: TrainingConfig, plan: GraphPlan, reporter: Reporter) -> None:
    """Warn about values of the graph that a loss would treat as something else, by the modules that return them."""
    for name, loss in training.loss.items():
        if loss.fn not in registry.losses:
            continue
        signature = registry.losses.signature(loss.fn)
        positional = (parameter for parameter in signature.parameters if parameter.kind == "positional")
        for number, (parameter, read) in enumerate(zip(positional, listed(loss.input), strict=False)):
            last = _last_call(plan, read) if parameter.type in EXPECTED else None
            if last is None:
                continue
            what, others, advice = EXPECTED[parameter.type]
            if last.name in others:
                at = ("loss", name, "input", number) if isinstance(loss.input, list) else ("loss", name, "input")
                message = f"`{loss.fn}` expects {what}, but `{read}` is the output of `{last}`"
                labels = (Label(f"`{read}` ends here", last.place),)
                write = advice.format(last=last, read=read, dim=loss.args.get("dim", 1))
                reporter.warn("FC0412", message, at=at, labels=labels, advice=write)


def _last_call(plan: GraphPlan, text: str) -> Call | None:
    """The call whose output a reference is, if it is that of one module alone."""
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
    step = plan.step(value.member)
    return None if step is None or value.is_part else _last_of(step)


def _last_of(step: Step) -> Call | None:
    """The call whose output is that of a step."""
    if step.verb not in ("through", "graph", "fork") or step.take is not None:
        return None
    target = step.body.target
    while isinstance(target, Chain):
        target = target.members[-1].target
    if isinstance(target, Mount):
        outputs = [value for _, value in target.graph.outputs]
        inner = target.graph.step(outputs[0].member) if len(outputs) == 1 and not outputs[0].is_part else None
        return None if inner is None else _last_of(inner)
    return target if isinstance(target, Call) else None
