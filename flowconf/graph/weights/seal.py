"""What a file of tensors says of itself, so that it is known for what it is when it is read again.

Its metadata holds `format`, the version of what is written here; `digests`, for every tensor the digest of its type,
shape and numbers; and `digest`, that of all other texts. What is read is held against them: a file of another version,
a flipped bit, a tensor that was exchanged or left out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

VERSION = 2
"""Version 1 had no digests; its weights are read all the same."""
FORMAT, DIGESTS, DIGEST = "format", "digests", "digest"


class Broken(Exception):
    """Why a file is not what was saved, in words."""


def sealed(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> dict[str, str]:
    """The texts that go into the metadata of a file with these tensors, which are on the CPU and contiguous."""
    digests = {name: digest_of(tensor) for name, tensor in tensors.items()}
    found = {**texts, FORMAT: f"flowconf {VERSION}", DIGESTS: json.dumps(digests)}
    return {**found, DIGEST: _digest_of_texts(found)}


def digest_of(tensor: Tensor) -> str:
    """The SHA-256 digest of a tensor's type, shape and numbers."""
    found = hashlib.sha256(f"{tensor.dtype} {list(tensor.shape)}\n".encode())
    numbers: Any = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    found.update(memoryview(numbers))
    return found.hexdigest()


def version_of(texts: Mapping[str, str]) -> int | None:
    """The version of a file by its metadata; None when flowconf did not write it."""
    found = re.fullmatch(r"flowconf (\d{1,9})", texts.get(FORMAT, ""))
    return int(found[1]) if found else None


def digests_in(texts: Mapping[str, str], names: Collection[str]) -> dict[str, str] | None:
    """The digests of the tensors `names` of a file; None for a file that has none to give.

    Raises `Broken` for a file that is newer than this flowconf, or has lost texts, or tensors.
    """
    version = version_of(texts)
    if version is None or version < VERSION:
        return None
    if version > VERSION:
        raise Broken(f"it has format {version}, and this version of flowconf supports formats up to {VERSION}")
    if texts.get(DIGEST) != _digest_of_texts(texts):
        raise Broken("its metadata does not match its digest")
    digests = json.loads(texts.get(DIGESTS, "null"))
    if not isinstance(digests, dict):
        raise Broken("its metadata has no digests")
    if digests.keys() != set(names):
        changed = sorted(digests.keys() ^ set(names))
        raise Broken(f"`{changed[0]}` was {'removed' if changed[0] in digests else 'added'} after it was saved")
    return digests


def _digest_of_texts(texts: Mapping[str, str]) -> str:
    rest = {name: text for name, text in sorted(texts.items()) if name != DIGEST}
    return hashlib.sha256(json.dumps(rest).encode()).hexdigest()
