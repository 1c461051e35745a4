"""Digests in files of tensors, to detect corruption.

The metadata has `format`, the version of the format; `digests`, of the type, shape and data of every tensor; and
`digest`, of all other metadata. Reading checks them, and detects another version, a flipped bit, and tensors that
were exchanged, added or removed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy
import torch
from torch import Tensor

from flowconf.report import from_json

VERSION = 2
"""Version 1 had no digests; its weights can still be read."""
FORMAT, DIGESTS, DIGEST = "format", "digests", "digest"


class Broken(Exception):
    """A file is corrupt; the message is the reason."""


def sealed(digests: Mapping[str, str], texts: Mapping[str, str]) -> dict[str, str]:
    """The metadata for a file of tensors with these digests."""
    found = {**texts, FORMAT: f"flowconf {VERSION}", DIGESTS: json.dumps(digests)}
    return {**found, DIGEST: _digest_of_texts(found)}


def digest_of(tensor: Tensor, data: memoryview) -> str:
    """The SHA-256 digest of the type, shape and data of a tensor; `data` is `data_of` it."""
    found = hashlib.sha256(f"{tensor.dtype} {list(tensor.shape)}\n".encode())
    found.update(data)
    return found.hexdigest()


def data_of(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, in memory that it shares if it is contiguous and on the CPU."""
    own = tensor.detach().cpu().contiguous()
    numbers: Any
    try:
        numbers = own.numpy().reshape(-1).view(numpy.uint8)  # a quarter of the time of torch's views
    except TypeError:  # a type that NumPy does not have, such as bfloat16
        numbers = own.reshape(-1).view(torch.uint8).numpy()
    return memoryview(numbers)


def version_of(texts: Mapping[str, str]) -> int | None:
    """The format version of a file from its metadata; None if flowconf did not write it."""
    found = re.fullmatch(r"flowconf (\d{1,9})", texts.get(FORMAT, ""))
    return int(found[1]) if found else None


def digests_in(texts: Mapping[str, str], names: Collection[str]) -> dict[str, str] | None:
    """The digests of the tensors `names` of a file; None for a file without digests.

    Raises `Broken` for a newer format, and for changed metadata or a changed set of tensors.
    """
    version = version_of(texts)
    if version is None or version < VERSION:
        return None
    if version > VERSION:
        raise Broken(f"it has format {version}, but this version of flowconf supports formats up to {VERSION}")
    if texts.get(DIGEST) != _digest_of_texts(texts):
        raise Broken("its metadata does not match its digest")
    try:
        digests = from_json(texts.get(DIGESTS, "null"))
    except ValueError:
        digests = None
    if not isinstance(digests, dict):
        raise Broken("its metadata has no digests")
    if digests.keys() != set(names):
        changed = sorted(digests.keys() ^ set(names))
        raise Broken(f"`{changed[0]}` was {'removed' if changed[0] in digests else 'added'} after it was saved")
    return digests


def _digest_of_texts(texts: Mapping[str, str]) -> str:
    rest = {name: text for name, text in sorted(texts.items()) if name != DIGEST}
    return hashlib.sha256(json.dumps(rest).encode()).hexdigest()
