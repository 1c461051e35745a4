"""Everything that a project can register, each used by `own.yaml`."""

import math
from pathlib import Path

import torch
from torch import Tensor, nn

import flowconf

from .helpers import scaled  # noqa: TID252 - a project may write its imports so


@flowconf.register
class Bump(nn.Module):
    """One weight for each feature."""

    def __init__(self, width: int, *, gain: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), gain))

    def forward(self, x: Tensor) -> Tensor:
        return scaled(x, self.weight)


@flowconf.register
def tower(width: int, *, depth: int = 2) -> nn.Sequential:
    """Linear layers; a factory that says what it makes."""
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)))


@flowconf.register
def plain(width: int):
    return nn.Linear(width, width)


@flowconf.register_loss
def distance(predicted: Tensor, target: Tensor, *, power: float = 2.0) -> Tensor:
    """The error to a power, one value per element."""
    return (predicted - target).abs() ** power


@flowconf.register_metric
def near(predicted: Tensor, target: Tensor, *, margin: float = 0.5) -> Tensor:
    """Whether an element is within a margin."""
    return ((predicted - target).abs() < margin).float()


@flowconf.register_optimizer
def signed(params, *, lr: float = 0.01) -> torch.optim.Optimizer:
    """Steps of one size."""
    return Signed(params, {"lr": lr})


class Signed(torch.optim.Optimizer):
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight -= group["lr"] * weight.grad.sign()


@flowconf.register_schedule
def dip(progress: float, *, depth: float = 0.5) -> float:
    """Down in the middle of the run and up again."""
    return 1 - depth * math.sin(math.pi * progress)


@flowconf.register_adapter
class shift(nn.Module):
    """Adds one number to each row of a weight."""

    def __init__(self, weight: Tensor, *, start: float = 0.0):
        super().__init__()
        self.by = nn.Parameter(torch.full((weight.shape[0], 1), start))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.by


class Rows(torch.utils.data.Dataset):
    def __init__(self, x: Tensor, y: Tensor):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row: int):
        return {"x": self.x[row], "y": self.y[row]}


def rows_of(file, needed, *, fitted, **others) -> flowconf.Resident:
    """Rows of numbers in a text file, in units of the training rows."""
    x = torch.tensor([[float(word) for word in line.split()] for line in Path(file).read_text().splitlines()])
    return flowconf.Resident({"x": x / fitted["unit"]})


@flowconf.register_dataset
@flowconf.provides("x", "y", shapes=lambda **_: {"x": ((4,), torch.float32), "y": ((2,), torch.float32)}, rows=rows_of)
def waves(*, rows: int = 48, seed: int = 0, fitted: dict | None = None) -> flowconf.Splits:
    """Noise, its sum and its first number, in units of the training rows."""
    x = torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed))
    fitted = fitted or {"unit": float(x[: rows // 2].std())}
    x = x / fitted["unit"]
    y = torch.stack([x.sum(1), x[:, 0]], 1)
    half, rest = rows // 2, rows // 4
    parts = zip(x.split([half, rest, rows - half - rest]), y.split([half, rest, rows - half - rest]), strict=True)
    return flowconf.Splits(*(Rows(*part) for part in parts), fitted=fitted)


@flowconf.register_callback
class Look:
    """The mean of what it reads."""

    def __init__(self, *, digits: int = 3):
        self.digits = digits

    def values(self, run, values):
        run.log({name: round(float(value.mean()), self.digits) for name, value in values.items()})


@flowconf.register_augmentation
class Wobble:
    """Noise on a row."""

    def __init__(self, strength: float = 0.1):
        self.strength = strength

    def __call__(self, x: Tensor) -> Tensor:
        return x + self.strength * torch.randn(x.shape)


@flowconf.register_logger
class Diary:
    """Lines in a file of the run folder."""

    def __init__(self, run, *, file: str = "diary.txt"):
        self.path = run.folder / file

    def log(self, step, values):
        with self.path.open("a") as out:
            out.write(f"{step} {' '.join(sorted(values))}\n")

    def close(self, status):
        with self.path.open("a") as out:
            out.write(f"{status}\n")
