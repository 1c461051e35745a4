"""Pydantic models of graph documents: their keys, and the types of values.

The models are not interpreted here; `resolve` turns them into a Plan. Each verb has a separate model, so that keys that
do not apply to a verb are rejected, also by the JSON Schema for editors.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from flowconf.language.changing import Changing, of_fractions
from flowconf.language.section import RULE, Removable, Section, by_form
from flowconf.language.training import OpenSection, named_in
from flowconf.language.value_types import LARGEST, Finite, Identifier, InWords, Reference
from flowconf.language.weight_source import CheckpointKey

NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"

MERGES = ("add", "mean", "mul", "max", "cat", "stack")

Name = Identifier
CallText = Annotated[str, named_in("modules")]


def in_bounds(value: Any) -> Any:
    """The value, if its finite numbers are below `LARGEST`, also those in lists."""
    for item in value if isinstance(value, list) else ():
        in_bounds(item)
    if isinstance(value, int | float) and LARGEST <= abs(value) < math.inf:
        raise PydanticCustomError(RULE, f"`{value}` is too large for a number")
    return value


Number = Annotated[int | Finite, AfterValidator(in_bounds)]
ParameterValue = Annotated[bool | int | float | str | list[Any], AfterValidator(in_bounds)]
Size = Annotated[int | str, InWords("an integer or an expression of parameters")]


class Model(Section):
    """The base of all models of a graph document; fields for keys that are Python keywords have a trailing `_`."""

    model_config = ConfigDict(arbitrary_types_allowed=True)


Using = Annotated[
    Annotated[Reference, Tag("<text>")]
    | Annotated[list[Reference], Tag("<list>")]
    | Annotated[dict[Name, Reference], Tag("<mapping>")],
    by_form("<list>", "<mapping>", "<text>"),
    InWords("a reference, a list of them, or a mapping"),
]


class Scaled(Model):
    """Multiply the default initial values of the module."""

    scale: Number
    """The factor."""


How = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[Number, Tag("<number>")]
    | Annotated[list[Any], AfterValidator(in_bounds), Tag("<list>")]
    | Annotated[Scaled, Tag("<scaled>")],
    by_form("<scaled>", "<list>", "<text>", "<number>"),
    InWords("a number, a list of numbers, a function of `torch.nn.init`, or `{scale: NUMBER}`"),
]


Decay = Annotated[
    Annotated[float, Field(ge=0, lt=1), Tag("<number>")]
    | Annotated[Changing, AfterValidator(of_fractions), Tag("<mapping>")],
    by_form("<mapping>", "<number>"),
    InWords("a number of at least 0 and below 1, or a mapping such as `{cosine: {from: 0.996, to: 1}}`"),
]


class Follows(Model):
    """Another member, whose parameters are averaged."""

    path: str
    """The path of the other member, which has the same parameters."""
    decay: Decay
    """The part of the average that each step keeps, such as 0.996, or a schedule over the run, such as
    `{cosine: {from: 0.996, to: 1}}`. Outside of a run, it is the value at the start."""


class Adapt(OpenSection):
    """An adapter and its arguments."""

    name: Annotated[str, named_in("adapters")]
    """The registered name of the adapter, such as `lora`."""


class Settings(Model):
    """Settings of the modules at a path."""

    label: Name | None = None
    """The name of a nested graph in paths; default: the name of the step."""
    frozen: bool | Literal["params"] | None = None
    """`true`: no gradients, and evaluation mode; `params`: only no gradients; `false`: not frozen."""
    init: dict[str, How] = {}
    """Parameter -> initial value: a function of torch.nn.init, a number, a list, or `{scale: factor}`."""
    checkpoint: CheckpointKey | None = None
    """The source of these weights."""
    tie: dict[str, str] = {}
    """Parameter -> another parameter of the graph, which it is: one tensor with both names."""
    follows: Follows | None = None
    """Another member: the parameters are moving averages of those of that member, without gradients."""
    adapt: Removable[dict[str, Adapt]] = {}
    """Selector -> an adapter for the modules of the graph that it selects, whose other parameters are frozen."""


class Copies(Model):
    """Copies in series, with their number as a parameter of each."""

    times: Size
    """The number of copies."""
    index: Name
    """The parameter of each copy that has its number, from 0: `dilation=2**i` for `index: i`."""


Repeat = Annotated[
    Annotated[int, Tag("<number>")] | Annotated[str, Tag("<text>")] | Annotated[Copies, Tag("<mapping>")],
    by_form("<mapping>", "<number>", "<text>"),
    InWords("an integer, an expression of parameters, or a mapping of `times` and `index`"),
]


class Modifiers(Settings):
    """The keys that all steps can have besides their verb."""

    verb: ClassVar[str]

    from_: Annotated[Reference | None, Field(alias="from")] = None
    """Read this instead of the previous step."""
    using: Using | None = None
    """Further arguments of the module: a reference, a list of them, or argument -> reference."""
    take: int | str | None = None
    """Select one element of a tuple or dict output."""
    tag: Name | None = None
    """Another name for the output of the step."""
    repeat: Repeat | None = None
    """The number of independent copies of the step, in series; with `times` and `index`, each copy has its number."""
    after: Name | None = None
    """Place this step after another step of the flow."""
    before: Name | None = None
    """Place this step before another step of the flow."""


class InputSpec(Model):
    """The shape and type of an input."""

    shape: Annotated[list[Size], InWords("a list of sizes")]
    """Sizes: integers, parameters, arithmetic on them, or symbols that begin with a capital letter (`B`, `T`)."""
    dtype: str = "float32"
    """The name of a torch dtype, such as `int64`."""


InputKey = Annotated[
    Annotated[list[Size], Tag("<list>")] | Annotated[InputSpec, Tag("<mapping>")],
    by_form("<mapping>", "<list>"),
    InWords("a list of sizes, or a mapping"),
]


class GraphDocument(Model):
    """A graph: its inputs, flow and outputs."""

    label: Name | None = None
    """Its name in the paths of its parent; default: the step that mounts it."""
    params: dict[Name, ParameterValue] = {}
    """Named values for the calls of this graph."""
    inputs: dict[Name, InputKey] | None = None
    """Name -> shape, in call order; the first is the stream. Default: one input `x`."""
    flow: Annotated[dict[Name, Step | None], Field(min_length=1)]
    """Name -> step, in order; null removes a step."""
    outputs: dict[Name, Reference] | None = None
    """Name -> reference; default: the last step."""


class InlineBody(GraphDocument, Settings):
    """A graph written inline as a module, with access to the names and parameters of the surrounding graph."""


class CallBody(Settings):
    """A module with settings."""

    through: CallText
    """A module, or a chain of modules."""


class MountedBody(Settings):
    """A graph from a file or group, as a module."""

    graph: GraphReference
    """A graph document, its name (`encoder`), or a file relative to this one."""
    with_: Annotated[dict[Name, ParameterValue], Field(alias="with")] = {}
    """Values for the parameters of the graph."""


GraphReference = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[GraphDocument, Tag("<document>")], by_form("<text>", "<document>")
]


def _kind_of_body(value: object) -> str | None:
    if isinstance(value, str):
        return "<call>"
    if isinstance(value, dict):
        kinds = {"graph": "<mounted>", "flow": "<inline>", "through": "<settled>"}
        return next((kind for key, kind in kinds.items() if key in value), None)
    return None if value is None or isinstance(value, int | float | list) else "<instance>"


Body = Annotated[
    Annotated[CallText, Tag("<call>")]
    | Annotated[InlineBody, Tag("<inline>")]
    | Annotated[MountedBody, Tag("<mounted>")]
    | Annotated[CallBody, Tag("<settled>")]
    | Annotated[Any, Tag("<instance>")],
    Discriminator(_kind_of_body, custom_error_type="body", custom_error_message="a body"),
]


Branches = Removable[dict[Name, Body]]
"""Branch -> module; null removes one."""


class Through(Modifiers):
    """Apply a module to the stream."""

    verb: ClassVar[str] = "through"
    through: Body
    """The module."""


class Also(Modifiers):
    """Add the output of a module to the stream."""

    verb: ClassVar[str] = "also"
    also: Body
    """The module whose output is added."""
    skip: Body | None = None
    """A module for the skip connection; default: the stream unchanged."""


class Fork(Modifiers):
    """Apply a module without changing the stream."""

    verb: ClassVar[str] = "fork"
    fork: Body
    """The module; its output is available under the name of the step."""


class Split(Modifiers):
    """Apply several modules to the stream, and merge their outputs."""

    verb: ClassVar[str] = "split"
    split: Branches
    """Branch -> module."""
    merge: Annotated[str, Field(examples=list(MERGES))]
    """`add`, `mean`, `mul`, `max`, `cat`, `stack`, or a module that accepts a list."""
    dim: int | None = None
    """The dimension of `cat` and `stack`; default: 1."""


class Gate(Modifiers):
    """Run all experts; a router weights their outputs."""

    verb: ClassVar[str] = "gate"
    gate: Branches
    """Expert -> module."""
    router: Body
    """A module that returns one weight for each expert in the last dimension."""
    top: Size | None = None
    """Run only this number of experts for each row, those with the largest weights; default: all."""


class Switch(Modifiers):
    """Run the branch that a router selects."""

    verb: ClassVar[str] = "switch"
    switch: Branches
    """Branch -> module."""
    router: Body
    """A module that returns one index, or one for each row."""


class Loop(Modifiers):
    """Apply a module repeatedly, with the same weights."""

    verb: ClassVar[str] = "loop"
    loop: Body
    """The module for each iteration."""
    times: Size | None = None
    """The number of iterations."""
    while_: Annotated[Body | None, Field(alias="while")] = None
    """A module that returns a single number; stop when it is positive, tested before the body."""
    until: Body | None = None
    """A module that returns a single number; stop when it is positive, tested after the body."""
    max: Size | None = None
    """The maximum number of iterations of a conditional loop."""
    over: Using | None = None
    """Iterate over the slices of values, which are passed to the body as arguments; the syntax is that of `using`."""
    dim: int | None = None
    """The dimension of `over` that is sliced; default: 1."""


class Map(Modifiers):
    """Apply a module to each slice of a tensor."""

    verb: ClassVar[str] = "map"
    map: Body
    """The module for each slice."""
    over: Reference | None = None
    """The tensor to slice; default: the stream."""
    dim: int | None = None
    """The dimension to slice; default: 1."""
    batched: bool = False
    """Fold the slices into the batch: one call of the module."""
    slices: Size | None = None
    """Split the last dimension into this number of equal slices instead, and concatenate the results."""


class Graph(Modifiers):
    """Mount a graph."""

    verb: ClassVar[str] = "graph"
    graph: GraphReference
    """A graph document, its name (`encoder`), or a file relative to this one."""
    with_: Annotated[dict[Name, ParameterValue], Field(alias="with")] = {}
    """Values for the parameters of the graph."""


class Reuse(Modifiers):
    """Apply an earlier module again, with the same weights."""

    verb: ClassVar[str] = "reuse"
    reuse: str
    """The path of the earlier step."""


STEPS: dict[str, type[Modifiers]] = {
    model.verb: model for model in (Through, Also, Fork, Split, Gate, Switch, Loop, Map, Graph, Reuse)
}
VERBS = tuple(STEPS)


def _kind_of_step(value: object) -> str | None:
    if isinstance(value, dict):
        verbs = [verb for verb in VERBS if verb in value]
        return f"<{verbs[0]}>" if len(verbs) == 1 else None
    return _kind_of_body(value)


Step = Annotated[
    Annotated[CallText, Tag("<call>")]
    | Annotated[Through, Tag("<through>")]
    | Annotated[Also, Tag("<also>")]
    | Annotated[Fork, Tag("<fork>")]
    | Annotated[Split, Tag("<split>")]
    | Annotated[Gate, Tag("<gate>")]
    | Annotated[Switch, Tag("<switch>")]
    | Annotated[Loop, Tag("<loop>")]
    | Annotated[Map, Tag("<map>")]
    | Annotated[Graph, Tag("<graph>")]
    | Annotated[Reuse, Tag("<reuse>")]
    | Annotated[Any, Tag("<instance>")],
    Discriminator(_kind_of_step, custom_error_type="step", custom_error_message="a step"),
]


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys of a model, as in a document."""
    return [field.alias or name for name, field in model.model_fields.items()]


MODIFIERS = tuple(keys_of(Modifiers))
STEP_KEYS = tuple(dict.fromkeys(key for model in STEPS.values() for key in keys_of(model)))
