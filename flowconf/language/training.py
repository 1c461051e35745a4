"""The training sections of a config as Pydantic models: everything in a training config except `model`.

Unknown keys are errors, except in `data`, `optimizer` and `schedule`, where they are arguments of the registered name
and are checked against its signature (`keys.arguments`). A null member of `loss`, `metrics` or `optimizer.groups` is
removed, which is how a pivot removes one. The JSON Schema of the config is generated from these models, and editors
show the docstrings of the fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, Tag

from flowconf.language.changing import Changing
from flowconf.language.points import Every, Point, Steps
from flowconf.language.section import Removable, Section, by_form
from flowconf.language.value_types import Count, Factor, Finite, Identifier, InWords, Positive, Reference
from flowconf.language.weight_source import CheckpointKey
from flowconf.report.origins import Path

T = TypeVar("T")
Seed = Annotated[int, Field(ge=0, lt=2**63), InWords("an integer from 0 to 2**63 - 1")]
OneOrMore = Annotated[
    Annotated[T, Tag("<text>")] | Annotated[list[T], Field(min_length=1), Tag("<list>")], by_form("<list>", "<text>")
]
References = Annotated[OneOrMore[Reference], InWords("a reference or a list of them")]
Selectors = Annotated[References, InWords("a selector or a list of them")]
Names = Annotated[OneOrMore[Identifier], InWords("a name or a list of them")]
Quantity = Literal["gradient", "weight", "update", "activation"]
Quantities = Annotated[OneOrMore[Quantity], InWords("`gradient`, `weight`, `update`, `activation`, or a list of them")]
Devices = Annotated[
    Annotated[str, Field(pattern=r"^(auto|cpu|cuda|cuda:\d+|mps)$"), Tag("<text>")]
    | Annotated[Positive, Tag("<number>")]
    | Annotated[list[Count], Field(min_length=1), Tag("<list>")],
    by_form("<number>", "<list>", "<text>"),
    InWords("`auto`, a number of devices, a list such as `[0, 1]`, `cpu`, `cuda`, `cuda:0` or `mps`"),
]
Shares = Annotated[
    Annotated[Literal["auto"], Tag("<text>")]
    | Annotated[list[Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(min_length=1), Tag("<list>")],
    by_form("<list>", "<text>"),
    InWords("`auto`, or a list with a number for each device"),
]


def named_in(table: str) -> Any:
    """A string that is a name in a registry table; the JSON Schema lists these names."""
    return Field(json_schema_extra={"names": table})


class OpenSection(Section):
    """A section with a registered name, and its arguments beside the section's own keys."""

    model_config = ConfigDict(extra="allow")

    @property
    def args(self) -> dict[str, Any]:
        """The arguments of the registered name: all keys that are not the section's own."""
        return dict(self.model_extra or {})


FITTED = "fitted"
"""The argument by which a data set gets what it has determined from the training rows; no config may set it."""
PRESENT = "_present"
"""How the name of the boolean field ends that is true where a field of a table or of boxes has values."""


class SetSection(OpenSection):
    """A further data set, with its arguments."""

    name: Annotated[str, named_in("datasets")] | None = None
    """The registered name of the data set; null: that of `data`, with its arguments except for those given here."""
    split: Literal["train", "val", "test"] | None = None
    """The split that is used; null: all rows of a set to evaluate on, and the training rows of one in a mixture."""


class MixtureSection(SetSection):
    """A further data set whose rows are mixed into the training rows."""

    weight: Factor = 1.0
    """Its share of the rows that are drawn, relative to the data set of `data`, whose weight is 1."""


class SampleSection(Section):
    """How training rows are drawn. At most one of `by` and `weight` is set; without them, each row is drawn once."""

    by: Identifier | None = None
    """A field with integers or booleans: each of its values is drawn equally often."""
    weight: Identifier | None = None
    """A field with a weight for each row, in any unit."""
    rows: Positive | None = None
    """The rows drawn in an epoch; null: as many as there are."""


class BucketSection(Section):
    """Training batches of rows of similar length, which are cut to their longest row."""

    mask: Identifier
    """The boolean field [length] that is true where a row has items, such as `mask`, or `NAME_present`; it is cut as
    well."""
    cut: Names
    """The padded fields [length, ...] that are cut."""
    pool: Positive = 50
    """The number of batches whose rows are sorted by length together. With more, batches have less padding, and the
    order of rows is less random."""


