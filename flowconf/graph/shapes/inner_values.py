"""The values of modules inside of one with its own `forward`, such as `backbone.layer1`, in the shape check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from flowconf.graph.source.demand import without_copies
from flowconf.language.paths import join
from flowconf.language.plan import GraphPlan, Value
from flowconf.language.references import NotFound, innermost
from flowconf.report import suggest


@dataclass
class InnerValues:
    """The outputs of the modules inside of one module in a call."""

    names: dict[str, str]
    """All modules inside, and what they are."""
    ran: bool = False
    outputs: dict[str, list[Any]] = field(default_factory=dict)
    """Module -> its outputs, one for each of its calls."""
    versions: dict[str, list[int]] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets: the names, without the values, which are fake tensors of this one."""
        return {"names": self.names, "ran": False, "outputs": {}, "versions": {}}

    @property
    def values(self) -> dict[str, Any]:
        """Module -> its output, of those that ran once."""
        return {name: found[0] for name, found in self.outputs.items() if len(found) == 1}

    def note(self, name: str, module: nn.Module, given: Any, output: Any) -> None:
        """A hook that notes an output."""
        self.outputs.setdefault(name, []).append(output)
        self.versions.setdefault(name, []).extend(_versions(output))

    def why_not(self, name: str) -> str | None:
        """Why a module has no single value, to follow its name; None if it has."""
        if name not in self.names:
            return "is not inside"
        found = self.outputs.get(name, [])
        if self.ran and len(found) != 1:
            return f"runs {len(found)} times" if found else "does not run"
        if self.ran and _versions(found[0]) != self.versions[name]:
            return "is changed in place by what follows it"
        return None


def _versions(value: Any) -> list[int]:
    return [one._version for one in tree_leaves(value) if isinstance(one, Tensor)]


def described(module: nn.Module) -> str:
    """A module as torch prints it: its class, and the arguments of one of torch's classes."""
    cls = type(module)
    written = module.extra_repr() if cls.__module__.startswith("torch.nn.") else ""
    return f"{cls.__name__}({written})" if written else cls.__name__


@contextmanager
def recorded(built: nn.Module, found: InnerValues) -> Iterator[None]:
    """A block in which a module runs once, and what is inside of it is noted."""
    found.outputs.clear()
    found.versions.clear()
    hooks = [module.register_forward_hook(partial(found.note, name)) for name, module in built.named_modules() if name]
    try:
        yield
        found.ran = True
    finally:
        for hook in hooks:
            hook.remove()


def check(
    graph: GraphPlan, value: Value, inside: Mapping[str, InnerValues], kinds: Mapping[str, str], above: str = ""
) -> None:
    """Raise `NotFound` for a reference to a module inside of another one that has no single value there."""
    at, _, step, value = innermost(graph, value)
    if step is None or value.inner is None:
        return
    path = join(above, without_copies(graph, at, of="equal"), step.copy(value.copy).path, value.spot)
    name, found = value.inner.member, inside.get(path)
    why = None if found is None else found.why_not(name)
    if found is None or why is None:
        return
    if why != "is not inside":
        once = [one for one in found.outputs if one.startswith(f"{name}.") and found.why_not(one) is None]
        listed = ", ".join(f"`{path}.{one}`" for one in once[:3])
        parts = f"its parts have values: {listed}" if once else None
        raise NotFound(f"`{path}.{name}` {why}, and has no single value", parts, name)
    if f"{path}()[{name}]" in kinds:
        further = f"`{{from: {path}, fork: Identity, take: {name}}}`"
        advice = f"write `take: {name}` in `{path}`, or select it in another step: {further}"
        if step.take == name:
            advice = f"write `{path}`, which takes `{name}`"
        elif step.take is not None:
            advice = (
                f"remove `take: {step.take}` from `{path}`, and select each part in another step, such as {further}"
            )
        raise NotFound(f"`{name}` is a part of the output of `{path}`", advice, name)
    fields = step.record.names if step.record is not None and not value.spot else ()
    what = "parts" if fields and not found.names else f"modules in `{path}`"
    message = f"`{path}` has no {'part' if what == 'parts' else 'module'} `{name}` inside"
    raise NotFound(message, suggest(name, [*fields, *found.names], what, most=12), name)
