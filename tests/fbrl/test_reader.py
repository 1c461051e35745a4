"""The built readers against the same readers written by hand: the same bits, forward and backward."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import flowconf

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import by_hand  # noqa: E402

LETTER = ROOT / "configs/graph/fbrl/letter.yaml"
WORD = ROOT / "configs/fbrl_word.yaml"
LOSSES = ["logits", "reproduction", "scan.at", "read.at"]


def tensors(output: Tensor | dict[str, Tensor]) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else [output[name] for name in sorted(output)]


def assert_same(graph: nn.Module, twin: nn.Module, image: Tensor) -> None:
    """Outputs and gradients, bit for bit."""
    mine, theirs = tensors(graph(image)), tensors(twin(image))
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    for module, outputs in ((graph, mine), (twin, theirs)):
        module.zero_grad()
        sum(output.square().sum() for output in outputs).backward()
    gradients = {name: parameter.grad for name, parameter in twin.named_parameters()}
    for name, parameter in graph.named_parameters():
        other = gradients[name]
        assert (parameter.grad is None and other is None) or torch.equal(parameter.grad, other), name


def twins(file: Path, made: Callable[[], nn.Module]) -> tuple[flowconf.Graph, nn.Module]:
    torch.manual_seed(0)
    graph = flowconf.build(file, weights=False)
    twin = made()
    twin.load_state_dict(graph.state_dict())
    return graph, twin


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("train", [True, False])
def test_the_letter_reader_is_the_one_written_by_hand(rows: int, train: bool) -> None:
    graph, twin = twins(LETTER, by_hand.LetterReader)
    assert_same(graph.train(train), twin.train(train), torch.rand(rows, 1, 32, 32))


@pytest.mark.parametrize("rows", [1, 5])
def test_what_its_losses_ask_for_is_the_same_too(rows: int) -> None:
    graph, twin = twins(LETTER, by_hand.LetterTraining)
    assert_same(graph.view(LOSSES), twin, torch.rand(rows, 1, 32, 32))


@pytest.mark.parametrize("rows", [1, 3])
def test_the_word_reader_is_the_one_written_by_hand(rows: int) -> None:
    graph, twin = twins(WORD, by_hand.WordReader)
    assert_same(graph, twin.train(), torch.rand(rows, 1, 32, 96))


def test_the_source_of_the_letter_reader_reads_like_this() -> None:
    expected = Path(__file__).with_name("letter_reader.txt").read_text(encoding="utf-8")
    assert flowconf.build(LETTER).source == expected


def test_the_source_runs_by_itself() -> None:
    graph = flowconf.build(LETTER)
    namespace: dict[str, type[nn.Module]] = {}
    exec(graph.source, namespace)
    alone = namespace["Letter"]()
    alone.load_state_dict(graph.state_dict())
    image = torch.rand(2, 1, 32, 32)
    assert torch.equal(alone(image), graph(image))