class ViewSection(Section):
    """A further field, made of another one: in training augmented, and elsewhere as it is."""

    from_: Annotated[Names, Field(alias="from")]
    """The field of the data set, or a list of fields for an entry of several, such as `other, other_mask`."""
    through: str
    """The augmentations."""


Augmentation = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[ViewSection, Tag("<mapping>")],
    by_form("<mapping>", "<text>"),
    InWords("a chain of augmentations, or a mapping such as `{from: image, through: RandomCrop(28)}`"),
]


class DataSection(OpenSection):
    """The data set, its arguments, and its batches."""

    name: Annotated[str, named_in("datasets")]
    """The registered name of the data set, such as `digits`."""
    batch_size: Positive = 64
    """Rows in a training batch."""
    evaluation_batch_size: Positive | None = None
    """Rows in a validation or test batch; null: four times `batch_size`, because no gradients are stored."""
    drop_last: bool = False
    """Drop the last batch of an epoch if it has fewer than `batch_size` rows."""
    workers: Count = 0
    """Processes that prepare batches in advance; 0: the training process loads the data. Data sets that are resident on
    the device do not need workers. Results do not depend on the number."""
    prefetch: Positive = 2
    """Batches that each worker prepares in advance."""
    evaluate: Removable[dict[Identifier, SetSection]] = {}
    """Name -> a further set that is evaluated like the validation split; its values are `NAME/loss`, `NAME/METRIC`."""
    mixture: Removable[dict[Identifier, MixtureSection]] = {}
    """Name -> a further data set whose training rows are mixed into those of this one."""
    augment: Removable[dict[Reference, Augmentation]] = {}
    """Field -> augmentations of it in training, such as `RandomCrop(32, padding=4) >> RandomHorizontalFlip()`.
    `image, mask` augments both alike. `{from: image, through: RandomCrop(32)}` makes a further field, a view of
    `image`."""
    sample: Annotated[SampleSection, Field(default_factory=SampleSection)]
    """How training rows are drawn."""
    buckets: BucketSection | None = None
    """Training batches of rows of similar length, cut to their longest row; null: rows as they are."""
    cache: Annotated[str, Field(min_length=1)] | None = None
    """A folder, relative to the current one, in which rows are kept once they are read and decoded; null: they are made
    anew by every run."""

    @property
    def rows_of_evaluations(self) -> int:
        """Rows in a validation or test batch."""
        return self.evaluation_batch_size or 4 * self.batch_size


class MetricSection(Section):
    """A value that is averaged over all elements of a split."""

    fn: Annotated[str, named_in("metrics")]
    """The registered name of the function, such as `accuracy`, or the class name of a torchmetrics metric."""
    input: References
    """A reference or a list of references: a step, a tag, a path of any depth, or a field of the batch."""
    target: References | None = None
    """The reference or references to compare the input with; null if the function takes none."""
    mask: Annotated[Reference, InWords("one reference")] | None = None
    """A reference to weights of the elements (booleans or numbers), broadcast from the left; null: all count."""
    args: dict[str, Any] = {}
    """Further arguments of the function, by name."""
    splits: Names | None = None
    """The splits and further sets on which it is evaluated, such as `val`; null: on all."""

    @property
    def references(self) -> tuple[str, ...]:
        """All references, those of the input first."""
        return *listed(self.input), *listed(self.target), *listed(self.mask)


Weight = Annotated[
    Annotated[Finite, Tag("<number>")] | Annotated[Changing, Tag("<mapping>")],
    by_form("<mapping>", "<number>"),
    InWords("a number, or a mapping such as `{linear: {from: 1, to: 0}}`"),
]


class LossSection(MetricSection):
    """One term of the loss: the mean of a function over the elements of a batch, times `weight`."""

    fn: Annotated[str, named_in("losses")]
    """The registered name of the function, such as `cross_entropy`."""
    weight: Weight = 1.0
    """The factor of this term in the sum of all terms: a number, or a schedule over the run. Evaluations use the number
    or the last value of the schedule, so that they can be compared."""
    updates: Selectors | None = None
    """Selectors: this term has gradients only for the parameters that they select; null: for all. Each distinct set of
    selectors requires a separate backward pass."""


