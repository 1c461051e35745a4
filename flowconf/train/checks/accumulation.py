"""Whether the parts of a batch (`trainer.accumulate`) add up to the step of the whole batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from flowconf.graph.shapes.fake_values import real
from flowconf.graph.shapes.sizes import Sizes
from flowconf.language.config import Config
from flowconf.language.paths import join, nearest
from flowconf.report import Label, Reporter, listing
from flowconf.report.origins import dotted
from flowconf.train.checks.invented import invented
from flowconf.train.checks.terms import TermCheck
from flowconf.train.objective.terms import Term

WHERE = ("trainer", "accumulate")


def check_accumulation(
    config: Config,
    modules: Mapping[str, nn.Module],
    terms: Sequence[Term],
    check: TermCheck,
    sizes: Sizes,
    reporter: Reporter,
) -> None:
    """Report modules and losses that see one part at a time: batch normalisation, and losses of the whole batch."""
    parts, rows = config.training.trainer.accumulate, config.training.data.batch_size
    if parts == 1:
        return
    norms = batch_norms(config, modules)
    elements = {term.name: check.elements(term) for term in terms}
    whole = {name for name, some in elements.items() if some is not None and some.ndim == 0}
    together = [term.name for term in terms if term.name in whole or _compares_rows(term, check, sizes)]
    if not norms and not together:
        return
    labels = [
        Label(f"`{path}` normalises each part by its own mean", step.place)
        for path in norms[:2]
        if (step := config.model.step(path.partition(".")[0])) is not None
    ]
    for name in together[:2]:
        place = reporter.value(("loss", name, "fn"))
        how = "is one number for all" if name in whole else "compares the"
        labels.append(Label(f"`loss.{name}` {how} rows of a part", place))
    which = listing([*norms, *(f"loss.{name}" for name in together)])
    sees = "sees" if len(norms) + len(together) == 1 else "see"
    message = (
        f"`accumulate: {parts}` is not the step of a whole batch: {which} {sees} {-(-rows // parts)} of {rows} rows"
    )
    advice = "write `accumulate: 1`" + (", or a norm of each row, such as `GroupNorm` or `LayerNorm`" if norms else "")
    reporter.warn("FC0413", message, reporter.value(WHERE), path=dotted(WHERE), labels=tuple(labels), advice=advice)


def batch_norms(config: Config, modules: Mapping[str, nn.Module]) -> list[str]:
    """The modules with batch normalisation that are not always in evaluation mode."""
    settings = {path: setting.frozen for path, setting in config.model.all_settings() if setting.frozen is not None}
    found = [
        join(path, name)
        for path, module in modules.items()
        for name, one in module.named_modules()
        if isinstance(one, _BatchNorm)
    ]
    return [path for path in found if nearest(path, settings) != "all"]


def _compares_rows(term: Term, check: TermCheck, sizes: Sizes) -> bool:
    """Whether a term has other values for a row if it gets that row alone, as a contrastive loss does.

    It is tried on invented numbers.
    """
    values, batch = dict(invented(check.values, sizes)), dict(invented(check.batch, sizes))

    def elements(rows: int) -> Tensor:
        return term.elements(*({name: value[:rows] for name, value in some.items()} for some in (values, batch)))[0]

    try:
        with real(), torch.no_grad():
            whole, again, first = elements(2), elements(2), elements(1)
            return torch.equal(whole, again) and not torch.allclose(whole[: len(first)], first, rtol=1e-3, atol=1e-5)
    except Exception:  # noqa: BLE001 - it has been reported, or a project's function needs other numbers
        return False
