"""The training sections of a config as Pydantic models: everything in a training config but `model`.

Unknown keys are refused everywhere, except that `data`, `optimizer` and `schedule` hold the arguments of what they name
beside the keys given here; those arguments are checked against the signature of the named thing (`check_training`).
A member of `loss`, `metrics` or `optimizer.groups` that is null is removed: that is how a pivot takes one away.
The JSON Schema of the config is made from these models, so the texts under the fields are what an editor shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from flowconf.language.value_types import Count, Factor, Finite, Fraction, Identifier, InWords, Positive, Reference


def without_removed(members: object) -> object:
    if isinstance(members, dict):
        return {name: member for name, member in members.items() if member is not None}
    return members


def _kind_of_references(value: object) -> str:
    return "<list>" if isinstance(value, list) else "<text>"


def _kind_of_value(value: object) -> str:
    return "<number>" if isinstance(value, int) else _kind_of_references(value)


def _number_or_mapping(value: object) -> str:
    return "<mapping>" if isinstance(value, dict | BaseModel) else "<number>"


References = Annotated[
    Annotated[Reference, Tag("<text>")] | Annotated[list[Reference], Field(min_length=1), Tag("<list>")],
    Discriminator(_kind_of_references),
    InWords("a reference or a list of them"),
]
Paths = Annotated[References, InWords("a path or a list of them")]
Devices = Annotated[
    Annotated[str, Field(pattern=r"^(auto|cpu|cuda|cuda:\d+|mps)$"), Tag("<text>")]
    | Annotated[Positive, Tag("<number>")]
    | Annotated[list[Count], Field(min_length=1), Tag("<list>")],
    Discriminator(_kind_of_value),
    InWords("`auto`, a number of devices, a list such as `[0, 1]`, `cpu`, `cuda`, `cuda:0` or `mps`"),
]
Shares = Annotated[
    Annotated[Literal["auto"], Tag("<text>")]
    | Annotated[list[Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(min_length=1), Tag("<list>")],
    Discriminator(_kind_of_references),
    InWords("`auto`, or a list with a number for each device"),
]


def named_in(table: str) -> Any:
    """A text that is a name of a registry table; the JSON Schema offers these names."""
    return Field(json_schema_extra={"names": table})


REMOVABLE = Field(json_schema_extra={"removable": True})
"""Marks a mapping whose members null removes."""


class Section(BaseModel):
    """What all sections share: no unknown keys, no guessing of types, nothing changes once it is read.

    A model is built when something is first held against it, together with all that it contains.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class OpenSection(Section):
    """A section that names a registered thing and holds that thing's arguments beside its own keys."""

    model_config = ConfigDict(extra="allow")

    @property
    def args(self) -> dict[str, Any]:
        """The arguments of the named thing: every key that is not one of the section's own."""
        return dict(self.model_extra or {})


class DataSection(OpenSection):
    """Which data set, how it is batched, and the data set's own arguments."""

    name: Annotated[str, named_in("datasets")]
    """The data set's registered name, such as `digits`."""
    batch_size: Positive = 64
    """Rows in one batch of training."""
    evaluation_batch_size: Positive | None = None
    """Rows in one batch of validation and test; null: four times `batch_size`, for no gradients are kept."""
    drop_last: bool = False
    """Leave out the last batch of an epoch when it has fewer than `batch_size` rows."""
    workers: Count = 0
    """Processes that make batches ahead of the steps; 0: the process itself makes them. Sets that are resident on the
    device need none. Results do not depend on it."""
    prefetch: Positive = 2
    """Batches that each worker makes ahead."""


class MetricSection(Section):
    """A value that is averaged over every element of a split."""

    fn: Annotated[str, named_in("metrics")]
    """The registered name of the function, such as `accuracy`, or the class name of a torchmetrics metric."""
    input: References
    """A reference, or a list of them: a step, a tag, a path anywhere in the tree, or a field of the batch."""
    target: References | None = None
    """What the input is compared with: references of the same kind; null when the function takes none."""
    mask: Annotated[Reference, InWords("one reference")] | None = None
    """A reference to the weights of the elements (booleans or numbers), broadcast from the left; null: all count."""
    args: dict[str, Any] = {}
    """Further arguments of the function, by name."""


