"""Training rows as they are trained on: augmented, each with its own seed, and cut to the longest row of a batch.

A view is a further field: a copy of another one, which only in training is augmented.

The seed of a row follows from the seed of the run, the step and the position of the row in its batch, and that of an
entry of `augment` from this and its fields. The same row is augmented alike by any worker and in any process, and after
resuming; two fields that have the same augmentation are changed differently.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any, NoReturn

import torch
from torch import Tensor

from flowconf.language.arguments import Call, Hole, python_value
from flowconf.language.config import Config
from flowconf.language.registry import augmentations
from flowconf.language.sections.augmentations import WHERE, chains, copied, names_in, views
from flowconf.language.training import PRESENT, BucketSection, TrainingConfig, listed
from flowconf.report import NOWHERE, ConfigError, Diagnostic, MachineError, Place, Reporter, RunError, raised_here
from flowconf.report.origins import dotted
from flowconf.train.data.batches import RowStream, seeded
from flowconf.train.data.boxes import BoxFormat, have_area
from flowconf.train.data.collate import Batch, Field, typed_shape
from flowconf.train.data.joined import column_of
from flowconf.train.data.splits import Resident, Split
from flowconf.train.seeds import seed_cpu, seed_for

Chain = Sequence[tuple[Call, Callable[..., Any]]]
"""Augmentations with their calls."""


class Viewed:
    """A split with views: further fields, each with the field that it is a copy of."""

    def __init__(self, split: Split, sources: Mapping[str, str]) -> None:
        self.split, self.sources = split, sources
        self.fields: Mapping[str, Field] = copied(split.fields, sources)
        self.source = getattr(split, "source", None)
        self.boxes: Mapping[str, BoxFormat] = copied(getattr(split, "boxes", {}), sources)

    def __len__(self) -> int:
        return len(self.split)

    def batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        """Rows as they are, to evaluate or try something on them."""
        return copied(self.split.batch(rows, generator), self.sources)

    def column(self, name: str) -> Tensor:
        """The values of a field in all rows, not augmented."""
        return column_of(self.split, self.sources.get(name, name))


class Augmented(Viewed):
    """A split whose rows are augmented in training, and whose padded fields are cut to the longest row of a batch."""

    def __init__(
        self,
        split: Split,
        sources: Mapping[str, str],
        augment: Mapping[tuple[str, ...], Chain],
        buckets: BucketSection | None = None,
    ) -> None:
        super().__init__(split, sources)
        self.augment, self.buckets = dict(augment), buckets

    def augmented(self, rows: Tensor, generator: torch.Generator, seeds: Sequence[int]) -> Batch:
        """Rows of a training batch, with the seed of each."""
        batch = copied(self._cut(self.split.batch(rows, generator)), self.sources)
        changed: dict[str, list[Tensor]] = {}
        with seeded(seeds[0]):
            for number, seed in enumerate(seeds):
                for names, chain in self.augment.items():
                    seed_cpu(seed_for(seed, *names))
                    row = {name: tensor[number] for name, tensor in batch.items()}
                    for name, value in self._applied(names, chain, row).items():
                        changed.setdefault(name, []).append(value)
        return {**batch, **{name: torch.stack(values) for name, values in changed.items()}}

    def _cut(self, batch: Batch) -> Batch:
        """A batch whose padded fields end where its longest row ends."""
        if self.buckets is None:
            return batch
        (places,) = batch[self.buckets.mask].any(0).nonzero(as_tuple=True)
        longest = int(places[-1]) + 1 if len(places) else 1
        names = (self.buckets.mask, *listed(self.buckets.cut))
        return {**batch, **{name: batch[name][:, :longest].contiguous() for name in names}}

    def _applied(self, names: Sequence[str], chain: Chain, row: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A row after a chain of augmentations. Raises `RunError` for one that changes a shape or a type."""
        current: Sequence[Tensor] = self._kinds(names, row)
        for call, augment in chain:
            try:
                given = augment(*current)
            except Exception as problem:
                message = f"`{call}` cannot augment {_shown(names)}: {type(problem).__name__}: {problem}"
                raise RunError(_diagnostic(names, message, raised_here(problem))) from problem
            current = given if isinstance(given, tuple | list) else [given]
            if len(current) != len(names) or not all(isinstance(value, Tensor) for value in current):
                raise RunError(_diagnostic(names, f"`{call}` must return a tensor for {_shown(names)}"))
        found: dict[str, Tensor] = {}
        for name, value in zip(names, current, strict=True):
            after = value.as_subclass(Tensor)
            if name in self.boxes:
                found |= _boxes_again(name, after, row, self.boxes[name])
                continue
            before = row[name]
            if before.shape != after.shape or before.dtype != after.dtype:
                kinds = [typed_shape(one.dtype, one.shape) for one in (after, before)]
                message = f"the augmentation of `{name}` gives {kinds[0]}, but the field is {kinds[1]}"
                raise RunError(_diagnostic(names, message))
            found[name] = after
        return found

    def _kinds(self, names: Sequence[str], row: Mapping[str, Tensor]) -> list[Tensor]:
        """Values that are augmented alike, as torchvision tells them apart.

        Boxes are those that the split says, labels of pixels are a mask, and other values an image. Raises
        `MachineError`, and `RunError` for boxes without an image.
        """
        pictures = [row[name] for name in names if name not in self.boxes]
        if not pictures:
            message = f"{_shown(names)} must be augmented with an image"
            raise RunError(replace(_diagnostic(names, message), advice=f"write `image, {', '.join(names)}`"))
        if len(names) == 1:
            return pictures
        kinds = _imported("torchvision.tv_tensors")
        size, found = tuple(pictures[0].shape[-2:]), []
        for name in names:
            value = row[name]
            if name in self.boxes:
                there = value[_present(name, row)]
                found.append(kinds.BoundingBoxes(there, format=self.boxes[name].upper(), canvas_size=size))
            else:
                is_image = value.is_floating_point() or value.dtype == torch.uint8
                found.append(kinds.Image(value) if is_image else kinds.Mask(value))
        return found


