"""What holds in every test: one thread, the same random numbers, and an accelerator only where it is asked for."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("flowconf", deadline=None, derandomize=True, max_examples=50, print_blob=True)
settings.load_profile("flowconf")


@pytest.fixture(autouse=True)
def _no_colour(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture(autouse=True)
def _same_random_numbers():
    torch.manual_seed(0)


def pytest_configure(config):
    """Tests see no accelerator, unless those that need one are asked for: many fork, which ends CUDA in the child."""
    if "gpu" not in config.option.markexpr:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs an accelerator, and `-m gpu`"))
