"""Sweeps: every combination once, composed before the first runs, and nothing outside of the given folder."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from flowconf.report import ConfigError
from flowconf.text.compose import Composition, Turn, multirun, sweep_folder
from flowconf.text.merge import MergeRules

FILES = {
    "configs/main.yaml": "defaults: [_self_, {pivot: null}]\nmodel: {flow: {stem: ReLU}}\nseed: 0\n",
    "configs/pivot/wide.yaml": "# @package _global_\nmodel: {flow: {stem: {frozen: true}}}\n",
}


@pytest.fixture
def run(files: Callable[[dict[str, str]], Path], rules: MergeRules) -> Callable[..., list[Composition]]:
    def make(*words: str, change: Callable[[Path], None] | None = None) -> list[Composition]:
        folder, seen = files(FILES), list[Composition]()

        def job(composition: Composition, turn: Turn) -> float:
            if change is not None:
                change(folder)
            seen.append(composition)
            return 1.0

        file = folder / "configs/main.yaml"
        multirun(file, words, rules, job, sweep_folder(folder / "runs", file))
        return seen

    return make


def test_every_combination_runs_once(run: Callable[..., list[Composition]]) -> None:
    made = run("pivot=null,wide", "seed=0,1")
    assert [(one.choices["pivot"], one.document.data["seed"]) for one in made] == [
        (None, 0),
        (None, 1),
        ("wide", 0),
        ("wide", 1),
    ]
    assert made[2].document.data["model"]["flow"]["stem"] == {"through": "ReLU", "frozen": True}
    assert made[3].document.origins.value(("seed",)).word == "seed=1"


def test_hydra_composes_its_section_once_for_equal_words(
    run: Callable[..., list[Composition]], monkeypatch: pytest.MonkeyPatch
) -> None:
    composed, load = [], ConfigLoaderImpl.load_configuration

    def load_configuration(self: ConfigLoaderImpl, name: str, words: list[str], *given: object) -> object:
        composed.append(words)
        return load(self, name, words, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", load_configuration)
    made = run("seed=0,1,2,3", "pivot=null,wide")
    assert [one.document.data["seed"] for one in made] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(composed) == 1 + 2, "for the sweep, and for both pivots"


def test_calls_are_swept_without_quotes(run: Callable[..., list[Composition]]) -> None:
    made = run("model.flow.stem=Linear(1, 2),choice", "seed=choice(3,4)")
    assert [one.document.data["model"]["flow"]["stem"] for one in made] == ["Linear(1, 2)"] * 2 + ["choice"] * 2


def test_a_sweep_of_one_is_one_job(run: Callable[..., list[Composition]]) -> None:
    assert [one.document.data["seed"] for one in run("seed=5")] == [5]


def test_only_the_given_folder_is_written(run: Callable[..., list[Composition]], tmp_path: Path) -> None:
    before = logging.getLogger().handlers[:]
    run("seed=0,1")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["configs", "pyproject.toml", "runs"]
    (folder,) = (tmp_path / "runs/main").iterdir()
    assert folder.name.startswith("sweep_")
    assert [entry.name for entry in folder.iterdir()] == ["multirun.yaml"]
    assert Path.cwd() == tmp_path
    assert logging.getLogger().handlers == before


def test_jobs_see_the_files_as_they_were(run: Callable[..., list[Composition]]) -> None:
    made = run("pivot=wide", "seed=0,1", change=lambda folder: (folder / "configs/pivot/wide.yaml").write_text("b: 1"))
    assert [one.document.data["model"]["flow"]["stem"] for one in made] == [{"through": "ReLU", "frozen": True}] * 2


@pytest.mark.parametrize(
    ("words", "code", "word"),
    [
        (["pivot=wide,nope"], "FC0101", "pivot=nope"),
        (["sed=0,1"], "FC0102", "sed=0"),
        (["seed=0,1", "model.flow.stm=A"], "FC0102", "model.flow.stm=A"),
        (["hydra/launcher=nope", "seed=0,1"], "FC0101", "hydra/launcher=nope"),
        (["hydra.nope=1", "seed=0,1"], "FC0108", "hydra.nope=1"),
        (["hydra.sweeper.x={_target_: os.system}"], "FC0108", "hydra.sweeper.x={_target_: os.system}"),
    ],
)
def test_a_mistake_in_any_combination_comes_before_the_first_job(
    run: Callable[..., list[Composition]], words: list[str], code: str, word: str
) -> None:
    ran: list[Path] = []
    with pytest.raises(ConfigError) as caught:
        run(*words, change=ran.append)
    assert [(one.code, one.place.word) for one in caught.value.diagnostics] == [(code, word)]
    assert ran == []


def test_what_a_job_raises_comes_out_as_it_is(run: Callable[..., list[Composition]]) -> None:
    def fail(folder: Path) -> None:
        raise ValueError("the run failed")

    with pytest.raises(ValueError, match="the run failed"):
        run("seed=0,1", change=fail)
