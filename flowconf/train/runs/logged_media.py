"""The media in the log of a run: the images, histograms and texts of callbacks, as a page shows them."""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from flowconf.train.runs.log_reader import open_regular

IMAGE = re.compile(r"images/(?:(?!\.+/)[\w.-]+/)+\d+\.png", re.ASCII)
PNG = b"\x89PNG\r\n\x1a\n"
LARGEST = 1 << 19
"""The bytes of an image."""
ALL_IMAGES = 1 << 21
"""The bytes of all images of a run."""
MOST_NAMES = 100
"""The number of names of a kind."""
MOST_STEPS = 48
"""The number of histograms of a name; of more, every second one is left out."""
MOST_TEXTS = 5
LONGEST = 10_000
MOST_BINS = 512


class LoggedMedia:
    """The newest image, the last texts, and histograms from the whole run, by name."""

    def __init__(self) -> None:
        self.images: dict[str, tuple[int, str]] = {}
        self.histograms: dict[str, list[dict[str, Any]]] = {}
        self.texts: dict[str, list[dict[str, Any]]] = {}
        self.change = 0

    def take(self, line: Mapping[str, Any], change: int) -> None:
        """Note what a line of the log has; what is not as flowconf writes it is passed over."""
        for kind, note in (("images", self._image), ("histograms", self._histogram), ("texts", self._text)):
            entries = line.get(kind)
            for name, entry in entries.items() if isinstance(entries, dict) else ():
                known = getattr(self, kind)
                if name in known or len(known) < MOST_NAMES:
                    note(name, line["step"], entry)
                    self.change = change

    def as_data(self, folder: Path) -> dict[str, Any]:
        """As plain data, with the images as base64; those that are too large are named only."""
        images: list[dict[str, Any]] = []
        left = ALL_IMAGES
        for name, (step, file) in sorted(self.images.items()):
            png = _png(folder, file)
            if len(png) > left:
                png = b""
            left -= len(png)
            images.append({"name": name, "step": step, "file": file, "png": b64encode(png).decode()})
        return {"images": images, "histograms": self.histograms, "texts": self.texts}

    def _image(self, name: str, step: int, entry: object) -> None:
        file = entry.get("file") if isinstance(entry, dict) else None
        if isinstance(file, str) and IMAGE.fullmatch(file):
            self.images[name] = step, file

    def _histogram(self, name: str, step: int, entry: object) -> None:
        if not isinstance(entry, dict):
            return
        edges, counts = entry.get("edges"), entry.get("counts")
        if not _are_numbers(edges) or not _are_numbers(counts) or len(edges) != len(counts) + 1:
            return
        steps = self.histograms.setdefault(name, [])
        steps.append({"step": step, "edges": [edges[0], edges[-1]], "counts": counts})
        if len(steps) > MOST_STEPS:
            del steps[-2::-2]

    def _text(self, name: str, step: int, entry: object) -> None:
        if isinstance(entry, str):
            texts = self.texts.setdefault(name, [])
            texts.append({"step": step, "text": entry[:LONGEST]})
            del texts[:-MOST_TEXTS]


def _are_numbers(values: object) -> TypeGuard[list[float]]:
    if not isinstance(values, list) or not 0 < len(values) <= MOST_BINS:
        return False
    return all(type(one) in (int, float) and -1e300 < one < 1e300 and math.isfinite(one) for one in values)


def _png(folder: Path, file: str) -> bytes:
    """The image in a file of a run; nothing if it is not there, is no PNG file, too large, or a link leads to it."""
    path = folder / file
    if any(above.is_symlink() for above in path.parents if above != folder and folder in above.parents):
        return b""
    try:
        with open_regular(path) as opened:
            found = opened.read(LARGEST + 1)
    except OSError:
        return b""
    return found if found.startswith(PNG) and len(found) <= LARGEST else b""