def _present(name: str, row: Mapping[str, Tensor]) -> Tensor:
    """Which boxes of a padded field there are: boolean [n]."""
    present = row.get(name + PRESENT)
    return torch.ones(len(row[name]), dtype=torch.bool) if present is None else present


def _boxes_again(name: str, after: Tensor, row: Mapping[str, Tensor], form: BoxFormat) -> dict[str, Tensor]:
    """A padded field of boxes after augmentation: those without an area, such as cropped ones, are no longer there."""
    present, boxes = _present(name, row).clone(), torch.zeros_like(row[name])
    seen = have_area(after, form)
    boxes[present] = after.where(seen[:, None], 0).to(boxes.dtype)
    present[present.clone()] = seen
    return {name: boxes, name + PRESENT: present} if name + PRESENT in row else {name: boxes}


def with_views(training: TrainingConfig, split: Split) -> Split:
    """Rows that are not augmented, with the views that the config makes of their fields."""
    sources = views(training, split.fields)
    if not sources:
        return split
    if isinstance(split, Resident) and split.augment is None:
        return split.with_copies(sources)
    return Viewed(split, sources)


def as_trained(config: Config, split: Split) -> Split:
    """The training rows of a config, augmented and cut if it says so. Raises `ConfigError` and `MachineError`."""
    data = config.training.data
    if not data.augment and data.buckets is None:
        return split
    origins = config.origins
    reporter = Reporter(origins)
    found = chains(config.training, reporter)
    reporter.stop_on_errors()
    if isinstance(split, RowStream):
        key = "augment" if data.augment else "buckets"
        message = f"`data.{key}` does not apply to an iterable data set, which makes its own rows"
        raise ConfigError(Diagnostic("FC0501", message, origins.key(("data", key)), f"data.{key}"))
    augment = {names: [(call, _made(call)) for call in calls] for names, calls in found.items()}
    made = Augmented(split, views(config.training, split.fields), augment, data.buckets)
    try:
        made.augmented(torch.zeros(1, dtype=torch.int64), torch.Generator().manual_seed(0), [0])
    except RunError as error:
        raise ConfigError(*(_at(one, config) for one in error.diagnostics)) from error
    return made


def _made(call: Call) -> Callable[..., Any]:
    """An augmentation with its arguments. Raises `ConfigError` and `MachineError`."""

    def refused(hole: Hole) -> NoReturn:
        raise ConfigError(Diagnostic("FC0133", "`_` has no meaning in an augmentation", hole.place))

    args = [python_value(one, refused, _made) for one in call.args]
    kwargs = {name: python_value(one, refused, _made) for name, one in call.kwargs}
    _imported(augmentations.home(call.name).partition(".")[0], call.place)
    factory = augmentations.load(call.name)
    try:
        made: Callable[..., Any] = factory(*args, **kwargs)
    except Exception as problem:
        message = f"`{call}` cannot be made: {problem}"
        raise ConfigError(Diagnostic("FC0202", message, call.place, dotted(WHERE), raised_here(problem))) from problem
    return made


def _imported(module: str, place: Place = NOWHERE) -> ModuleType:
    """A module of torchvision, or of a project. Raises `MachineError` if it cannot be imported."""
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as problem:
        message = f"`{module}` cannot be imported: {str(problem).splitlines()[0]}"
        advice = "install the version that belongs to this torch: `pip install 'flowconf[vision]'`"
        raise MachineError(Diagnostic("FC0601", message, place, dotted(WHERE), advice=advice)) from None


def _shown(names: Sequence[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def _diagnostic(names: Sequence[str], message: str, labels: Sequence[Any] = ()) -> Diagnostic:
    return Diagnostic("FC0501", message, path=f"{dotted(WHERE)}.{', '.join(names)}", labels=tuple(labels))


def _at(diagnostic: Diagnostic, config: Config) -> Diagnostic:
    """A diagnostic with the place of the chain that it is about."""
    names = names_in(diagnostic.path.split(".", 2)[2])
    key = next(key for key in config.training.data.augment if names_in(key) == names)
    return replace(diagnostic, place=config.origins.value((*WHERE, key)))
