"""The media that a run logs: images, histograms and texts, in the form in which every logger gets them."""

from __future__ import annotations

import io
import math
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

BINS = 64
MARGIN = 2
"""Pixels between the images of a grid."""
NAME = re.compile(r"(?!\.+(/|$))[\w.-]+(/(?!\.+(/|$))[\w.-]+)*")
"""Names of what is logged: words and `/`, which also make the path of a file."""
Texts = Mapping[str, str]


@dataclass(frozen=True)
class Image:
    """A picture in the run folder."""

    file: Path
    """A PNG file."""
    height: int
    width: int
    channels: int
    """1: grey, 2: grey with opacity, 3: colours, 4: colours with opacity."""
    png: bytes = field(repr=False)


@dataclass(frozen=True)
class Histogram:
    """The distribution of some numbers; those that are not finite are left out."""

    edges: list[float]
    """The limits of the bins: one more than the counts."""
    counts: list[int]
    total: float
    squares: float
    """The sums of the numbers and of their squares."""

    @property
    def number(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True)
class Media:
    """The media of one step, by kind and name."""

    images: Mapping[str, Image] = field(default_factory=dict)
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    texts: Texts = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(self.kinds().values())

    def kinds(self) -> dict[str, Mapping[str, Any]]:
        """Everything by the name of its kind, which is also that of the method of a logger after `log_`."""
        return {"images": self.images, "histograms": self.histograms, "texts": self.texts}

    def as_data(self, folder: Path) -> dict[str, dict[str, Any]]:
        """As plain data for the log of a run, with files relative to its folder."""
        images = {
            name: {
                "file": image.file.relative_to(folder.absolute()).as_posix(),
                "height": image.height,
                "width": image.width,
            }
            for name, image in self.images.items()
        }
        histograms = {name: {"edges": one.edges, "counts": one.counts} for name, one in self.histograms.items()}
        kinds: dict[str, dict[str, Any]] = {"images": images, "histograms": histograms, "texts": dict(self.texts)}
        return {kind: found for kind, found in kinds.items() if found}


NO_MEDIA = Media()


def check_name(name: object) -> str:
    """A name of what is logged. Raises `ValueError`."""
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        raise ValueError(f"a name must consist of letters, digits, `_`, `-`, `.` and `/`, got {name!r}")
    return name


def number_of(name: str, value: object) -> float:
    """A scalar as a number. Raises `TypeError`."""
    if isinstance(value, Tensor) or type(value).__module__ == "numpy":
        value = _tensor(name, value)
        if value.numel() == 1 and not value.is_complex():
            return float(value)
    elif isinstance(value, int | float):
        return float(value)
    raise TypeError(f"the scalar `{name}` must be a number, got {_shown(value)}")


def histogram_of(name: str, values: object) -> Histogram:
    """A histogram of numbers in any shape. Raises `TypeError`."""
    found = _tensor(name, values).reshape(-1).double()
    found = found[found.isfinite()]
    if not len(found):
        return Histogram([0.0, 1.0], [0], 0.0, 0.0)
    low, high = float(found.min()), float(found.max())
    counts, edges = torch.histogram(found, BINS, range=(low, high) if low < high else (low - 0.5, high + 0.5))
    return Histogram(
        edges.tolist(), [int(count) for count in counts.tolist()], float(found.sum()), float(found @ found)
    )


def text_of(name: str, text: object) -> str:
    """A text. Raises `TypeError`."""
    if not isinstance(text, str):
        raise TypeError(f"the text `{name}` must be a string, got {_shown(text)}")
    return text.encode(errors="replace").decode()


def image_of(name: str, values: object, file: Path) -> Image:
    """An image, or several as a grid: [height, width], [channels, ...] or [images, channels, height, width].

    Numbers are between 0 and 1 (what is outside is cut off), or bytes. Raises `TypeError` and `ValueError`.
    """
    pixels = _grid(_as_bytes(_several(name, _tensor(name, values))))
    channels, height, width = pixels.shape
    return Image(file, height, width, channels, _png(pixels))


def figure_of(name: str, figure: object, file: Path) -> Image:
    """A figure of matplotlib as an image. Raises `TypeError`."""
    save = getattr(figure, "savefig", None)
    if save is None:
        raise TypeError(f"the figure `{name}` must be a figure of matplotlib, got {_shown(figure)}")
    out = io.BytesIO()
    save(out, format="png")
    png = out.getvalue()
    width, height, _, kind = struct.unpack(">IIBB", png[16:26])
    return Image(file, height, width, {0: 1, 4: 2, 2: 3}.get(kind, 4), png)


def _tensor(name: str, values: object) -> Tensor:
    """A tensor on the CPU of what can be one. Raises `TypeError`."""
    try:
        found = values if isinstance(values, Tensor) else torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"`{name}` must be a tensor or an array, got {_shown(values)}") from None
    return found.detach().cpu()


def _several(name: str, images: Tensor) -> Tensor:
    """Images as [images, channels, height, width]. Raises `ValueError` for another shape."""
    given = list(images.shape)
    if images.ndim == 2:
        images = images[None, None]
    elif images.ndim == 3:
        images = images[None] if images.shape[0] in (1, 3, 4) else images[:, None]
    if images.ndim != 4 or images.shape[1] not in (1, 2, 3, 4) or not images.numel():
        shapes = "[height, width], [channels, height, width] or [images, channels, height, width]"
        raise ValueError(f"the image `{name}` must have the shape {shapes}, got {given}")
    return images


def _as_bytes(images: Tensor) -> Tensor:
    if images.dtype == torch.uint8:
        return images
    return (images.double().nan_to_num(0.0).clamp(0, 1) * 255).round().to(torch.uint8)


def _grid(images: Tensor) -> Tensor:
    """One picture [channels, height, width] of several, in rows."""
    count, channels, height, width = images.shape
    if count == 1:
        return images[0]
    columns = math.isqrt(count - 1) + 1
    rows = -(-count // columns)
    tall, wide = height + MARGIN, width + MARGIN
    found = torch.zeros(channels, rows * tall - MARGIN, columns * wide - MARGIN, dtype=torch.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * tall, number % columns * wide
        found[:, top : top + height, left : left + width] = image
    return found


def _png(pixels: Tensor) -> bytes:
    """The PNG file of bytes [channels, height, width]."""
    channels, height, width = pixels.shape
    lines = pixels.permute(1, 2, 0).reshape(height, width * channels)
    filtered = torch.cat([torch.zeros(height, 1, dtype=torch.uint8), lines], 1).contiguous()
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    body = zlib.compress(bytes(filtered.numpy()), 6)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _shown(value: object) -> str:
    return f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else f"`{type(value).__name__}`"
