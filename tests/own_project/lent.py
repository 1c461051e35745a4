"""A package that the project lists, without flowconf."""

import torch
from torch import Tensor, nn


class Mixer(nn.Module):
    """Two layers around a normalisation: [B, width] -> two of [B, width]."""

    def __init__(self, width: int, *, hidden: int = 2) -> None:
        super().__init__()
        self.down = nn.Linear(width, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.up = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mixed = self.up(torch.relu(self.norm(self.down(x))))
        return x + mixed, mixed
