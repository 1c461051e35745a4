"""Imports that take time."""

from __future__ import annotations

import gc


def import_torch() -> None:
    """Import torch, and the part of it that every optimizer and every check of shapes imports when it is made.

    This makes a great many objects, all of which stay: looking for garbage meanwhile, and among them ever after, would
    take a fifth of the time to a run's first step.
    """
    gc.disable()
    try:
        import torch._dynamo  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()
