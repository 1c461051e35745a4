"""The file or folder that a path may mean that does not exist."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from flowconf.report import nearest

MOST = 1000
"""Entries of a folder that are compared."""


def near_path(written: str, folder: Path = Path(), endings: tuple[str, ...] = ()) -> str | None:
    """`written`, relative to `folder`, with the nearest name in place of the first that does not exist, or None.

    With `endings`, a file has one of them, and the name before it is compared: `unet.yaml` is near `unet.yml`.
    """
    parts = Path(written).parts
    try:
        at = next(at for at in range(len(parts)) if not folder.joinpath(*parts[: at + 1]).exists())
        rest = parts[at + 1 :]
        beside = islice(folder.joinpath(*parts[:at]).iterdir(), MOST)
        found = sorted(entry.name for entry in beside if entry.joinpath(*rest).exists())
    except (OSError, StopIteration, ValueError):
        return None
    if endings and not rest:
        names = {Path(name).stem: name for name in found if name.endswith(endings)}
        close = nearest(Path(parts[at]).stem, names)
    else:
        names = {name: name for name in found}
        close = nearest(parts[at], names)
    return str(Path(*parts[:at], names[close], *rest)) if close is not None else None