class Trend(Section):
    """A value of the validation split, watched over the evaluations since the last change of phase."""

    metric: str
    """The value: `val/loss`, `val/loss/TERM` or `val/METRIC`."""
    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """The window: the evaluations of the last `epochs` epochs."""
    by: Factor = 0.0
    """The minimum difference that counts as an improvement."""
    mode: Literal["min", "max"] | None = None
    """Whether smaller or larger values are better; null: what the loss or metric declares."""


class Convergence(Section):
    """A value of the validation split that hardly changes."""

    metric: str
    """The value: `val/loss`, `val/loss/TERM` or `val/METRIC`."""
    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """The window: the evaluations of the last `epochs` epochs."""
    within: Factor = 0.01
    """The maximum difference of the largest and smallest value in the window, as a fraction of their mean."""


class Condition(Point):
    """A point of a run, or a trend of a value."""

    stalled: Trend | None = None
    """When the last epochs did not improve on the best value before them."""
    improving: Trend | None = None
    """When the last epochs improved on the best value before them."""
    converged: Convergence | None = None
    """When the value has hardly changed in the last epochs."""

    @property
    def trend(self) -> Trend | Convergence | None:
        """The trend, if it is one."""
        return self.stalled or self.improving or self.converged


class PhaseSection(Section):
    """A part of a run with different settings. Phases run in the order in which they are written.

    A phase begins when the previous one ends, or at its own `when`, and lasts until its `until`, or until the next one
    begins. Its settings apply only to this part; outside all phases, the rest of the config applies as it is.
    """

    when: Condition | None = None
    """The beginning; null: the end of the previous phase, or the start of the run."""
    until: Condition | None = None
    """The end; null: the beginning of the next phase, or the end of the run."""
    freeze: Selectors | None = None
    """Selectors of what is frozen during the phase: no gradients, and evaluation mode."""
    thaw: Selectors | None = None
    """Selectors of what is not frozen during the phase."""
    lr: Annotated[
        Annotated[Factor, Tag("<number>")] | Annotated[dict[str, Factor], Tag("<mapping>")],
        by_form("<mapping>", "<number>"),
    ] = 1.0
    """A factor of the learning rate, or one for each selector; the first selector that fits a parameter applies."""
    loss: dict[Identifier, Weight] = {}
    """Term -> its weight during the phase. A term with weight 0 is not computed."""
    mixture: dict[Identifier, Factor] = {}
    """Set of `data.mixture` -> its weight during the phase; `main` is the data set of `data`."""


class TurnSection(Section):
    """Steps in which only some terms of the loss are computed, and only some parameters move.

    The turns take place in the order in which they are written, again and again; each step has its own batch.
    """

    loss: Names
    """The terms of the loss that are computed in this turn."""
    updates: Selectors | None = None
    """Selectors of the parameters that move in this turn; null: all."""
    steps: Positive = 1
    """The number of steps before the next turn."""


class ScheduleSection(OpenSection):
    """A learning rate schedule, as a factor of the optimizer's `lr`, and its arguments."""

    name: Annotated[str, named_in("schedules")] = "constant"
    """The registered name of the schedule, such as `cosine`."""
    warmup: Steps = 0
    """The beginning, in which the factor increases linearly to 1: a number of steps, `{epoch: 2}` or
    `{fraction: 0.05}`. The schedule spans the remaining steps."""
    until: Point | None = None
    """The end, after which the next schedule of a list begins; null: the end of the run."""


Schedule = Annotated[
    Annotated[ScheduleSection, Tag("<mapping>")] | Annotated[list[ScheduleSection], Field(min_length=1), Tag("<list>")],
    by_form("<list>", "<mapping>"),
    InWords("a schedule, or a list of them"),
]


class GroupSection(OpenSection):
    """Arguments of the optimizer for some parameters; with a `name`, a separate optimizer and its arguments."""

    name: Annotated[str, named_in("optimizers")] | None = None
    """The registered name of an optimizer for these parameters; null: that of all."""
    schedule: Schedule | None = None
    """The learning rate schedule of these parameters; null: that of all."""


