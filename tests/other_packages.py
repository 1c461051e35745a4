"""Packages that some tests use where `make packages` has installed them: torchvision, timm, transformers, datasets."""

from __future__ import annotations

import importlib
import importlib.util
import re
import warnings
from pathlib import Path
from types import ModuleType

import pytest
import torch

_declared: list[torch.library.Library] = []


def imported(name: str) -> ModuleType:
    """A package, or a module of it; the test is skipped where it is not installed."""
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        pytest.skip(f"{name.partition('.')[0]} is not installed")
    with warnings.catch_warnings(action="ignore"):
        return importlib.import_module(name)


def declare_operators() -> None:
    """Declare torchvision's operators if its wheel is for another build of torch, and they do not load.

    That is enough for its models and transforms, and for packages that import it.
    """
    found = importlib.util.find_spec("torchvision")
    if found is None or not found.submodule_search_locations or _declared:
        return
    folder = Path(found.submodule_search_locations[0])
    try:
        torch.ops.load_library(str(next(folder.glob("_C*.so"))))
    except (OSError, StopIteration):
        text = (folder / "_meta_registrations.py").read_text(encoding="utf-8")
        names = set(re.findall(r'register_meta\("(\w+)"\)', text)) | set(re.findall(r'torchvision::(\w+)"', text))
        library = torch.library.Library("torchvision", "DEF")
        for name in sorted(names):
            given = "(Tensor dets, Tensor scores, float iou_threshold)" if name == "nms" else "(Tensor x)"
            library.define(f"{name}{given} -> Tensor")
        _declared.append(library)
