"""Correct configs of many kinds are accepted: `check` finds neither an error nor a warning in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

import flowconf

CONFIGS = yaml.safe_load(Path(__file__).with_name("accepted.yaml").read_text(encoding="utf-8"))
DTYPES = {"float": torch.float32, "bool": torch.bool}

Kind = list  # [float, 3, 8], [bool] or, for one of 10 classes, [10]; the sizes of a row follow


def kinds(fields, **others):
    return {
        name: (tuple(size), torch.int64, of) if isinstance(of, int) else (tuple(size), DTYPES[of])
        for name, (of, *size) in fields.items()
    }


@flowconf.provides(shapes=kinds)
def declared(*, fields: dict[str, Kind], rows: int = 32) -> flowconf.Splits:
    """Zeros of the kinds that are written."""
    made = {name: torch.zeros(rows, *size, dtype=dtype) for name, (size, dtype, *_) in kinds(fields).items()}
    return flowconf.Splits(*[flowconf.Resident(made)] * 3)


def undeclared(*, fields: dict[str, Kind], rows: int = 32) -> flowconf.Splits:
    """The same, not declared."""
    return declared(fields=fields, rows=rows)


class Pairs(torch.utils.data.Dataset):
    def __len__(self):
        return 24

    def __getitem__(self, row):
        return {"left": torch.full((8,), row / 24), "right": torch.ones(8), "same": row % 2}


def pairs() -> flowconf.Splits:
    return flowconf.Splits(train=Pairs(), validation=Pairs())


class Stream(torch.utils.data.IterableDataset):
    def __len__(self):
        return 40

    def __iter__(self):
        return ({"x": torch.full((8,), row / 40), "y": row / 40} for row in range(40))


def streamed() -> flowconf.Splits:
    return flowconf.Splits(train=Stream())


class Reparameterize(nn.Module):
    def forward(self, mean: Tensor, logvar: Tensor) -> Tensor:
        return mean + torch.randn_like(mean) * (0.5 * logvar).exp() if self.training else mean


class Last(nn.Module):
    def forward(self, sequence):
        return sequence[:, -1]


class Attention(nn.Module):
    def __init__(self, width, heads=4, causal=False):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        rows, places, width = x.shape
        q, k, v = self.qkv(x).view(rows, places, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).reshape(rows, places, width))


class Positions(nn.Module):
    def __init__(self, length, width):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(length, width))

    def forward(self, x):
        return x + self.weight[: x.shape[1]]


def tower(width: int, *, depth: int = 2) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)))


def kl_normal(mean: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * (1 + logvar - mean.square() - logvar.exp()).sum(-1)


def contrast(one: Tensor, other: Tensor, same: Tensor, *, margin: float = 1.0) -> Tensor:
    distance = (one - other).norm(dim=-1)
    return torch.where(same > 0, distance**2, (margin - distance).clamp_min(0) ** 2)


def nt_xent(one: Tensor, other: Tensor, *, temperature: float = 0.5) -> Tensor:
    z = F.normalize(torch.cat([one, other]), dim=-1)
    scores = (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), float("-inf"))
    return F.cross_entropy(scores, torch.arange(len(z)).roll(len(one)))


def spread(*values: Tensor) -> Tensor:
    return torch.stack(values).var(0)


def dice(logits: Tensor, target: Tensor) -> Tensor:
    p, t = logits.sigmoid().flatten(1), target.float().flatten(1)
    return 1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)


def iou(logits: Tensor, target: Tensor) -> Tensor:
    p, t = (logits > 0).flatten(1), (target > 0).flatten(1)
    return (p & t).sum(1) / (p | t).sum(1).clamp_min(1)


@pytest.fixture
def _project():
    """The names of a project, which the configs use."""
    for register, names in (
        (flowconf.register, (Reparameterize, Last, Attention, Positions, tower)),
        (flowconf.register_dataset, (declared, undeclared, pairs, streamed)),
        (flowconf.register_loss, (kl_normal, contrast, nt_xent, spread, dice)),
        (flowconf.register_metric, (iou,)),
    ):
        for name in names:
            register(name)


@pytest.mark.usefixtures("_project")
@pytest.mark.parametrize("name", CONFIGS)
def test_a_correct_config_is_accepted(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(f"{name}.yaml").write_text(CONFIGS[name], encoding="utf-8")
    assert flowconf.check(f"{name}.yaml") == []