class Ramp(Section):
    """A number that goes from one value to another during a part of the run, and stays where it is before and after."""

    start: Finite = Field(alias="from")
    """The value until the part begins."""
    to: Finite
    """The value from the end of the part on."""
    after: Fraction = 0.0
    """Where the part begins, as a fraction of the run's steps."""
    over: Annotated[float, Field(gt=0, le=1)] = 1.0
    """How long the part is, as a fraction of the run's steps."""


class Stairs(Section):
    """A number that jumps."""

    values: Annotated[list[Finite], Field(min_length=1)]
    """The values one after the other: one more than the jumps."""
    at: list[Fraction]
    """Where it jumps, as fractions of the run's steps, in rising order."""


class Changing(Section):
    """A number that changes over the run. Exactly one key says how."""

    linear: Ramp | None = None
    """A straight line, such as `{linear: {from: 0, to: 1, over: 0.5}}`."""
    cosine: Ramp | None = None
    """Half a cosine: slow, fast, slow."""
    steps: Stairs | None = None
    """Jumps, such as `{steps: {values: [1, 0.1], at: [0.75]}}`."""


Weight = Annotated[
    Annotated[Finite, Tag("<number>")] | Annotated[Changing, Tag("<mapping>")],
    Discriminator(_number_or_mapping),
    InWords("a number, or a mapping such as `{linear: {from: 1, to: 0}}`"),
]


class LossSection(MetricSection):
    """One term of the loss: the mean of a function over the elements of a batch, times `weight`."""

    fn: Annotated[str, named_in("losses")]
    """The registered name of the function, such as `cross_entropy`."""
    weight: Weight = 1.0
    """The factor of this term in the sum of all terms: a number, or how it changes over the run. An evaluation takes
    the number, or the last value, so that evaluations can be compared."""
    updates: Paths | None = None
    """Paths: the gradient of this term reaches the parameters below them and no others; null means all. Each different
    set of paths takes a backward pass of its own."""


class Trend(Section):
    """A value of the validation split, watched over the evaluations since the last change of phase."""

    metric: str
    """The value: `val/loss`, `val/loss/TERM` or `val/METRIC`."""
    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """How long it is watched: the evaluations of the last `epochs` epochs."""
    by: Factor = 0.0
    """By how much a value has to be better to count as better."""


class Convergence(Section):
    """A value of the validation split that hardly moves."""

    metric: str
    """The value: `val/loss`, `val/loss/TERM` or `val/METRIC`."""
    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """How long it is watched: the evaluations of the last `epochs` epochs."""
    within: Factor = 0.01
    """How far the largest and smallest value of that time may be apart, as a fraction of their mean."""


class Condition(Section):
    """A point of a run. Exactly one key says which."""

    epoch: Factor | None = None
    """After so many epochs from the start of the run."""
    step: Count | None = None
    """After so many steps from the start of the run."""
    fraction: Fraction | None = None
    """After this fraction of the run's steps."""
    stalled: Trend | None = None
    """When the last epochs brought nothing better than the time before them."""
    improving: Trend | None = None
    """When the last epochs brought something better than the time before them."""
    converged: Convergence | None = None
    """When the value has hardly moved in the last epochs."""


