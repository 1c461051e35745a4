"""The graph document as Pydantic models: which keys there are, and what may stand under each.

Meaning is not decided here: `resolve` reads these models and makes the Plan. Each verb has a model of its own, so a key
that means nothing for a verb is refused, and the JSON Schema that editors read says the same.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from flowconf.language.training import REMOVABLE, Section, named_in, without_removed
from flowconf.language.value_types import Identifier, InWords, Reference

NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"

MERGES = ("add", "mean", "mul", "max", "cat", "stack")

Name = Identifier
CallText = Annotated[str, named_in("modules")]
Number = int | float
ParameterValue = bool | int | float | str | list[Any]
Size = int | str


class Model(Section):
    """What all models of a graph document share: keys that are Python words are written with a trailing `_` here."""

    model_config = ConfigDict(arbitrary_types_allowed=True)


def _kind_of_using(value: object) -> str:
    return "<list>" if isinstance(value, list) else "<mapping>" if isinstance(value, dict) else "<text>"


Using = Annotated[
    Annotated[Reference, Tag("<text>")]
    | Annotated[list[Reference], Tag("<list>")]
    | Annotated[dict[Name, Reference], Tag("<mapping>")],
    Discriminator(_kind_of_using),
    InWords("a reference, a list of them, or a mapping"),
]


class CheckpointSource(Model):
    """Where the weights of a subgraph come from; give `path` or `config`."""

    path: str | None = None
    """A `.safetensors` or `.pt` file, a folder of checkpoints, or a run folder (its best checkpoint)."""
    config: str | None = None
    """A training config beside this file: its newest finished run, which is trained first when there is none."""
    at: str | None = None
    """Take only this path of the source."""
    rename: dict[str, str] = {}
    """Old prefix -> new prefix, for names that differ."""
    missing: Literal["error", "warn", "ignore"] = "error"
    """What to do when a tensor of the graph is not in the source."""
    unused: Literal["error", "warn", "ignore"] = "warn"
    """What to do when a tensor of the source is not in the graph."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Refuse any file with another SHA-256 digest."""


def _kind_of_checkpoint(value: object) -> str:
    return "<mapping>" if isinstance(value, dict | CheckpointSource) else "<text>"


CheckpointKey = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[CheckpointSource, Tag("<mapping>")],
    Discriminator(_kind_of_checkpoint),
    InWords("a path or a mapping"),
]


class Scaled(Model):
    """Multiply what the module drew."""

    scale: Number
    """The factor."""


def _kind_of_start(value: object) -> str:
    if isinstance(value, dict | Scaled):
        return "<scaled>"
    return "<list>" if isinstance(value, list) else "<text>" if isinstance(value, str) else "<number>"


How = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[Number, Tag("<number>")]
    | Annotated[list[Any], Tag("<list>")]
    | Annotated[Scaled, Tag("<scaled>")],
    Discriminator(_kind_of_start),
]


class Settings(Model):
    """What may be said of the modules at a path."""

    label: Name | None = None
    """The name of a nested graph in paths; default: the step's name."""
    frozen: bool | Literal["params"] | None = None
    """`true`: no gradients and evaluation mode below; `params`: no gradients only; `false` thaws a part."""
    init: dict[str, How] = {}
    """Parameter -> how it starts: a call from torch.nn.init, a number, a list, or `{scale: factor}`."""
    checkpoint: CheckpointKey | None = None
    """Where these weights come from."""


class Modifiers(Settings):
    """The keys that every step may have beside its verb."""

    verb: ClassVar[str]

    from_: Annotated[Reference | None, Field(alias="from")] = None
    """Read this instead of the previous step."""
    using: Using | None = None
    """Further arguments of the module: a reference, a list of them, or argument -> reference."""
    take: int | str | None = None
    """Pick one element of a tuple or dict output."""
    tag: Name | None = None
    """One more name for the step's output."""
    repeat: Size | None = None
    """The number of independent copies of the step, which run in series."""
    after: Name | None = None
    """Run after this member of the flow."""
    before: Name | None = None
    """Run before this member of the flow."""


class InputSpec(Model):
    """An input's shape and type."""

    shape: list[Size]
    """Sizes: numbers, parameters, arithmetic on them, or symbols that begin with a capital letter (`B`, `T`)."""
    dtype: str = "float32"
    """The name of a torch dtype, such as `int64`."""


def _kind_of_input(value: object) -> str:
    return "<mapping>" if isinstance(value, dict | InputSpec) else "<list>"


InputKey = Annotated[
    Annotated[list[Size], Tag("<list>")] | Annotated[InputSpec, Tag("<mapping>")], Discriminator(_kind_of_input)
]


class GraphDocument(Model):
    """A graph: its inputs, its flow, and what it gives back."""

    label: Name | None = None
    """Its name in its parent's paths; default: the step that mounts it."""
    params: dict[Name, ParameterValue] = {}
    """Named values that any call of this graph may use."""
    inputs: dict[Name, InputKey] | None = None
    """Name -> shape, in call order; the first is the stream. Default: one input called `x`."""
    flow: Annotated[dict[Name, Step | None], Field(min_length=1)]
    """The steps in order, each under its name; null removes a member."""
    outputs: dict[Name, Reference] | None = None
    """Name -> reference; default: the last step."""


class InlineBody(GraphDocument, Settings):
    """A graph written where a module may stand; it sees the names and parameters around it."""


