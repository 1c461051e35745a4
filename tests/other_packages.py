"""Imports torchvision, timm, transformers and datasets in tests, where they are installed: `make packages` does it."""

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
    _declare_operators()
    with warnings.catch_warnings(action="ignore"):
        return importlib.import_module(name)


def _declare_operators() -> None:
    """Declare torchvision's operators where its wheel is for another build of torch, which is enough for its models."""
    found = importlib.util.find_spec("torchvision")
    if found is None or not found.submodule_search_locations or _declared:
        return
    try:
        with warnings.catch_warnings(action="ignore"):
            importlib.import_module("torchvision")
    except RuntimeError:
        text = (Path(found.submodule_search_locations[0]) / "_meta_registrations.py").read_text(encoding="utf-8")
        names = set(re.findall(r'register_meta\("(\w+)"\)', text)) | set(re.findall(r'torchvision::(\w+)"', text))
        library = torch.library.Library("torchvision", "DEF")
        for name in sorted(names):
            given = "(Tensor dets, Tensor scores, float iou_threshold)" if name == "nms" else "(Tensor x)"
            library.define(f"{name}{given} -> Tensor")
        _declared.append(library)
