"""What sees one part of a batch at a time is reported: batch normalisation in training mode, and losses of all rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import flowconf
from flowconf.language import registry

TEXT = """
model:
  inputs: {image: [B, 64]}
  flow:
    hidden: {through: "Linear(64, 8) >> NORM(8)"FROZEN}
    logits: Linear(8, 10)
data: {name: digits, batch_size: 16}
loss: {label: {fn: LOSS, input: logits, target: label}}
trainer: {epochs: 1, accumulate: PARTS}
"""


def of_all_rows(logits: Tensor, label: Tensor) -> Tensor:
    """A loss that is one number for all rows."""
    return (logits @ logits.T).logsumexp(1).mean() + 0 * label.sum()


def of_each_row(logits: Tensor, label: Tensor) -> Tensor:
    """A contrastive loss: one number for each row, which depends on the others."""
    return (logits @ logits.T).logsumexp(1) + 0 * label


def with_noise(logits: Tensor, label: Tensor) -> Tensor:
    """A loss of each row alone."""
    return (logits + torch.rand_like(logits)).sum(1) + 0 * label


@pytest.mark.parametrize(
    ("norm", "loss", "parts", "frozen", "seen"),
    [
        ("LayerNorm", "cross_entropy", 4, "", None),
        ("BatchNorm1d", "cross_entropy", 1, "", None),
        ("BatchNorm1d", "cross_entropy", 4, "", "`hidden.1` sees 4 of 16 rows"),
        ("BatchNorm1d", "cross_entropy", 4, ", frozen: true", None),
        ("BatchNorm1d", "cross_entropy", 4, ", frozen: params", "`hidden.1` sees 4 of 16 rows"),
        ("LayerNorm", "of_all_rows", 4, "", "`loss.label` sees 4 of 16 rows"),
        ("LayerNorm", "of_all_rows", 1, "", None),
        ("LayerNorm", "of_each_row", 4, "", "`loss.label` sees 4 of 16 rows"),
        ("LayerNorm", "with_noise", 4, "", None),
        ("BatchNorm1d", "of_all_rows", 3, "", "`hidden.1`, `loss.label` see 6 of 16 rows"),
    ],
)
def test_what_sees_one_part(tmp_path, monkeypatch, norm, loss, parts, frozen, seen):
    for one in (of_all_rows, of_each_row, with_noise):
        monkeypatch.setitem(registry.losses.registered, one.__name__, one)
    text = TEXT.replace("NORM", norm).replace("LOSS", loss).replace("PARTS", str(parts)).replace("FROZEN", frozen)
    (tmp_path / "config.yaml").write_text(text)
    found = [one for one in flowconf.check(tmp_path / "config.yaml") if one.code == "FC0413"]
    if seen is None:
        assert found == []
    else:
        (only,) = found
        assert only.severity == "warning"
        assert only.message.endswith(seen)
        assert len(only.labels) == seen.count("`") // 2