class PhaseSection(Section):
    """A part of a run and what is different in it. Phases come one after the other, in the order they are written.

    A phase begins when the one before it has ended, or at its own `when`. It goes on until its `until`, or until the
    next one begins. What it says holds while it lasts; outside of all phases the rest of the config holds alone.
    """

    when: Condition | None = None
    """Where it begins; null: where the phase before it ends, or at the start of the run."""
    until: Condition | None = None
    """Where it ends; null: where the next phase begins, or at the end of the run."""
    freeze: Paths | None = None
    """Paths that are frozen meanwhile: no gradients, and evaluation mode."""
    thaw: Paths | None = None
    """Paths that are not frozen meanwhile."""
    lr: Annotated[
        Annotated[Factor, Tag("<number>")] | Annotated[dict[str, Factor], Tag("<mapping>")],
        Discriminator(_number_or_mapping),
    ] = 1.0
    """A factor of the learning rate, or one for each path; the nearest path above a parameter wins."""
    loss: dict[Identifier, Weight] = {}
    """Term -> its weight meanwhile. A term whose weight is 0 does not run."""


class OptimizerSection(OpenSection):
    """The optimizer and its arguments, as torch names them."""

    name: Annotated[str, named_in("optimizers")] = "adamw"
    """The registered name of the optimizer, such as `adamw`."""
    groups: Annotated[dict[str, dict[str, Any]], REMOVABLE, BeforeValidator(without_removed)] = {}
    """Label path -> arguments that differ for the parameters below it, such as `{letter.read: {lr: 1.0e-4}}`.
    The nearest path above a parameter wins."""


class ScheduleSection(OpenSection):
    """The learning rate over the steps, as a factor of the optimizer's `lr`, and the arguments of its shape."""

    name: Annotated[str, named_in("schedules")] = "constant"
    """The registered name of the shape, such as `cosine`."""
    warmup: Count = 0
    """Steps in which the factor first rises linearly to 1; 0 means none. The shape spans the steps after them."""


class ProfileSection(Section):
    """Which steps are measured. The steps before and after them run as if nothing were."""

    wait: Count = 10
    """Steps before anything is measured."""
    warmup: Positive = 2
    """Steps that are measured and left out: they pay for caches, and the first one counts operations."""
    active: Positive = 5
    """Steps that are measured and reported."""

    @property
    def end(self) -> int:
        """The number of steps after which everything is measured."""
        return self.wait + self.warmup + self.active


class TrainerSection(Section):
    """How long, where and how exactly the run is done, and what it leaves behind."""

    epochs: Positive | None = None
    """Passes over the training split. The run ends at `epochs` or `steps`, whichever is first; neither: 10 epochs."""
    steps: Positive | None = None
    """Optimizer steps; null means that only `epochs` counts."""
    devices: Devices = "auto"
    """Where to train: `auto` (every CUDA device of this machine, else the CPU), a number of devices (of processes where
    there is no CUDA device), a list of CUDA devices such as `[0, 2]`, or one device: `cpu`, `cuda`, `cuda:1`, `mps`.
    Several devices train together, a process for each; `data.batch_size` is what all of them compute in a step."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """What each of several processes holds: `ddp` all weights, `fsdp` a part of them, of their gradients and of the
    optimizer's state, put together where they are used. Results and checkpoints are the same."""
    nodes: Positive = 1
    """Machines that train together. The same command is started on each of them."""
    rendezvous: Annotated[str, Field(pattern=r"^[^\s:]+:\d+$")] | None = None
    """Where several machines find each other: `host:port` of one of them."""
    restarts: Count = 2
    """How often processes that train together are started anew, from the last checkpoint, after one of them died."""
    shares: Shares | None = None
    """How much of each batch every process computes: `auto` (by the speed of its first steps), or a number for each,
    such as `[3, 1]`; null: all the same."""
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    """The number format of the forward pass: `fp32` means it everywhere, `tf32` rounds what CUDA's matrix units
    multiply, `bf16` and `fp16` run under autocast (`fp16` with a gradient scaler)."""
    channels_last: bool = False
    """Keep pictures [B, C, H, W] with their channels innermost: faster convolutions on CUDA and some CPUs."""
    compile: bool | Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = False
    """Compile the training forward with `torch.compile`, in one of its modes (`reduce-overhead` replays CUDA graphs).
    The first step then takes from seconds to minutes; what could not be compiled is told by its path."""
    profile: ProfileSection | None = None
    """Measure some steps: where their time, memory and operations go, by path, and a trace in the run folder."""
    find_nan: bool = False
    """Look at the result of every operation, and end with the step where the first value comes from that is not finite.
    That takes many times as long, and changes no number: go on with a run that failed to see why. Nothing is profiled
    meanwhile."""
    threads: Positive | None = None
    """Threads that torch may use on the CPU; null leaves torch's own choice."""
    clip: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The largest norm of all gradients together; larger ones are scaled down to it; null means no limit."""
    clip_value: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The largest size of each number in a gradient, before `clip`; null means no limit."""
    accumulate: Positive = 1
    """Parts that each batch is computed in, one after the other, for batches that do not fit into memory. The gradient
    is that of the whole batch, the parts' means weighted by their rows."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Keep moving averages of the weights with this decay (such as 0.999), and evaluate and keep these; null: none."""
    patience: Positive | None = None
    """End after so many evaluations in a row without a better best value; null: never."""
    evaluate_every: Count = 0
    """Steps between two evaluations of the validation split; 0: after every epoch. The run ends with one, too."""
    checkpoint_every: Count = 0
    """Steps between two saves of the last weights; 0: with every evaluation. The run ends with one, too."""
    log_every: Positive = 50
    """Steps between two readings of the training losses. Between them the losses stay on the device."""
    best: str = "val/loss"
    """The value that decides which weights are the best: `val/loss`, `val/loss/TERM` or `val/METRIC`."""
    mode: Literal["min", "max"] | None = None
    """Whether the best value is the smallest or the largest; null: `min` for losses and errors, else `max`."""
    progress: bool = True
    """Draw a progress bar when the output is a terminal."""
    tensorboard: bool = True
    """Write TensorBoard events into the run folder."""
    runs: str = "runs"
    """The folder that run folders are made in, relative to the current folder."""