class CallBody(Settings):
    """A module with something said about it."""

    through: CallText
    """The module, or a chain of them."""


class MountedBody(Settings):
    """A graph from a file or group, where a module may stand."""

    graph: GraphReference
    """A graph document, the name of one (`encoder`), or a file beside this file."""
    with_: Annotated[dict[Name, ParameterValue], Field(alias="with")] = {}
    """Values for the graph's parameters."""


def _kind_of_graph(value: object) -> str:
    return "<text>" if isinstance(value, str) else "<document>"


GraphReference = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[GraphDocument, Tag("<document>")], Discriminator(_kind_of_graph)
]


def _kind_of_body(value: object) -> str | None:
    if isinstance(value, str):
        return "<call>"
    if isinstance(value, dict):
        kinds = {"graph": "<mounted>", "flow": "<inline>", "through": "<settled>"}
        return next((kind for key, kind in kinds.items() if key in value), None)
    if isinstance(value, CallBody | MountedBody | InlineBody):
        return {CallBody: "<settled>", MountedBody: "<mounted>", InlineBody: "<inline>"}[type(value)]
    return None if value is None or isinstance(value, int | float | list) else "<instance>"


Body = Annotated[
    Annotated[CallText, Tag("<call>")]
    | Annotated[InlineBody, Tag("<inline>")]
    | Annotated[MountedBody, Tag("<mounted>")]
    | Annotated[CallBody, Tag("<settled>")]
    | Annotated[Any, Tag("<instance>")],
    Discriminator(_kind_of_body, custom_error_type="body", custom_error_message="a body"),
]


Branches = Annotated[dict[Name, Body], REMOVABLE, BeforeValidator(without_removed)]
"""Branch -> module; null removes one."""


class Through(Modifiers):
    """The stream goes through a module."""

    verb: ClassVar[str] = "through"
    through: Body
    """The module."""


class Also(Modifiers):
    """The output of a module is added to the stream."""

    verb: ClassVar[str] = "also"
    also: Body
    """The module whose output is added."""
    skip: Body | None = None
    """A module for the other branch, instead of the stream itself."""


class Fork(Modifiers):
    """A module reads the stream, which goes on unchanged."""

    verb: ClassVar[str] = "fork"
    fork: Body
    """The module; the step's name holds its output."""


class Split(Modifiers):
    """Several modules read the stream, and their outputs are merged."""

    verb: ClassVar[str] = "split"
    split: Branches
    """Branch -> module."""
    merge: Annotated[str, Field(examples=list(MERGES))]
    """`add`, `mean`, `mul`, `max`, `cat`, `stack`, or a module that takes the list."""
    dim: int | None = None
    """The dimension of `cat` and `stack`; default: 1."""


class Gate(Modifiers):
    """All experts run; a router weighs their outputs."""

    verb: ClassVar[str] = "gate"
    gate: Branches
    """Expert -> module."""
    router: Body
    """A module whose last axis holds one weight for each expert."""


class Switch(Modifiers):
    """A router chooses the branch that runs."""

    verb: ClassVar[str] = "switch"
    switch: Branches
    """Branch -> module."""
    router: Body
    """A module that gives one index, or one for each row."""


class Loop(Modifiers):
    """A module is applied again and again, with the same weights."""

    verb: ClassVar[str] = "loop"
    loop: Body
    """What happens in each iteration."""
    times: Size | None = None
    """The number of iterations."""
    while_: Annotated[Body | None, Field(alias="while")] = None
    """Stop once this module's output, one number, is positive; tested before the body."""
    until: Body | None = None
    """Stop once this module's output, one number, is positive; tested after the body."""
    max: Size | None = None
    """The largest number of iterations of a conditional loop."""
    over: Using | None = None
    """Once for each slice of a value, which the body takes as an argument, written as under `using`."""
    dim: int | None = None
    """The dimension of `over` that is sliced; default: 1."""


class Map(Modifiers):
    """A module is applied to each slice of a tensor."""

    verb: ClassVar[str] = "map"
    map: Body
    """What happens to each slice."""
    over: Reference | None = None
    """What is sliced; default: the stream."""
    dim: int | None = None
    """The dimension that is sliced; default: 1."""
    batched: bool = False
    """Fold the slices into the batch: one call of the module."""
    slices: Size | None = None
    """The number of pieces that the last axis is cut into instead; they are joined again."""


class Graph(Modifiers):
    """A graph stands here."""

    verb: ClassVar[str] = "graph"
    graph: GraphReference
    """A graph document, the name of one (`encoder`), or a file beside this file."""
    with_: Annotated[dict[Name, ParameterValue], Field(alias="with")] = {}
    """Values for the graph's parameters."""


class Reuse(Modifiers):
    """An earlier module once more, with the same weights."""

    verb: ClassVar[str] = "reuse"
    reuse: str
    """The path of the earlier step."""


STEPS: dict[str, type[Modifiers]] = {
    model.verb: model for model in (Through, Also, Fork, Split, Gate, Switch, Loop, Map, Graph, Reuse)
}
VERBS = tuple(STEPS)


def _kind_of_step(value: object) -> str | None:
    if isinstance(value, Modifiers):
        return f"<{type(value).__name__.lower()}>"
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
    """The keys of a model as they are written in a document."""
    return [field.alias or name for name, field in model.model_fields.items()]


MODIFIERS = tuple(keys_of(Modifiers))
STEP_KEYS = tuple(dict.fromkeys(key for model in STEPS.values() for key in keys_of(model)))
