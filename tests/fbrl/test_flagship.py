"""Trained readers frozen inside of larger ones: found, left alone to the bit, thawed by one override."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import flowconf
from flowconf.train.commands.train import train

ROOT = Path(__file__).parents[2]
LETTER, WORD, LINE = (ROOT / f"configs/fbrl_{level}.yaml" for level in ("letter", "word", "line"))
QUICK = ["data.images=24", "data.batch_size=8", "trainer.steps=3", "trainer.evaluate_every=3", "trainer.threads=1"]
READ = "model.flow.letters.map"
LETTERS_LOSS = "+loss.letters={fn: cross_entropy, input: letters, target: letters, args: {dim: 2}}"


def run_of(config: Path, runs: Path, *overrides: str) -> dict[str, torch.Tensor]:
    """A short run; gives its best weights."""
    run = train(flowconf.load(config, [*QUICK, f"trainer.runs={runs}", *overrides]))
    return load_file(run / "checkpoints" / "best.safetensors")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of runs with a short letter run in it."""
    run_of(LETTER, tmp_path / "runs")
    return tmp_path / "runs"


def letter_of(runs: Path) -> dict[str, torch.Tensor]:
    newest = max((runs / "fbrl_letter").iterdir())
    return load_file(newest / "checkpoints" / "best.safetensors")


def changed(runs: Path, word: dict[str, torch.Tensor]) -> set[str]:
    """The letter's tensors that the word stage changed, by their first name."""
    letter = letter_of(runs)
    return {name.split(".")[0] for name, tensor in letter.items() if not torch.equal(word[f"letter.{name}"], tensor)}


def test_no_bit_of_the_letter_reader_changes(runs: Path) -> None:
    assert changed(runs, run_of(WORD, runs)) == set()
    assert sorted(folder.name for folder in runs.iterdir()) == ["fbrl_letter", "fbrl_word"]
    assert len(list((runs / "fbrl_letter").iterdir())) == 1, "the letter run is used again"


def test_nor_do_normalisation_statistics(tmp_path: Path) -> None:
    norm = "flow.latent_norm={through: BatchNorm1d(128), after: latent}"
    runs = tmp_path / "runs"
    run_of(LETTER, runs, f"+model.{norm}")
    word = run_of(WORD, runs, f"+{READ}.graph.{norm}", LETTERS_LOSS)
    assert "letter.latent_norm.running_mean" in word
    assert changed(runs, word) == set()


def test_one_override_thaws_all_of_it(runs: Path) -> None:
    word = run_of(WORD, runs, f"{READ}.frozen=false", LETTERS_LOSS)
    assert {"start", "scan", "read", "latent", "logits"} <= changed(runs, word)


def test_one_override_thaws_a_part_of_it(runs: Path) -> None:
    word = run_of(WORD, runs, f"{READ}.graph.flow.read.frozen=false", LETTERS_LOSS)
    assert changed(runs, word) == {"read"}


def test_a_line_reader_holds_both_as_they_were(runs: Path) -> None:
    word = run_of(WORD, runs)
    line = run_of(LINE, runs)
    assert all(torch.equal(line[f"word.{name}"], tensor) for name, tensor in word.items())
    assert sorted(folder.name for folder in runs.iterdir()) == ["fbrl_letter", "fbrl_line", "fbrl_word"]


def test_every_level_of_a_line_has_its_path() -> None:
    graph = flowconf.build(LINE, weights=False)
    assert graph.kind("word.letter.read") == "graph"
    assert graph.is_frozen("word.letter")
    assert not graph.is_frozen("scan")
    with graph.observe("where", "word.where", "word.letter.read.at") as seen:
        graph(torch.rand(2, 1, 32, 208))
    assert seen["where"].shape == (2, 3, 2)
    assert [tuple(places.shape) for places in seen["word.where"]] == [(2, 4, 2)] * 3


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "letters", "words", "lines"), [(0, 0.95, 0.85, 0.7), (1, 0.93, 0.75, 0.5)])
def test_the_flagship_reads_words_it_never_saw(
    seed: int, letters: float, words: float, lines: float, tmp_path: Path
) -> None:
    """All three runs with one seed, as `flowconf train configs/fbrl_line.yaml` makes them."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    before = os.times()
    for config in (LETTER, WORD, LINE):
        command = [sys.executable, "-m", "flowconf", "train", str(config), f"seed={seed}"]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    after = os.times()
    word, line = (metrics_of(tmp_path / "runs" / level) for level in ("fbrl_word", "fbrl_line"))
    assert word["test/letters"] >= letters
    assert word["test/words"] >= words
    assert line["test/lines"] >= lines
    assert after.children_user + after.children_system - before.children_user - before.children_system < 330


def metrics_of(runs: Path) -> dict[str, float]:
    (run,) = runs.iterdir()
    found: dict[str, float] = json.loads((run / "run.json").read_text(encoding="utf-8"))["metrics"]
    return found
