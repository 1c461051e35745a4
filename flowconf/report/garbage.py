"""Python's garbage collection, which takes a fifth of the time where many objects are made and none is garbage."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """A block without garbage collection."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextmanager
def uncollected_to_the_end() -> Iterator[None]:
    """The same for a command that trains nothing: there is no collection when its process ends either."""
    atexit.register(gc.freeze)
    with uncollected():
        yield
