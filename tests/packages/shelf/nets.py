from __future__ import annotations

import os as os
import pickle
import socket
import subprocess
import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "Encoder",
    "Net",
    "Other",
    "Pair",
    "Pyramid",
    "Rates",
    "Settings",
    "careless",
    "fetching",
    "net",
    "remove",
    "spawning",
    "threaded",
    "undeclared",
    "unpickling",
    "writing",
]


class Block(nn.Sequential):
    def __init__(self, inner: int, outer: int) -> None:
        super().__init__(nn.Conv2d(inner, outer, 3, padding=1), nn.BatchNorm2d(outer), nn.ReLU())


class Net(nn.Module):
    """A classifier of pictures."""

    def __init__(self, width: int = 8, classes: int = 10, dropout: float = 0.0) -> None:
        super().__init__()
        self.layer1, self.layer2 = Block(3, width), Block(width, 2 * width)
        self.act = nn.Tanh()
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(2 * width, classes)
        self.spare = nn.Linear(1, 1)
        self.changed = nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        seen = self.act(self.layer2(self.act(self.layer1(image))))
        pooled = self.changed(seen.mean((2, 3)).neg()).neg_()
        return self.fc(self.drop(pooled))


def net(*, weights: str | None = None, width: int = 8, **others: Any) -> Net:
    """A network, with weights if they are named."""
    if weights is not None:
        raise AssertionError("weights were loaded")
    return Net(width, **others)


class Pyramid(nn.Module):
    """The features of two levels."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.layer1, self.layer2 = Block(3, width), Block(width, 2 * width)

    def forward(self, image: Tensor) -> list[Tensor]:
        first = self.layer1(image)
        return [first, self.layer2(first)]


class Settings:
    """What an `Encoder` is made from."""

    def __init__(self, vocabulary: int = 11, width: int = 8, depth: int = 2, **others: Any) -> None:
        self.vocabulary, self.width, self.depth = vocabulary, width, depth
        self.verbose = False
        vars(self).update(others)


class Other:
    """Settings of something else."""


@dataclass
class Read:
    last: Tensor
    levels: tuple[Tensor, ...] | None = None


class Attend(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, words: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        scores = self.query(words) @ self.key(words).transpose(1, 2)
        if mask is not None:
            scores = scores.masked_fill(mask[:, None] == 0, -1e9)
        return words + scores.softmax(-1) @ self.value(words), scores


class Encoder(nn.Module):
    """An encoder of words."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.embeddings = nn.Embedding(settings.vocabulary, settings.width)
        self.layers = nn.ModuleList([Attend(settings.width) for _ in range(settings.depth)])

    def forward(self, words: Tensor, mask: Tensor | None = None) -> Read:
        values = self.embeddings(words)
        for layer in self.layers:
            values, _ = layer(values, mask)
        return Read(values)


class Pair(nn.Module):
    """A network in a dict."""

    def __init__(self, first: Net | None = None) -> None:
        super().__init__()
        self.first = first or Net()

    def forward(self, image: Tensor) -> OrderedDict[str, Tensor]:
        return OrderedDict(out=self.first(image), image=image)


class Rates(nn.Module):
    """Layers with rates that are computed as numbers."""

    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        rates = torch.linspace(0, 0.3, depth).tolist()
        self.layers = nn.Sequential(*(nn.Dropout(rate) for rate in rates), nn.Linear(4, depth))
        nn.init.trunc_normal_(self.layers[-1].weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def fetching(port: int) -> Net:
    """Tries to download."""
    socket.create_connection(("127.0.0.1", port)).close()
    return Net()


def careless(port: int) -> Net:
    """Tries to download, and goes on without."""
    try:
        return fetching(port)
    except Exception:  # noqa: BLE001 - careless
        return Net()


def unpickling(file: str) -> Net:
    """Opens a pickle."""
    return pickle.loads(Path(file).read_bytes())


def spawning(mark: str) -> Net:
    """Starts a process."""
    subprocess.run(["touch", mark], check=True)
    return Net()


def threaded(mark: str) -> Net:
    """Does it in a thread."""

    def touch() -> None:
        with suppress(Exception):
            Path(mark).touch()

    thread = threading.Thread(target=touch)
    thread.start()
    thread.join()
    return Net()


def writing(mark: str) -> Net:
    """Writes a file."""
    Path(mark).write_text("written")
    return Net()


def remove(file: str) -> None:
    """Something that gives no module."""
    Path(file).unlink()


def undeclared(width=8):
    """A module, without an annotation that says so."""
    return Net(width)
