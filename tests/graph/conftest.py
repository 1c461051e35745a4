"""What the tests of graphs share: a comparison, bit for bit, with a module written by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flowconf


def rows(*size: int) -> Callable[[int], tuple[Tensor, ...]]:
    """For a number of rows, one input whose rows have this size."""
    return lambda batch: (torch.randn(batch, *size),)


def document(flow: Any, inputs: Any = None, **more: Any) -> dict[str, Any]:
    """A graph of one input, `x` of [B, 6] if nothing else is said."""
    return {"inputs": inputs or {"x": ["B", 6]}, "flow": flow, **more}


def tensors(value: Any) -> list[Tensor]:
    """Every tensor of an output, in order: of a tensor, tuple, list or mapping."""
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value
    return [tensor for item in items for tensor in tensors(item)]


def run_with_gradients(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Any, list[Tensor], dict[str, Tensor]]:
    """The output, the gradients of the inputs, and those of the parameters by name, of one fixed scalar loss."""
    given = [x.clone().requires_grad_() if x.is_floating_point() else x for x in inputs]
    module.zero_grad()
    torch.manual_seed(7)
    output = module(*given)
    total = sum((t * torch.linspace(-1, 1, t.numel()).reshape(t.shape)).sum() for t in tensors(output))
    assert isinstance(total, Tensor)
    total.backward()
    own = [x.grad for x in given if x.grad is not None]
    return output, own, {n: p.grad for n, p in module.named_parameters() if p.grad is not None}


def assert_equal_outputs(mine: Any, theirs: Any) -> None:
    if isinstance(theirs, Mapping):
        assert isinstance(mine, Mapping)
        assert list(mine) == list(theirs)
    a, b = tensors(mine), tensors(theirs)
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def assert_same(
    document: Mapping[str, Any], twin: Callable[[], nn.Module], inputs: Callable[[int], tuple[Tensor, ...]]
) -> nn.Module:
    """The built graph and the hand-written module agree bit for bit: names, values and gradients, batch 1 and 3.

    `twin` is written with the paths that the design gives, so that equal `state_dict` names are part of the claim.
    """
    torch.manual_seed(0)
    graph = flowconf.build(document)
    torch.manual_seed(1)
    module = twin()
    assert list(graph.state_dict()) == list(module.state_dict())
    assert [n for n, _ in graph.named_parameters()] == [n for n, _ in module.named_parameters()]
    module.load_state_dict(graph.state_dict())
    for mode in (True, False):
        graph.train(mode)
        module.train(mode)
        for batch in (1, 3):
            torch.manual_seed(batch)
            given = inputs(batch)
            mine, theirs = run_with_gradients(graph, given), run_with_gradients(module, given)
            assert_equal_outputs(mine[0], theirs[0])
            assert_equal_outputs(mine[1], theirs[1])
            assert_equal_outputs(mine[2], theirs[2])
    for name, tensor in module.state_dict().items():
        assert torch.equal(graph.state_dict()[name], tensor), name
    return graph


@pytest.fixture
def same():
    return assert_same


@pytest.fixture
def gradients():
    return run_with_gradients


@pytest.fixture
def equal():
    return assert_equal_outputs
