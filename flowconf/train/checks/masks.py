"""Whether missing and padded values of the data are left out, where another field says which these are."""

from __future__ import annotations

from flowconf.graph.shapes.inference import Arrival, Inference
from flowconf.language import references
from flowconf.language.config import Config
from flowconf.language.registry import modules
from flowconf.language.sections import augmentations
from flowconf.language.sections.checks import measured
from flowconf.language.training import listed
from flowconf.report import Label, Reporter
from flowconf.report.origins import dotted
from flowconf.train.checks.look_ups import place_of_field
from flowconf.train.data.declarations import DataSet, Masks

IGNORES = "key_padding_mask"
"""How the names of arguments end that are true for the places to ignore."""


def check_masks(config: Config, inference: Inference, reporter: Reporter) -> None:
    """Report losses and metrics of missing values, and masks that attention takes in the opposite sense."""
    data = config.training.data
    masks = augmentations.with_views(config.training, DataSet(data.name, data.args).masks())
    if masks:
        _check_terms(config, masks, reporter)
        for arrival in inference.arrivals:
            _check_sense(arrival, masks, reporter)


def _check_terms(config: Config, masks: Masks, reporter: Reporter) -> None:
    """Report terms that count missing values; a mask that the graph computes, or an `ignore_index`, is trusted."""
    for path, section in measured(config.training).items():
        used = {*listed(section.input), *listed(section.target), *listed(section.mask)}
        own = [name for name in listed(section.mask) if name not in masks.values()]
        if own or "ignore_index" in section.args:
            continue
        for key in ("input", "target"):
            for name in listed(getattr(section, key)):
                is_field = key == "target" or not references.names_value(config.model, name)
                if not is_field or masks.get(name, name) in used:
                    continue
                message = f"`{dotted(path)}` counts missing or padded values of `{name}`, which are 0"
                advice = f"write `mask: {masks[name]}` in `{dotted(path)}`"
                place = reporter.value((*path, key))
                reporter.warn("FC0504", message, place, at=path, labels=(_label(name, masks, reporter),), advice=advice)


def _check_sense(arrival: Arrival, masks: Masks, reporter: Reporter) -> None:
    """Report a mask that is true where there is a value, for an argument that is true where there is none."""
    if arrival.input not in masks.values() or not arrival.argument.endswith(IGNORES):
        return
    field = next(name for name, mask in masks.items() if mask == arrival.input)
    message = (
        f"`{arrival.argument}` is true for the places to ignore, and `{arrival.input}` for those that have a value"
    )
    report = reporter.error if modules.home(arrival.module.name).startswith("torch.") else reporter.warn
    step = f"{arrival.input.removesuffix('_present')}_absent"
    advice = f"add the step `{step}: {{fork: Not, from: {arrival.input}}}`, and write `{arrival.argument}: {step}`"
    report("FC0504", message, arrival.place, path=arrival.path, labels=(_label(field, masks, reporter),), advice=advice)


def _label(field: str, masks: Masks, reporter: Reporter) -> Label:
    """Where a field is written in the data set, and its mask."""
    return Label(f"`{masks[field]}` is true where `{field}` has a value", place_of_field(field, reporter))
