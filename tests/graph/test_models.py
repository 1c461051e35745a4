"""The benchmark models: each graph is the module by hand, bit for bit, and has the published number of parameters."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import flowconf
from flowconf.language.plan import Input

HOME = Path("benchmarks").absolute()
sys.path.insert(0, str(HOME))
import by_hand  # noqa: E402
import by_hand_more as more  # noqa: E402

TINY = {"width": 8}
TEXT = {"vocabulary": 11, "length": 5, "width": 8, "heads": 2, "depth": 2}
SEQUENCE = {"features": 6, "width": 8, "steps": 4}
MODELS: dict[str, tuple[Callable[..., nn.Module], dict[str, int], int]] = {
    "mlp": (by_hand.Mlp, {"width": 8, "hidden": 12}, 16_802_816),
    "convnet": (more.convnet, {"width": 2, "classes": 5}, 3_965_028),
    "gru_seq": (more.GruSeq, SEQUENCE, 1_314_048),
    "lstm_seq": (more.LstmSeq, SEQUENCE, 3_809_536),
    "transformer": (more.Transformer, TEXT, 21_071_872),
    "conv_autoenc": (more.conv_autoenc, {"width": 2}, 5_515_395),
    "residual_tower": (by_hand.ResidualTower, TINY, 14_718_976),
    "gated_routing": (by_hand.GatedRouting, TINY, 2_638_856),
    "iterative_refine": (by_hand.IterativeRefine, {"width": 8, "times": 3}, 3_152_896),
    "feedback_loop": (more.FeedbackLoop, {"width": 8, "most": 4}, 790_529),
    "logistic": (more.logistic, {}, 7_850),
    "digits_mlp": (more.digits_mlp, {"hidden": 12}, 203_530),
    "lenet": (more.lenet, {"classes": 4}, 44_470),
    "digits_autoenc": (more.digits_autoenc, {}, 9_569),
    "resnet20": (more.ResNet20, {"width": 4}, 272_474),
    "char_rnn": (more.CharRnn, {"vocabulary": 11, "features": 6, "width": 8}, 946_625),
    "gpt_nano": (more.GptNano, TEXT, 826_433),
}


def drawn(given: Input, batch: int) -> Tensor:
    """A batch for an input: tokens, or numbers."""
    sizes = [{"B": batch, "T": 5}[size] if isinstance(size, str) else size for size in given.shape or ()]
    return torch.randint(0, 11, sizes) if given.dtype == "int64" else torch.randn(sizes)


@pytest.mark.parametrize("name", MODELS)
def test_the_graph_is_the_module_by_hand(gradients, equal, name: str) -> None:
    twin, params, _ = MODELS[name]
    torch.manual_seed(0)
    graph = flowconf.build(HOME / "models" / f"{name}.yaml", [f"params.{key}={value}" for key, value in params.items()])
    module = twin(**params)
    assert list(graph.state_dict()) == list(module.state_dict())
    module.load_state_dict(graph.state_dict())
    for mode in (True, False):
        for batch in (2, 1):
            inputs = tuple(drawn(given, batch) for given in graph.plan.inputs)
            mine, theirs = gradients(graph.train(mode), inputs), gradients(module.train(mode), inputs)
            for one, other in zip(mine, theirs, strict=True):
                equal(one, other)
    assert all(torch.equal(tensor, graph.state_dict()[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("name", MODELS)
def test_it_has_the_published_number_of_parameters(name: str) -> None:
    assert count(flowconf.build(HOME / "models" / f"{name}.yaml")) == MODELS[name][2]


def test_feedback_fixed_is_the_same_graph_with_other_numbers() -> None:
    overrides = ["params.width=512", "params.times=10"]
    assert count(flowconf.build(HOME / "models" / "iterative_refine.yaml", overrides)) == 790_016


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