class TrainingConfig(Section):
    """Everything in a training config but `model`."""

    data: DataSection
    """The data set and its batches."""
    loss: Annotated[dict[Identifier, LossSection], REMOVABLE, Field(min_length=1), BeforeValidator(without_removed)]
    """Name -> term. The loss is the sum of all terms."""
    metrics: Annotated[dict[Identifier, MetricSection], REMOVABLE, BeforeValidator(without_removed)] = {}
    """Name -> metric of the validation and test splits."""
    optimizer: Annotated[OptimizerSection, Field(default_factory=OptimizerSection)]
    """The optimizer, its arguments, and what differs by path."""
    schedule: Annotated[ScheduleSection, Field(default_factory=ScheduleSection)]
    """The learning rate over the steps."""
    phases: Annotated[dict[Identifier, PhaseSection], REMOVABLE, BeforeValidator(without_removed)] = {}
    """Name -> a part of the run in which something is frozen, weighted or scaled differently."""
    loggers: Annotated[dict[Identifier, dict[str, Any]], REMOVABLE, BeforeValidator(without_removed)] = {}
    """Logger -> its arguments: where the numbers go beside the run folder, such as `{wandb: {project: digits}}`."""
    trainer: Annotated[TrainerSection, Field(default_factory=TrainerSection)]
    """The run."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """The one seed of weights, data order, noise and dropout."""
    init_from: str | None = None
    """An earlier run (or a file of weights) to start from: everything whose path and shape still match is taken, after
    what `checkpoint:` keys name; the account tells the rest. Beside this file, or else in the current folder."""

    def named(self) -> set[str]:
        """The first names of everything that losses and metrics refer to."""
        sections = (*self.loss.values(), *self.metrics.values())
        texts = [text for one in sections for given in (one.input, one.target, one.mask) for text in listed(given)]
        return {text.split(".")[0].split("[")[0].strip() for text in texts}


def listed(written: str | Sequence[str] | None) -> tuple[str, ...]:
    """One reference, several or none, as a tuple."""
    if written is None:
        return ()
    return (written,) if isinstance(written, str) else tuple(written)
