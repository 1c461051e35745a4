"""Losses and metrics that may look at numbers, before there are any: functions of a project, or of torchmetrics.

They are tried on invented numbers. An error is reported if it occurs without numbers as well, at the same line: then it
follows from shapes and types. Otherwise the first rows of the data decide, where these can be had at once. What is left
is checked when a run has read its data.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowconf.graph.shapes.fake_values import real
from flowconf.graph.shapes.sizes import Sizes
from flowconf.report import Reporter
from flowconf.train.checks.terms import TermCheck, Tried, show_rows

MOST = 2**20
"""Numbers in a value up to which it is made."""
TORCH = f"{Path(torch.__file__).parent}{os.sep}"

Rows = tuple[Mapping[str, Tensor], Mapping[str, Tensor]]
"""The graph's values by reference, and the fields of a batch."""


def check_foreign(
    foreign: list[Tried], fakes: TermCheck, sizes: Sizes, first_rows: Callable[[], Rows | None], reporter: Reporter
) -> list[str]:
    """Note each loss and metric that cannot be computed; gives the names of those for which that is still open."""
    if not foreign:
        return []
    doubtful, left = [], []
    values, batch = dict(invented(fakes.values, sizes)), dict(invented(fakes.batch, sizes))
    numbers = TermCheck(fakes.config, values, batch, show_rows)
    for tried in foreign:
        if numbers.operands(tried) is None:
            left.append(tried.name)
            continue
        with real():
            problem = numbers.problem(tried.new_meter())
        if problem is None:
            continue
        bare = fakes.problem(tried.new_meter())
        if bare is not None and type(bare) is type(problem) and _line(bare) == _line(problem):
            _check(numbers, tried, reporter)
        else:
            doubtful.append(tried)
    numbers.check_wanted(reporter)
    with real():
        rows = first_rows() if doubtful else None
    if rows is None:
        return left + [tried.name for tried in doubtful]
    for tried in doubtful:
        _check(TermCheck(fakes.config, *rows, show_rows), tried, reporter)
    return left


def _check(check: TermCheck, tried: Tried, reporter: Reporter) -> None:
    with real():
        check.check(tried, reporter)


def _line(problem: Exception) -> tuple[str, int] | None:
    """The innermost line of code outside of torch that an exception came through."""
    found, trace = None, problem.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(TORCH):
            found = file, trace.tb_lineno
        trace = trace.tb_next
    return found


def invented(values: Mapping[str, Any], sizes: Sizes) -> Iterator[tuple[str, Tensor]]:
    """Real tensors like fake ones, with small sizes for those that are open: shares from 0 to 1, and the class 0."""
    for name, value in values.items():
        shape = [sizes.small(size) for size in value.shape] if isinstance(value, Tensor) else []
        if isinstance(value, Tensor) and math.prod(shape) <= MOST:
            with real():
                is_share = value.dtype.is_floating_point
                yield name, torch.rand(shape, dtype=value.dtype) if is_share else torch.zeros(shape, dtype=value.dtype)
