"""Weights sharded over the processes of a team, and gathered when a forward pass needs them (FSDP2).

A unit is gathered at once: a nested graph or a copy of a repeated one, and the whole graph for the remaining weights.
Hooks are registered on the modules of the graph. A view mirrors nested graphs including their hooks, and shares all
other modules; the hooks of the whole graph are those of `Whole` (`sharded_view.py`), which runs any view.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from flowconf.graph.graph import Graph
from flowconf.language.arguments import Call
from flowconf.language.paths import join
from flowconf.language.plan import GraphPlan, Mount, Shared
from flowconf.train.precision import FORMATS
from flowconf.train.team.sharded_view import Whole


def shard(graph: Graph, device: torch.device, size: int, precision: str) -> Whole:
    """Shard the weights of `graph` over all processes, in place; gradients are reduced in fp32."""
    mesh = init_device_mesh(device.type, (size,))
    policy = MixedPrecisionPolicy(FORMATS.get(precision), torch.float32, cast_forward_inputs=False)
    whole = Whole(graph)
    for path in units(graph.plan):
        for _, module in graph.modules_at(path):
            if any(True for _ in module.parameters()):
                fully_shard(module, mesh=mesh, mp_policy=policy)
    fully_shard(whole, mesh=mesh, mp_policy=policy)
    return whole


def units(plan: GraphPlan) -> list[str]:
    """The paths of nested graphs and repeated steps that a forward pass calls exactly once, innermost first.

    Steps in a loop or a map are called many times, and belong to the enclosing unit. So do steps that share a module
    with a step outside, or that have other parts which are called separately.
    """
    found = list(_candidates(plan, ""))
    shared = list(_shared(plan, ""))
    return [path for path in found if all(_within(path, user) == _within(path, used) for user, used in shared)]


def _candidates(plan: GraphPlan, prefix: str) -> Iterator[str]:
    for step in plan.steps:
        if step.iterates:
            continue
        for part in step.applied():
            if isinstance(part.module, Mount):
                yield from _candidates(part.module.graph, join(prefix, part.path))
        whole = step.body.module if len(step.parts) == 1 and not step.extras else None
        if isinstance(whole, Mount) or (isinstance(whole, Call) and step.repeat is not None):
            yield join(prefix, step.path)


def _shared(plan: GraphPlan, prefix: str) -> Iterator[tuple[str, str]]:
    """Every use of a shared module or parameter: the path of the user, and the path of the module."""
    yield from ((join(prefix, tie.path), join(prefix, tie.home)) for tie in plan.ties)
    for step in plan.steps:
        for part in step.applied():
            if isinstance(part.module, Shared) and part.module.path != part.path:
                yield join(prefix, part.path), join(prefix, part.module.path)
    for path, mount in plan.mounts():
        yield from ((join(prefix, path), join(prefix, theirs)) for _, theirs in mount.shares)
        yield from _shared(mount.graph, join(prefix, path))


def _within(path: str, other: str) -> bool:
    return other == path or other.startswith(f"{path}.")
