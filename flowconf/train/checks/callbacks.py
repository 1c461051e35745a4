"""Checks of callbacks that need their classes: the methods that they have."""

from __future__ import annotations

import inspect
from typing import Any

from flowconf.graph.shapes.inference import Inference
from flowconf.language import references, registry, signatures
from flowconf.language.config import Config
from flowconf.language.training import CallbackSection, listed
from flowconf.report import Diagnostic, Label, Reporter, listing
from flowconf.report.origins import Origins
from flowconf.train.checks.first_step import check_readable

METHODS: dict[str, tuple[str, ...]] = {
    "start": ("run",),
    "step": ("run",),
    "values": ("run", "values"),
    "evaluated": ("run", "found"),
    "end": ("run",),
}
"""The methods that are called, with their arguments."""


def check_callbacks(config: Config, inference: Inference, reporter: Reporter) -> None:
    """Report callbacks whose class does not have the methods that their keys require, and values that cannot be read.

    The methods of what a function makes are only known once it is made.
    """
    origins = config.origins
    for name, section in config.training.callbacks.items():
        known = registry.callbacks.load(section.name)
        if isinstance(known, type):
            reporter.diagnostics += problems_of(known, name, section, origins)
        for number, reference in enumerate(listed(section.read)):
            where = (
                ("callbacks", name, "read", number) if isinstance(section.read, list) else ("callbacks", name, "read")
            )
            try:
                if references.names_value(config.model, reference):
                    check_readable(reference, config.model, inference)
            except references.NotFound as problem:
                reporter.error("FC0402", problem.message, at=where, advice=problem.advice_for(reference))


def problems_of(seer: Any, name: str, section: CallbackSection, origins: Origins) -> list[Diagnostic]:
    """The errors of a callback, or of its class."""
    path = f"callbacks.{name}"
    cls = seer if isinstance(seer, type) else type(seer)
    labels: tuple[Label, ...] = ()
    if cls.__module__ != "builtins" and not registry.callbacks.is_built_in(section.name):
        labels = (Label(f"`{cls.__name__}` is defined here", signatures.place(cls.__module__, cls.__qualname__)),)
    here = origins.value(("callbacks", name, "name"))
    having = [method for method in METHODS if callable(getattr(seer, method, None))]
    if not having:
        message = f"the callback `{section.name}` has none of the methods {listing(list(METHODS))}"
        return [Diagnostic("FC0123", message, here, path, labels, f"define one of them, such as `{_written('step')}`")]
    found = [
        Diagnostic("FC0133", f"`{section.name}` must have the method `{_written(method)}`", here, path, labels)
        for method in having
        if not _takes(seer, method)
    ]
    if "values" in having and section.read is None:
        message = f"`{section.name}` has the method `values`, which requires `read`"
        found.append(
            Diagnostic("FC0122", message, here, path, labels, "write `read: ...` with the values that it gets")
        )
    for key in ("read", "split"):
        if "values" not in having and key in section.model_fields_set:
            message = f"`{key}` has no effect: the callback `{section.name}` has no method `values`"
            advice = f"remove it, or define `{_written('values')}`"
            place = origins.key(("callbacks", name, key))
            found.append(Diagnostic("FC0410", message, place, path, labels, advice))
            break
    return found


def _written(method: str) -> str:
    return f"def {method}({', '.join(('self', *METHODS[method]))})"


def _takes(seer: Any, method: str) -> bool:
    """Whether a method can be called with its arguments."""
    kind = inspect.getattr_static(seer, method)
    unbound = isinstance(seer, type) and not isinstance(kind, staticmethod | classmethod)  # in a class, it takes `self`
    try:
        inspect.signature(getattr(seer, method)).bind(*["self"] * unbound, *METHODS[method])
    except TypeError:
        return False
    except ValueError:  # it has no signature
        return True
    return True
