"""Slow imports."""

from __future__ import annotations

import gc


def import_torch() -> None:
    """Import torch, and the part of it that optimizers and the shape check import on first use.

    The import creates many objects that are never freed. Garbage collection during the import, and of these objects
    later, would take a fifth of the time to the first step of a run, so they are excluded from it.
    """
    gc.disable()
    try:
        import torch._dynamo  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()
