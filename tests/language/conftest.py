"""What the tests of the language share: plans of texts, and the mistakes in them with their places."""

from __future__ import annotations

import importlib
import sys
import textwrap

import pytest

from flowconf import ConfigError, plan
from flowconf.language import signatures


@pytest.fixture
def written(tmp_path):
    """A YAML text as a file."""

    def write(text, name="graph.yaml"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
        return file

    return write


@pytest.fixture
def mistakes(written):
    """The mistakes of a YAML text, each as `code line:column`."""

    def found(text):
        with pytest.raises(ConfigError) as raised:
            plan(written(text))
        for diagnostic in raised.value.diagnostics:
            assert diagnostic.message
            assert diagnostic.place.file is not None
            assert diagnostic.place.line > 0
        return [f"{d.code} {d.place.line}:{d.place.column}" for d in raised.value.diagnostics]

    return found


def project(folder, text, **files):
    """A project file, and modules beside it."""
    (folder / "pyproject.toml").write_text(textwrap.dedent(text), encoding="utf-8")
    for name, content in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(content), encoding="utf-8")


@pytest.fixture
def clean_imports(tmp_path, monkeypatch):
    """A test's project is the current folder; its modules, `proj_...`, are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    loaded = set(sys.modules)
    yield
    for name in set(sys.modules) - loaded:
        if name.startswith("proj_"):
            del sys.modules[name]
    importlib.invalidate_caches()
    for function in vars(signatures).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()