class LayerDecay(Section):
    """Learning rates that decrease from the last layer to the first."""

    layers: Selectors
    """Selectors of the layers, in the order of the graph, such as `block.*`."""
    factor: Annotated[float, Field(gt=0, le=1)]
    """The learning rate of a layer, relative to that of the layer after it."""


class OptimizerSection(OpenSection):
    """The optimizer and its arguments, with the names of torch."""

    name: Annotated[str, named_in("optimizers")] = "adamw"
    """The registered name of the optimizer, such as `adamw`."""
    groups: Removable[dict[str, GroupSection]] = {}
    """Selector -> different arguments for the parameters that it selects, such as `{letter.read: {lr: 1.0e-4}}` or
    `{"**:bias": {weight_decay: 0}}`, or another optimizer: `{"body:matrix": {name: muon, lr: 0.02}}`. The first
    selector that fits takes a parameter."""
    layer_decay: LayerDecay | None = None
    """Layer-wise decay of the learning rate: of `n` layers, that of layer `i` (from 0) is multiplied by
    `factor ** (n - i)`, before the first one by `factor ** (n + 1)`, and after the last one by 1."""


class ProfileSection(Section):
    """The steps to measure. Other steps have no overhead."""

    wait: Count = 10
    """Steps before the measurement."""
    warmup: Positive = 2
    """Steps that are measured and discarded; caches fill, and the first one counts operations."""
    active: Positive = 5
    """Steps that are measured and reported."""

    @property
    def end(self) -> int:
        """The number of steps until the end of the measurement."""
        return self.wait + self.warmup + self.active


class CallbackSection(OpenSection):
    """An object of the project that watches a run, and its arguments. It does not change training."""

    name: Annotated[str, named_in("callbacks")]
    """The registered name of the callback."""
    every: Every = 1
    """The time between its calls of `step` and `values`: a number of steps, `{epoch: 1}` or `{fraction: 0.1}`."""
    read: References | None = None
    """A reference or a list of references, which `values` gets: a step, a tag, a path of any depth, or a field of the
    batch."""
    split: Literal["train", "val"] = "train"
    """The rows that `read` is about: the batch of the step, or as many first rows of the validation split."""


class KeepSection(Section):
    """Weights that are kept beside the best and the last ones, each in a file that says why."""

    best: Positive | None = None
    """The number of evaluations whose weights are kept: those with the best values of `trainer.best`."""
    every: Every | None = None
    """The time between weights that are kept: a number of steps, `{epoch: 1}` or `{fraction: 0.1}`."""


LATEST = "last"
"""The `trainer.best` by which the weights of the latest evaluation are the best ones."""


class StatisticsSection(Section):
    """Norms and shares of zeros by path, which are computed in some steps and logged. They do not change training."""

    every: Every = 100
    """The time between the steps in which they are computed: a number of steps, `{epoch: 1}` or `{fraction: 0.1}`.
    Other steps have no overhead."""
    of: Quantities = ["gradient", "weight", "update", "activation"]
    """What they are computed of: `gradient` (before clipping), `weight`, `update` (what the optimizer adds in the step)
    of each parameter, and `activation`, the output of each module in evaluation mode."""
    at: Selectors | None = None
    """Selectors of parameters and modules; null: all."""


