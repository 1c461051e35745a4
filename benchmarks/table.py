"""A table of results: printed row by row while it is measured, and kept for the page that `page.py` writes."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch


@dataclass
class Table:
    """`about` says what was measured, and how, in the words of the page."""

    name: str
    title: str
    about: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    machine: str = ""

    def add(self, *cells: str) -> None:
        """Add a row, and print it."""
        if not self.rows:
            print(f"\n{self.title}\n" + "  ".join(f"{name:>18}" for name in self.columns))
        self.rows.append(list(cells))
        print("  ".join(f"{cell:>18}" for cell in cells), flush=True)

    def save(self, folder: Path | None) -> None:
        """Write the table to `FOLDER/NAME.json`, with the machine that it was measured on."""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self.machine = machine()
            text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
            (folder / f"{self.name}.json").write_text(f"{text}\n", encoding="utf-8")


def machine() -> str:
    """The processor, the versions, and how busy the machine was."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text(encoding="utf-8").splitlines() if cpu.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    busy = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else "load unknown"
    return f"{name}{device}, {busy}; Python {platform.python_version()}, torch {version('torch')}"


def ratio(mine: Sequence[float], base: Sequence[float]) -> str:
    """The median of the ratios of the rounds, and their spread: the lowest and the highest."""
    found = [one / other for one, other in zip(mine, base, strict=True)]
    return f"{statistics.median(found):.2f} ({min(found):.2f}–{max(found):.2f})"
