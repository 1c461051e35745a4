"""Files and rules that the tests of composition share."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from flowconf.report import ConfigError, Diagnostic
from flowconf.text.compose import Composition, compose
from flowconf.text.merge import MergeRules

RULES = MergeRules(
    flow="flow",
    call="through",
    mount="graph",
    label="label",
    bodies=frozenset({"skip", "router", "while", "until", "merge"}),
    verbs=frozenset({"through", "also", "fork", "split", "gate", "switch", "loop", "map", "graph", "reuse"}),
    settable=frozenset({"frozen", "using", "from", "tag", "checkpoint", "after", "before", "label", "times", "with"}),
    optional=frozenset({"trainer.epochs", "trainer.clip", "seed", "loss.*.weight"}),
)


@pytest.fixture
def rules() -> MergeRules:
    return RULES


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], Path]:
    """Writes files into a fresh project, which becomes the current folder, and gives that folder."""
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.chdir(tmp_path)

    def write(texts: dict[str, str]) -> Path:
        for name, text in texts.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text), encoding="utf-8")
        return tmp_path

    return write


@pytest.fixture
def composed(files: Callable[[dict[str, str]], Path]) -> Callable[..., Composition]:
    """Writes files and composes `configs/main.yaml` of them."""

    def make(texts: dict[str, str], *words: str, main: str = "configs/main.yaml") -> Composition:
        return compose(files(texts) / main, words, RULES)

    return make


@pytest.fixture
def refused(composed: Callable[..., Composition]) -> Callable[..., tuple[Diagnostic, ...]]:
    """The diagnostics of a composition that must fail."""

    def make(texts: dict[str, str], *words: str, main: str = "configs/main.yaml") -> tuple[Diagnostic, ...]:
        with pytest.raises(ConfigError) as caught:
            composed(texts, *words, main=main)
        return caught.value.diagnostics

    return make