class TrainerSection(Section):
    """Length, devices, precision, evaluation and output of the run."""

    epochs: Positive | None = None
    """Passes over the training split. A run ends at `epochs` or `steps`, whichever comes first; default: 10 epochs."""
    steps: Positive | None = None
    """Optimizer steps; null: only `epochs` applies."""
    devices: Devices = "auto"
    """The devices: `auto` (all CUDA devices of this machine, or else the CPU), a number of devices (without CUDA, of
    processes), a list of CUDA devices such as `[0, 2]`, or a single device: `cpu`, `cuda`, `cuda:1`, `mps`. Several
    devices train together with one process each; `data.batch_size` is the global batch size."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """With several processes: in `ddp`, each has all weights; in `fsdp`, weights, gradients and optimizer state are
    sharded. Results and checkpoints are the same."""
    nodes: Positive = 1
    """The number of machines that train together. The same command is started on each of them."""
    rendezvous: (
        Annotated[str, Field(pattern=r"^[^\s:]+:\d+$"), InWords("a host and a port, such as `node0:29500`")] | None
    ) = None
    """The rendezvous of several machines: `host:port` of one of them."""
    restarts: Count = 2
    """How often all processes are restarted from the last checkpoint after one of them died."""
    timeout: Positive = 600
    """Seconds after which a process that waits for the others gives up. The error names those that do not respond."""
    shares: Shares | None = None
    """The share of each process in a batch: `auto` (by the speed of its first steps), or a number for each, such as
    `[3, 1]`; null: equal shares."""
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    """The number format of the forward pass: `fp32`; `tf32`, in which CUDA matrix units round their inputs; `bf16` or
    `fp16` with autocast (`fp16` with a gradient scaler)."""
    deterministic: bool = False
    """Use operations that give the same bits each time, which may be slower, and refuse those that torch has no such
    ones for. Some operations on CUDA give other bits each time, so that runs neither repeat nor resume bit for bit."""
    channels_last: bool = False
    """Use the channels-last memory format for images [B, C, H, W]: faster convolutions on CUDA and some CPUs."""
    compile: bool | Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = False
    """Compile the training forward with `torch.compile`, in one of its modes (`reduce-overhead` and `max-autotune`
    replay whole steps as CUDA graphs). The first step then takes seconds to minutes. Graph breaks are reported."""
    profile: ProfileSection | None = None
    """Measure time, memory and operations of some steps by path, with a trace in the run folder."""
    statistics: StatisticsSection | None = None
    """Norms and shares of zeros of gradients, weights, updates and activations by path, such as
    `{every: 100, of: [gradient, update], at: encoder}`; null: none."""
    find_nan: bool = False
    """Check the result of every operation, and stop at the first value that is not finite. This is many times slower,
    but changes no result: use it to resume a run that failed. Profiling is disabled."""
    threads: Positive | None = None
    """CPU threads of torch; null: torch's default."""
    clip: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The maximum norm of all gradients together; larger ones are scaled down; null: no limit."""
    clip_value: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The maximum absolute value of each element of a gradient, applied before `clip`; null: no limit."""
    accumulate: Positive = 1
    """The number of parts in which each batch is computed, for batches that do not fit into memory. The gradient is
    that of the whole batch, whatever is masked or ignored."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The decay of moving averages of the weights (such as 0.999), which are then evaluated and saved; null: none. It
    is warmed up: at most `(1 + step) / (10 + step)`."""
    patience: Positive | None = None
    """End the run after this number of evaluations without improvement; null: never."""
    evaluate_every: Steps = 0
    """The time between evaluations of the validation split, which also happen at the end: a number of steps,
    `{epoch: 5}` or `{fraction: 0.1}`; 0: once per epoch."""
    checkpoint_every: Steps = 0
    """The time between saves of the last weights, which also happen at the end: a number of steps, `{epoch: 5}` or
    `{fraction: 0.1}`; 0: at every evaluation."""
    keep: KeepSection | None = None
    """Weights that are kept beside the best and the last ones, such as `{best: 3, every: 1000}`; null: none."""
    log_every: Every = 50
    """The time between reports of the training losses: a number of steps, `{epoch: 1}` or `{fraction: 0.01}`. In
    between, the losses stay on the device."""
    best: str = "val/loss"
    """The value that selects the best weights: `val/loss`, `val/loss/TERM` or `val/METRIC`, or that of another set of
    `data.evaluate`, such as `NAME/METRIC`; `last`: those of the latest evaluation, whatever its values."""
    mode: Literal["min", "max"] | None = None
    """Whether smaller or larger values are better; null: what the loss or metric declares, which one of a project does
    not do."""
    test: bool = True
    """Evaluate the test split, if there is one, with the best weights at the end of the run, and in `flowconf eval`.
    With `false`, only `flowconf eval RUN --split test` evaluates it."""
    progress: bool = True
    """Draw a progress bar if the output is a terminal."""
    tensorboard: bool = True
    """Write TensorBoard events to the run folder."""
    report: bool = True
    """Write `report.html` to the run folder, with some predictions of the best weights: at evaluations, as long as this
    takes less than a hundredth of the time of the run, and at the end."""
    runs: str = "runs"
    """The folder for run folders, relative to the current folder."""


