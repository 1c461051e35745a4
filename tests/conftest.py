"""What holds in every test: one thread, the same random numbers, and an accelerator only where it is asked for."""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings
from torch.multiprocessing import reductions

from flowconf.language import projects
from flowconf.language.registry import TABLES
from tests.graph.hub_server import Hub
from tests.other_packages import declare_operators

# A job in the background, or one under nohup, begins with these ignored, and flowconf leaves what is ignored alone.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

torch.set_num_threads(1)
settings.register_profile("flowconf", deadline=None, derandomize=True, max_examples=50, print_blob=True)
settings.load_profile("flowconf")

VERSION, WORDS = 0x20080522, 6
OVERRIDES = 0b110
"""The capabilities of passing over permissions, CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, in the first word."""


@pytest.fixture(autouse=True)
def _no_colour(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture(autouse=True)
def _same_random_numbers():
    torch.manual_seed(0)


for table in TABLES.values():
    assert table.locations  # what flowconf offers itself is read before the first test


@pytest.fixture(autouse=True)
def _names_of_one_project(monkeypatch):
    """What a test's project offers is unknown to the next test."""
    for table in TABLES.values():
        monkeypatch.setattr(table, "registered", dict(table.registered))
        monkeypatch.setattr(table, "offered", dict(table.offered))
    monkeypatch.setattr(projects._trust, "packages", dict(projects._trust.packages))
    yield
    sys.modules.pop("flowconf.fbrl.offers", None)


@pytest.fixture
def table():
    """The table of modules, to register some in."""
    return TABLES["modules"]


@pytest.fixture(autouse=True)
def _imports_of_one_project(monkeypatch):
    """No test searches the folders of earlier ones, which projects add to the path."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def flagship():
    """What the flagship offers, in a test that reads no file of this repository's project."""
    importlib.import_module("flowconf.fbrl.offers")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on loopback without models, and an empty cache."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="huggingface_hub is not installed")
    made = Hub(tmp_path / "hub")
    with made.served() as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        address_of_file = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address_of_file)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield made


@pytest.fixture
def permissions_count():
    """Root lays down its rights to pass over permissions, so that these count for it as for anybody."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "capset"):
        yield
        return
    header = (ctypes.c_uint32 * 2)(VERSION, 0)
    held = (ctypes.c_uint32 * WORDS)()
    assert libc.capget(header, held) == 0
    less = (ctypes.c_uint32 * WORDS)(*held)
    less[0] &= ~OVERRIDES
    assert libc.capset(header, less) == 0
    yield
    assert libc.capset(header, held) == 0


def pytest_configure(config):
    """Tests see no accelerator, unless those that need one are asked for: many fork, and CUDA does not outlive that.

    Nor does autograd where it has threads for devices. It looks for them once, here, before fake tensors pretend one.
    """
    if "gpu" not in config.option.markexpr:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        torch.ones((), requires_grad=True).backward()
    declare_operators()


def pytest_unconfigure():
    """Free what workers of data loaders have shared: at exit, torch may have lost the function that does it."""
    reductions.shared_cache.clear()


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs an accelerator, and `-m gpu`"))
