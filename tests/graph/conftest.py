"""What the tests of graphs share: a comparison, bit for bit, with a module written by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flowconf
from flowconf.language.registry import modules

KNOWN = {
    "test_a_train_call_on_the_frozen_module_itself_changes_nothing": "a frozen leaf obeys its own train()",
    "test_inside_a_loop_a_map_and_a_repeat": "settings inside a repeated body are looked for without the copy's number",
    "test_init_inside_bodies_branches_and_repeats": "settings inside a repeated body are looked for without its number",
    "test_using_reaches_a_loop_body_every_time": "what only a loop or repeat reads is overwritten by its stream",
    "test_loop_over_an_inline_graph_that_reads_names_around": "the same overwritten value",
    "test_repeat_of_an_inline_graph_that_reads_names_around": "the same overwritten value",
    "test_using_reaches_each_copy": "the same overwritten value",
    "test_take_after_a_map_picks_from_each_slice": "the check accepts `take` on a map, the forward stacks tuples",
    "test_a_label_in_the_document_names_the_mounted_graph": "the label of a mounted document is not its path",
    "test_a_label_in_the_file_names_the_mounted_graph": "the label of a mounted document is not its path",
    "test_open_size_of_an_unknown_symbol_is_refused": "`_` takes the stand-in of a symbol for a size",
    "test_names_of_members_never_collide_with_names_of_the_source[block_copy]": "`<step>_copy` is used by the source",
    "test_compile_takes_the_whole_graph": "dynamo cannot import `flowconf.generated`",
    "test_compile_a_view": "dynamo cannot import `flowconf.generated`",
    "test_skip_beside_a_chain_adds_no_level": "the chain lives at `step.body`",
    "test_skip_beside_a_chain_computes_as_by_hand": "the chain lives at `step.body`",
    "test_repeat_of_also_with_a_skip": "the copies live at `step.0.body`, and are called as a whole",
    "test_reuse_with_repeat_runs_the_module_again_and_again": "the reused module is iterated over",
    "test_using_passes_under_the_last_name": "a tag passes under the name of its step",
    "test_nested_calls_build_modules": "a warning of torch about fake tensors escapes",
    "test_observing_parent_and_child_at_once": "the inner observer sees nothing",
    "test_an_unknown_mode_is_refused[missing]": "any text is taken for `ignore`",
    "test_an_unknown_mode_is_refused[unused]": "any text is taken for `ignore`",
    "test_nothing_loaded_into_a_deeper_place_names_the_prefix": "only prefixes of the source are thought of",
}
"""Where the code departs from the design: test -> what it does. To be taken out as each is mended."""


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == Path(__file__).parent and item.name in KNOWN:
            item.add_marker(pytest.mark.xfail(strict=True, reason=KNOWN[item.name]))


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
def table():
    """The table of modules; what a test registers in it is gone afterwards."""
    before = dict(modules.registered)
    yield modules
    modules.registered.clear()
    modules.registered.update(before)