class SweepSection(Section):
    """A search for the best values of some keys, by Optuna: what `flowconf train -m` does with this config.

    Each trial is a run. The search looks for the best value of `trainer.best`.
    """

    over: Removable[dict[str, Any]] = {}
    """Key -> its values: a list such as `[16, 32]`, `interval(1e-4, 1e-1)`, `tag(log, interval(1e-4, 1e-1))` or
    `range(16, 129, 16)`, as on the command line, whose ranges are searched as well."""
    trials: Positive
    """The number of trials, also of those that failed."""
    prune: Literal["median", "halving"] | None = None
    """Ends hopeless runs at an evaluation: those that are worse than the median of the earlier ones at the same
    evaluation, or not in the best quarter (`halving`, asynchronously); null: every run is trained to its end."""
    jobs: Positive = 1
    """The number of runs that are trained at the same time, each in a separate process."""
    seed: Seed = 0
    """The seed of the search. With `jobs: 1`, the same trials are made again."""


class TrainingConfig(Section):
    """Everything in a training config except `model`."""

    data: DataSection
    """The data set and its batches."""
    loss: Removable[Annotated[dict[Identifier, LossSection], Field(min_length=1)]]
    """Name -> term. The loss is the sum of all terms."""
    metrics: Removable[dict[Identifier, MetricSection]] = {}
    """Name -> metric of the validation and test splits."""
    optimizer: Annotated[OptimizerSection, Field(default_factory=OptimizerSection)]
    """The optimizer, its arguments, and arguments by path."""
    schedule: Annotated[Schedule, Field(default_factory=ScheduleSection)]
    """The learning rate schedule, or a list of schedules, one after the other."""
    phases: Removable[dict[Identifier, PhaseSection]] = {}
    """Name -> a part of the run with different frozen parts, loss weights or learning rates."""
    turns: Removable[dict[Identifier, TurnSection]] = {}
    """Name -> a turn: adversarial training, alternating minimisation. Without turns, each step computes all terms."""
    loggers: Removable[dict[Identifier, dict[str, Any]]] = {}
    """Logger -> its arguments: services that get the metrics besides the run folder, such as
    `{wandb: {project: digits}}`."""
    callbacks: Removable[dict[Identifier, CallbackSection]] = {}
    """Name -> a registered callback, which sees values of the run and can log scalars, images, histograms, figures and
    text, such as `{codes: {name: Histograms, every: 100, read: [code]}}`."""
    trainer: Annotated[TrainerSection, Field(default_factory=TrainerSection)]
    """The run."""
    seed: Seed = 0
    """The seed of weights, data order, noise and dropout."""
    init_from: CheckpointKey | None = None
    """Weights from which to initialise, such as an earlier run: as in a `checkpoint` of the whole graph, after those of
    `checkpoint:` keys, except that `missing`, `unused` and `mismatched` are "ignore" by default: tensors that match by
    path and shape are loaded, and the others are listed."""

    sweep: SweepSection | None = None
    """A search for the best values of some keys, with `flowconf train -m`."""

    def named(self) -> set[str]:
        """The first names of all references in losses, metrics and callbacks."""
        texts = [text for one in (*self.loss.values(), *self.metrics.values()) for text in one.references]
        texts += [text for one in self.callbacks.values() for text in listed(one.read)]
        return {text.split(".")[0].split("[")[0].strip() for text in texts}


def evaluated_on(section: MetricSection, split: str) -> bool:
    """Whether a loss or metric is evaluated on a split or a further set."""
    return section.splits is None or split in listed(section.splits)


def schedules(written: ScheduleSection | list[ScheduleSection]) -> list[ScheduleSection]:
    """A schedule or a list of them as a list."""
    return written if isinstance(written, list) else [written]


def listed(written: str | Sequence[str] | None) -> tuple[str, ...]:
    """A reference, a list of references or None as a tuple."""
    if written is None:
        return ()
    return (written,) if isinstance(written, str) else tuple(written)


def placed(written: str | list[str] | None, at: Path) -> list[tuple[Path, str]]:
    """The same with the path of each reference; `at` is the path of all of them."""
    if isinstance(written, list):
        return [((*at, number), text) for number, text in enumerate(written)]
    return [] if written is None else [(at, written)]
