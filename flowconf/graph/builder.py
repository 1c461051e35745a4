"""Graph documents written as Python: `flow("x", ["B", 784]).through("Linear(784, 128)").tag("hidden").build()`.

A `Flow` is an unfinished graph document, with the rules, errors and defaults of documents. It is immutable: each call
returns a new one, and two flows can continue from the same one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from flowconf.graph.build import build_graph, load_checkpoints
from flowconf.graph.graph import Graph
from flowconf.language.plan import GraphPlan
from flowconf.language.resolve import reserved_names
from flowconf.language.resolve.resolver import resolve
from flowconf.report import ConfigError, Diagnostic
from flowconf.text.documents import from_data
from flowconf.text.write import dump

InputSize = int | str
ParameterValue = bool | int | float | str | list[Any]
BodyLike = Any
"""A module: a call or chain as a string, a `Flow`, a mapping, or a module object."""


def flow(
    name: str = "x", shape: Sequence[InputSize] | None = None, dtype: str = "float32", *, label: str | None = None
) -> Flow:
    """A graph with one input and no steps yet.

    `shape` has integers, and strings for unknown sizes (`"B"`) and parameters. Without a shape the graph has one input
    `x`, and shapes are not checked before the first call.
    """
    if shape is not None:
        return Flow(label=label).input(name, shape, dtype)
    if name != "x" or dtype != "float32":
        message = f"the input `{name}` has no shape"
        raise ConfigError(Diagnostic("FC0122", message, path=name, advice=f'write `flow("{name}", ["B", ...])`'))
    return Flow(label=label)


@dataclass(frozen=True)
class Flow:
    """An unfinished graph document, created by `flow(...)`.

    Verbs (`through`, `also`, `fork`, `split`, `gate`, `switch`, `loop`, `map`, `graph`, `reuse`) add a step; modifiers
    (`tag`, `using`, `from_`, `take`, `repeat`, `freeze`, ...) apply to the previous step.

    `name=` names a step. The default is, in lower case, the first call of its chain, the class of its module object or
    the label of its graph, or else its verb: `linear`, then `linear_2`. Names that are in use are skipped.
    """

    label: str | None = None
    given_params: Mapping[str, ParameterValue] = field(default_factory=dict)
    given_inputs: Mapping[str, object] = field(default_factory=dict)
    steps: dict[str, object] = field(default_factory=dict)
    given_outputs: Mapping[str, str] = field(default_factory=dict)
    taken: Mapping[str, int] = field(default_factory=lambda: {"x": 1})
    """All names so far, with the last number appended to each."""

    # keys of the document

    def input(self, name: str, shape: Sequence[InputSize], dtype: str = "float32") -> Flow:
        """Add an input; the first is the stream, the others are read with `using` and `from_`."""
        _only_once("input", name, self.given_inputs)
        given: object = list(shape) if dtype == "float32" else {"shape": list(shape), "dtype": dtype}
        return replace(self, given_inputs={**self.given_inputs, name: given}, taken={**self.taken, name: 1})

    def params(self, **values: ParameterValue) -> Flow:
        """Add named values that calls can use by name."""
        for name in values:
            _only_once("parameter", name, self.given_params)
        return replace(self, given_params={**self.given_params, **values})

    def outputs(self, **references: str) -> Flow:
        """Set the outputs of the graph, name -> reference; the default is the last stream."""
        for name in references:
            _only_once("output", name, self.given_outputs)
        return replace(self, given_outputs={**self.given_outputs, **references})

    # verbs

    def through(self, module: BodyLike, *, name: str | None = None) -> Flow:
        """Apply a module to the stream."""
        return self._add(name, self._base(module, "through"), {"through": _written(module)})

    def also(self, module: BodyLike, *, skip: BodyLike = None, name: str | None = None) -> Flow:
        """Add the output of a module to the stream, or to the output of `skip`."""
        step = {"also": _written(module)} | ({} if skip is None else {"skip": _written(skip)})
        return self._add(name, self._base(module, "also"), step)

    def fork(self, module: BodyLike, *, name: str | None = None) -> Flow:
        """Apply a module without changing the stream; the output is available under the name of the step."""
        return self._add(name, self._base(module, "fork"), {"fork": _written(module)})

    def split(self, branches: Mapping[str, BodyLike], *, name: str | None = None) -> Flow:
        """Apply several modules to the stream; requires `merge` next for their outputs."""
        return self._add(name, "split", {"split": _all_written(branches)})

    def merge(self, how: str, dim: int | None = None) -> Flow:
        """Set how the branches of the previous split are merged: `add mean mul max cat stack`, or a call."""
        changed = self._say("merge", how)
        return changed if dim is None else changed._say("dim", dim)

    def gate(
        self,
        experts: Mapping[str, BodyLike],
        router: BodyLike,
        *,
        top: InputSize | None = None,
        name: str | None = None,
    ) -> Flow:
        """Run all experts, or the `top` ones of each row; the router weights their outputs."""
        step = {"gate": _all_written(experts), "router": _written(router)}
        return self._add(name, "gate", step if top is None else step | {"top": top})

    def switch(self, branches: Mapping[str, BodyLike], router: BodyLike, *, name: str | None = None) -> Flow:
        """Run the branch that the router selects, for the batch or for each row."""
        step = {"switch": _all_written(branches), "router": _written(router)}
        return self._add(name, "switch", step)

    def loop(
        self,
        body: BodyLike,
        times: InputSize | None = None,
        *,
        while_: BodyLike = None,
        until: BodyLike = None,
        max: InputSize | None = None,
        over: str | Mapping[str, str] | None = None,
        dim: int | None = None,
        name: str | None = None,
    ) -> Flow:
        """Apply a module repeatedly: a number of `times`, while or until a condition holds and at most `max` times, or
        once for each slice of `over` along `dim`, which is passed as an argument."""
        conditions = {"while": while_, "until": until}
        step: dict[str, object] = {"loop": _written(body)}
        step |= {key: _written(value) for key, value in conditions.items() if value is not None}
        given = {"times": times, "max": max, "over": dict(over) if isinstance(over, Mapping) else over, "dim": dim}
        step |= {key: value for key, value in given.items() if value is not None}
        return self._add(name, self._base(body, "loop"), step)

    def map(
        self,
        body: BodyLike,
        over: str | None = None,
        *,
        dim: int | None = None,
        batched: bool = False,
        slices: InputSize | None = None,
        name: str | None = None,
    ) -> Flow:
        """Apply a module to each slice along `dim` of `over` (default: the stream)."""
        step: dict[str, object] = {"map": _written(body)}
        step |= {key: value for key, value in (("over", over), ("dim", dim), ("slices", slices)) if value is not None}
        return self._add(name, self._base(body, "map"), step | ({"batched": True} if batched else {}))

    def graph(
        self, graph: BodyLike, with_: Mapping[str, ParameterValue] | None = None, *, name: str | None = None
    ) -> Flow:
        """Mount a graph, which only has access to the stream, `with_` and `using`."""
        step = {"graph": _written(graph)} | ({"with": dict(with_)} if with_ else {})
        return self._add(name, self._base(graph, "graph"), step)

    def reuse(self, path: str, *, name: str | None = None) -> Flow:
        """Apply the module of an earlier step again, with the same weights."""
        return self._add(name, path.rpartition(".")[2], {"reuse": path})

    # modifiers of the previous step

    def tag(self, name: str) -> Flow:
        """Add another name for the output of the step."""
        return self._say("tag", name)

    def labelled(self, name: str) -> Flow:
        """Set the name of the graph of the step in paths."""
        return self._say("label", name)

    def from_(self, reference: str) -> Flow:
        """Read this value instead of the stream."""
        return self._say("from", reference)

    def using(self, *references: str, **arguments: str) -> Flow:
        """Set further arguments of the module: references with the names of arguments, or argument -> reference."""
        if references and arguments:
            message = "`using` requires either references, or arguments with references, got both"
            raise ConfigError(Diagnostic("FC0123", message, path=self._last("using"), advice="name all arguments"))
        if arguments:
            return self._say("using", dict(arguments))
        return self._say("using", references[0] if len(references) == 1 else list(references))

    def take(self, key: int | str) -> Flow:
        """Select an element of a tuple or dict that the module returns."""
        return self._say("take", key)

    def repeat(self, count: InputSize, index: str | None = None) -> Flow:
        """Repeat the step as independent copies in series; `index` is a parameter with the number of each, from 0."""
        return self._say("repeat", count if index is None else {"times": count, "index": index})

    def freeze(self, params_only: bool = False) -> Flow:
        """Disable gradients for the weights of the step, and set evaluation mode unless `params_only`."""
        return self._say("frozen", "params" if params_only else True)

    def thaw(self) -> Flow:
        """Undo `freeze` for a part of something frozen."""
        return self._say("frozen", False)

    def init(self, **parameters: object) -> Flow:
        """Set initial values, by parameter; names with a dot require a mapping: `init(**{"0.weight": 0})`."""
        return self._say("init", dict(parameters))

    def checkpoint(self, source: str | Mapping[str, object]) -> Flow:
        """Set the source of the weights of the step."""
        return self._say("checkpoint", source if isinstance(source, str) else dict(source))

    def tie(self, **parameters: str) -> Flow:
        """Make parameters of the step other parameters of the graph: `tie(weight="embedded.weight")`."""
        return self._say("tie", dict(parameters))

    def follows(self, path: str, decay: float | Mapping[str, object]) -> Flow:
        """Make the parameters of the step moving averages of those of the step at `path`."""
        return self._say("follows", {"path": path, "decay": decay})

    def adapt(self, selector: str, name: str, **arguments: object) -> Flow:
        """Extend the modules of the graph that a selector means by adapters, and freeze its other parameters."""
        return self._say("adapt", {selector: {"name": name, **arguments}})

    # results

    def document(self) -> dict[str, Any]:
        """The graph document as plain data."""
        parts: dict[str, Any] = {
            "label": self.label,
            "params": dict(self.given_params),
            "inputs": dict(self.given_inputs),
            "flow": {name: _shortest(step) for name, step in self.steps.items()},
            "outputs": dict(self.given_outputs),
        }
        return {key: part for key, part in parts.items() if part or key == "flow"}

    def yaml(self) -> str:
        """The document as YAML. Raises `ConfigError` for a flow with a module object."""
        document = self.document()
        held = _first_object(document["flow"])
        if held is not None:
            path, module = held
            message = f"`{path}` is a `{type(module).__name__}` object, which cannot be written as YAML"
            raise ConfigError(Diagnostic("FC0146", message, path=path, advice="register its class and call it"))
        return dump(document)

    def plan(self, origin: str | None = None) -> GraphPlan:
        """The resolved document. Raises `ConfigError`; `origin` is the place of its errors."""
        return resolve(from_data(self.document(), origin))

    def build(self, *, weights: bool = True, runs: str = "runs", origin: str | None = None) -> Graph:
        """Build the graph, like `flowconf.build` for the document. Raises `ConfigError`."""
        plan = self.plan(origin)
        graph = build_graph(plan)
        if weights:
            load_checkpoints(graph, plan, runs)
        return graph

    def _add(self, name: str | None, base: str, step: Mapping[str, object]) -> Flow:
        """Add a step with the name `name`, or a free name from `base` if that is None."""
        if name is not None:
            _only_once("step", name, self.steps)
            return replace(self, steps={**self.steps, name: step}, taken={**self.taken, name: 1})
        name, number = free_name(base, self.taken)
        return replace(self, steps={**self.steps, name: step}, taken={**self.taken, base: number, name: 1})

    def _say(self, key: str, value: object) -> Flow:
        name = self._last(key)
        step = self.steps[name]
        assert isinstance(step, Mapping)
        if key in step:
            message = f"`{key}` is set twice for `{name}`"
            raise ConfigError(Diagnostic("FC0142", message, path=name, advice="keep one"))
        taken = {**self.taken, value: 1} if key in NAMING and isinstance(value, str) else self.taken
        return replace(self, steps={**self.steps, name: {**step, key: value}}, taken=taken)

    def _last(self, key: str) -> str:
        if not self.steps:
            message = f"`{key}` applies to the previous step, but there is none"
            raise ConfigError(Diagnostic("FC0144", message, advice="add a step first, for example with `through`"))
        return next(reversed(self.steps))

    @staticmethod
    def _base(module: BodyLike, verb: str) -> str:
        """The base of the default name of a step."""
        if isinstance(module, str) and verb != "graph":
            found = re.match(r"\s*([A-Za-z_]\w*)", module)
            return snake(found[1]) if found else verb
        if isinstance(module, nn.Module):
            return snake(type(module).__name__)
        return (module.label if isinstance(module, Flow) else None) or verb


NAMING = ("tag", "label")


def snake(name: str) -> str:
    """The name of a class in snake case: `BatchNorm2d` -> `batch_norm2d`, `GRUCell` -> `gru_cell`, `ReLU` -> `relu`."""
    name = re.sub(r"[PR]?(Re|Si)LU", lambda match: match[0].capitalize(), name)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower().strip("_") or "step"


def free_name(base: str, taken: Mapping[str, int]) -> tuple[str, int]:
    """The first of `base`, `base_2`, `base_3`, ... that is free and allowed for a step, and its number.

    `taken` maps each name to the last number appended to it.
    """
    number = taken.get(base, 0) + 1
    stem = f"{base}_" if reserved_names.refusal(base) else base
    name = stem if number == 1 else f"{base}_{number}"
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    return name, number


def _only_once(kind: str, name: str, known: Mapping[str, object]) -> None:
    if name in known:
        message = f"duplicate {kind} `{name}`"
        raise ConfigError(Diagnostic("FC0142", message, path=name, advice="rename one of them"))


def _written(body: BodyLike) -> object:
    """A body as plain data."""
    if isinstance(body, Flow):
        return body.document()
    if isinstance(body, type):
        message = f"expected a module or a call as a string, got the class `{body.__name__}`"
        raise ConfigError(Diagnostic("FC0123", message, advice=f'write `"{body.__name__}(...)"`'))
    return dict(body) if isinstance(body, Mapping) else body


def _all_written(branches: Mapping[str, BodyLike]) -> dict[str, object]:
    return {name: _written(body) for name, body in branches.items()}


def _shortest(step: object) -> object:
    """The short form of a step with only a call."""
    if isinstance(step, Mapping) and list(step) == ["through"] and not isinstance(step["through"], dict):
        return step["through"]
    return step


def _first_object(data: object, path: str = "") -> tuple[str, object] | None:
    if isinstance(data, Mapping | list):
        items = data.items() if isinstance(data, Mapping) else enumerate(data)
        found = (_first_object(value, f"{path}.{key}" if path else str(key)) for key, value in items)
        return next((one for one in found if one is not None), None)
    return None if data is None or isinstance(data, bool | int | float | str) else (path, data)
