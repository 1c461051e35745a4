"""Merges adapters into the weights that they change."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from flowconf.graph.build import build_graph
from flowconf.graph.graph import Graph
from flowconf.graph.runtime import adapted_parts
from flowconf.language.paths import join
from flowconf.language.plan import Applied, Chain, GraphPlan, Mount, Shared

AnyModule = TypeVar("AnyModule", bound=object)


@torch.no_grad()
def merged(graph: Graph) -> Graph:
    """The same graph without adapters: its weights are the adapted ones."""
    with torch.random.fork_rng(devices=[]):
        plain = build_graph(without_adapters(graph.plan))
    plain.load_state_dict(_adapted_state(graph))
    return plain.train(graph.training)


def _adapted_state(graph: nn.Module) -> dict[str, Tensor]:
    """The tensors of a graph without its adapters, with the weights that they give."""
    state = dict(graph.state_dict())
    for path, module, kind in adapted_parts(graph):
        held = module._modules[kind]
        assert held is not None
        state |= {join(path, name): getattr(module, name).detach() for name in held._modules}
        state = {name: tensor for name, tensor in state.items() if not name.startswith(f"{join(path, kind)}.")}
    return state


def without_adapters(plan: GraphPlan) -> GraphPlan:
    """The plan of the same graph without adapters, at any depth."""
    return replace(plan, steps=tuple(step.with_modules(_applied) for step in plan.steps), adapters=())


def _applied(applied: Applied) -> Applied:
    return replace(applied, module=_module(applied.module))


def _module(module: AnyModule) -> AnyModule:
    if isinstance(module, Mount):
        return replace(module, graph=without_adapters(module.graph))
    if isinstance(module, Chain):
        return replace(module, members=tuple(_applied(member) for member in module.members))
    return replace(module, module=_module(module.module)) if isinstance(module, Shared) else module
