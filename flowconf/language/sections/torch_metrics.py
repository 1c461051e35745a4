"""The metrics of torchmetrics, by the names of their classes; read from source, torchmetrics is not imported."""

from __future__ import annotations

from functools import cache

from flowconf.language import registry, signatures
from flowconf.language.signatures import Parameter, Signature
from flowconf.language.training import MetricSection

PACKAGE = "torchmetrics"
KINDS = (
    "audio", "clustering", "detection", "image", "nominal", "regression", "retrieval", "segmentation", "shape",
    "text",
)  # fmt: skip
"""Modules of further classes. Those of `classification` are the forms of others, which an argument `task` chooses."""
EVERY_METRIC = (
    "compute_on_cpu", "dist_sync_on_step", "process_group", "dist_sync_fn", "distributed_available_fn",
    "sync_on_compute", "compute_with_cache",
)  # fmt: skip
"""Arguments that all classes take."""


def uses_torchmetrics(name: str) -> bool:
    """Whether a metric is a class of torchmetrics rather than a registered one."""
    return name not in registry.metrics and name not in registry.losses and name in homes()


def signature(name: str) -> Signature:
    """The arguments of a class; its `**` accepts those that all classes take."""
    found = signatures.read_constructor(homes()[name], name)
    own = (parameter for parameter in found.parameters if parameter.kind != "**")
    return Signature((*own, *(Parameter(argument, "keyword", False) for argument in EVERY_METRIC if found.open)))


def lacks_task(section: MetricSection) -> bool:
    """Whether a metric is of a class that requires a `task`, and has none."""
    return uses_torchmetrics(section.fn) and "task" in signature(section.fn).missing(0, set(section.args))


@cache
def higher_is_better(name: str) -> bool | None:
    """Whether larger values of a class are better, as it declares; None if it does not.

    A class that chooses by `task` is like its form for several classes.
    """
    declared = signatures.class_constant(homes()[name], name, "higher_is_better")
    form = f"Multiclass{name}"
    if declared is None and signatures.defined_in(f"{PACKAGE}.classification", form) is not None:
        declared = signatures.class_constant(f"{PACKAGE}.classification", form, "higher_is_better")
    return declared if isinstance(declared, bool) else None


@cache
def homes() -> dict[str, str]:
    """Class -> the module that has it."""
    found = dict.fromkeys(signatures.public_names(PACKAGE), PACKAGE)
    for module in (f"{PACKAGE}.{kind}" for kind in KINDS):
        for name in signatures.public_names(module) if signatures.has_source(module) else ():
            found.setdefault(name, module)
    return found
