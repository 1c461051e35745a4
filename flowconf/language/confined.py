"""Runs constructors of packages that a project lists: without a network, other processes, pickles or written files.

The packages are trusted, but their arguments come from a config, which must not make them download, unpickle or run
anything: weights are loaded by `checkpoint`.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, wraps
from types import ModuleType
from typing import Any

NETWORK, PROCESS, FILES = "connect to the network", "start a process", "change files"
REFUSED = {
    "socket.connect": NETWORK,
    "socket.sendto": NETWORK,
    "socket.bind": NETWORK,
    "socket.getaddrinfo": NETWORK,
    "socket.gethostbyname": NETWORK,
    "urllib.Request": NETWORK,
    "subprocess.Popen": PROCESS,
    "os.system": PROCESS,
    "os.exec": PROCESS,
    "os.fork": PROCESS,
    "os.posix_spawn": PROCESS,
    "os.spawn": PROCESS,
    "pickle.find_class": "open a pickle",
    "os.mkdir": FILES,
    "os.rename": FILES,
    "os.remove": FILES,
    "os.rmdir": FILES,
    "os.truncate": FILES,
    "os.link": FILES,
    "os.symlink": FILES,
    "shutil.rmtree": FILES,
    "shutil.move": FILES,
}
"""Audit events of Python that end a constructor, and what they would do."""
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class ConfinedError(Exception):
    """A constructor tried to do more than construct. The message says what, to follow "it would"."""


@dataclass(eq=False)
class _Confinement:
    """A running block, which confines its own thread and those that began since."""

    thread: int
    others: frozenset[int]
    tried: str | None = None
    """The first attempt."""

    def holds(self, thread: int) -> bool:
        return thread == self.thread or thread not in self.others


_running: list[_Confinement] = []


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if not _running:
        return
    what = REFUSED.get(event)
    if event == "open" and _writes(*args):
        what = FILES
    if what is None or (what == FILES and (_is_of_python(args[0]) or _is_of_compiler())):
        return
    thread = threading.get_ident()
    holding = [one for one in _running if one.holds(thread)]
    for one in holding:
        one.tried = one.tried or what
    if holding:
        raise ConfinedError(what)


def _writes(path: object, mode: object, flags: object) -> bool:
    """Whether a file is opened for writing."""
    writes = isinstance(mode, str) and any(letter in mode for letter in "wax+")
    return path != os.devnull and (writes or (mode is None and isinstance(flags, int) and bool(flags & WRITES)))


def _is_of_python(path: object) -> bool:
    """Whether a path belongs to Python's own cache of compiled modules, which an import writes."""
    return isinstance(path, str | bytes) and "__pycache__" in os.fsdecode(path)


def _is_of_compiler() -> bool:
    """Whether torch makes the folder of its compiler's cache: it imports the compiler when it needs a part of it."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_globals.get("__name__") == "torch._inductor.runtime.cache_dir_utils":
            return True
    return False


@cache
def _listen() -> None:
    """Add the audit hook, which cannot be removed and does nothing outside of `confined`."""
    sys.addaudithook(_audit)


@contextmanager
def confined() -> Iterator[None]:
    """A block that cannot reach beyond memory. Raises `ConfinedError`, also for attempts whose errors were caught."""
    _listen()
    own = threading.get_ident()
    here = _Confinement(own, frozenset(sys._current_frames()) - {own})
    _running.append(here)
    try:
        yield
    except Exception as problem:
        if here.tried is not None and not isinstance(problem, ConfinedError):
            raise ConfinedError(here.tried) from problem
        raise
    else:
        if here.tried is not None:
            raise ConfinedError(here.tried)
    finally:
        _running.remove(here)


def in_confinement(constructor: Callable[..., Any]) -> Callable[..., Any]:
    """A constructor that runs in `confined`."""

    @wraps(constructor, updated=())
    def construct(*args: Any, **kwargs: Any) -> Any:
        with confined():
            return constructor(*args, **kwargs)

    return construct


class ConfinedPackage:
    """A package whose classes and functions run in `confined`, for generated source: `timm.create_model(...)`."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        return ConfinedPackage(found) if isinstance(found, ModuleType) else in_confinement(found)


def package(name: str) -> ConfinedPackage:
    """The package at the top of the module `name`, which is imported."""
    importlib.import_module(name)
    return ConfinedPackage(sys.modules[name.partition(".")[0]])
