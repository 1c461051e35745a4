"""Reads files of tensors: safetensors with their digests, and files of `torch.save`, without running code."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from flowconf.graph.weights.file_names import INDEX
from flowconf.graph.weights.layouts import TensorSets, sets_of, shards_of
from flowconf.graph.weights.seal import Broken, data_of, digest_of, digests_in
from flowconf.graph.weights.sources import as_unicode
from flowconf.report import ConfigError, Diagnostic, Place, shown_path, why_not

_UNREADABLE: tuple[tuple[str, tuple[str, str | None]], ...] = (
    ("incomplete metadata|not fully covered", ("it is truncated", "copy it again")),
    ("deserializing header", ("it is not a safetensors file", None)),
    ("Weights only load failed|[Ii]nvalid magic number|unpickling", ("it is not a file of `torch.save`", None)),
    ("central directory|zip archive", ("it is truncated, or not a file of `torch.save`", None)),
)
"""Error messages of the libraries, with a clear message and the advice."""


@dataclass(frozen=True)
class TensorFile:
    """An open file of tensors. Headers are read immediately, tensors on demand."""

    names: list[str]
    texts: Mapping[str, str]
    shape_of: Callable[[str], tuple[int, ...]]
    read: Callable[[str], Tensor]
    """Read a tensor to the CPU. Raises `ConfigError` if it differs from what was saved."""
    others: Mapping[str, int] = field(default_factory=dict)
    """Further sets of tensors in the file that are not read, and their sizes."""


@contextmanager
def opened(file: Path, place: Place, device: str = "cpu", at: str | None = None) -> Iterator[TensorFile]:
    """Open a file of tensors. Raises `ConfigError` if it cannot be read (FC0301), or is corrupt or too new (FC0306).

    The `device` "meta" reads only the shapes of a `.pt` file; `at` chooses among several sets of tensors in one.
    """
    if file.name.endswith(INDEX):
        with _opened_shards(file, place, device) as whole:
            yield whole
        return
    if file.suffix != ".safetensors":
        sets = tensor_sets(file, place, device, at)
        tensors, others = sets.main, {path: len(one) for path, one in sets.others.items()}
        yield TensorFile(list(tensors), {}, lambda name: tuple(tensors[name].shape), lambda name: tensors[name], others)
        return
    try:
        with as_unicode(file) as path, safe_open(path, framework="pt") as found:
            names, texts = list(found.keys()), dict(found.metadata() or {})
            digests = digests_in(texts, names)

            def read(name: str) -> Tensor:
                tensor: Tensor = found.get_tensor(name)
                if digests is not None and digest_of(tensor, data_of(tensor)) != digests[name]:
                    raise Broken(f"`{name}` does not match its digest")
                return tensor

            yield TensorFile(names, texts, lambda name: tuple(found.get_slice(name).get_shape()), read)
    except Broken as problem:
        raise broken(file, place, str(problem)) from None
    except (SafetensorError, OSError) as problem:
        raise unreadable(file, place, problem) from None


@contextmanager
def _opened_shards(file: Path, place: Place, device: str) -> Iterator[TensorFile]:
    """Open the files of an index as one. Raises `ConfigError`."""
    of = shards_of(file, place)
    with ExitStack() as stack:
        shards = {shard: stack.enter_context(opened(shard, place, device)) for shard in dict.fromkeys(of.values())}
        for name, shard in of.items():
            if name not in shards[shard].names:
                message = f"`{name}` is not in `{shown_path(shard)}`, but its index says so"
                raise ConfigError(Diagnostic("FC0301", message, place))
        yield TensorFile(list(of), {}, lambda name: shards[of[name]].shape_of(name), lambda n: shards[of[n]].read(n))


def check_whole(file: Path, place: Place) -> None:
    """Raise `ConfigError` if a tensor of a file differs from what was saved."""
    with opened(file, place) as found:
        for name in found.names:
            found.read(name)


def broken(file: Path, place: Place, why: str) -> ConfigError:
    """The error for a corrupt file."""
    message = f"`{shown_path(file)}` cannot be used: {why}"
    return ConfigError(Diagnostic("FC0306", message, place))


def tensor_sets(file: Path, place: Place, device: str = "cpu", at: str | None = None) -> TensorSets:
    """The tensors of a file of `torch.save`; with the device "meta" only their headers. Raises `ConfigError`."""
    try:
        with warnings.catch_warnings(action="ignore"):  # about pickles that are not from torch
            found = torch.load(file, map_location=device, weights_only=True)
    except Exception as problem:  # noqa: BLE001 - a hostile or damaged file may raise anything
        raise unreadable(file, place, problem) from None
    return sets_of(found, at, file, place)


def _refused(file: Path) -> str | None:
    """The error of the operating system on opening a file, or None."""
    try:
        file.open("rb").close()
    except OSError as problem:
        return why_not(problem)
    return None


def unreadable(file: Path, place: Place, problem: Exception) -> ConfigError:
    """The error for a file that cannot be read as weights."""
    words = _refused(file) or str(problem)
    why, advice = next((meaning for sign, meaning in _UNREADABLE if re.search(sign, words)), (None, None))
    code = re.search(r"GLOBAL (\S+)", words)
    if code is not None and "Weights only load failed" in words:
        why, advice = f"it refers to code, `{code[1]}`", "save only tensors: a `state_dict`, or safetensors"
    if isinstance(problem, KeyError):  # an opcode that torch does not know
        why = "it is not a file of `torch.save`"
    why = why or (words.strip().splitlines() or [type(problem).__name__])[0][:200]
    message = f"`{shown_path(file)}` cannot be read as weights: {why}"
    return ConfigError(Diagnostic("FC0301", message, place, advice=advice))
