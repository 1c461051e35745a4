"""The memory of a training step before it is taken: the step runs on fake tensors, whose storages are counted.

Nothing is computed. Counted is what torch allocates for tensors: weights, gradients, optimizer state, the batch, the
values that are kept for the backward pass, and what is there for a moment; of the workspaces of kernels, `WORKSPACES`.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flowconf.graph.build import build_graph
from flowconf.graph.shapes.fake_values import faked, real
from flowconf.graph.shapes.inference import Inference
from flowconf.language.config import Config
from flowconf.train.objective.terms import loss_terms, means_of, weighted
from flowconf.train.optim.groups import groups_of, state_bytes
from flowconf.train.precision import FORMATS

Fields = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""Field of a batch -> the shape of a row, and its type."""


class Workspace(NamedTuple):
    """The bytes that a kernel allocates beside its results: some kept for its backward pass, some for a moment."""

    kept: int
    moment: int


def _convolution_backward(args: Sequence[Any], made: Sequence[Tensor]) -> Workspace:
    """The weight and its gradient in the layout of the kernel."""
    weight: Tensor = args[2]
    return Workspace(0, 2 * weight.nbytes)


def _lstm(args: Sequence[Any], made: Sequence[Tensor]) -> Workspace:
    """The last result, whose size fake tensors do not know: about 15 numbers for each of the output, and one step more.

    The weights in the layout of the kernel, and the gates, are there for a moment.
    """
    output, weights = made[0], args[1].nbytes + args[2].nbytes
    return Workspace(15 * (output.nbytes + output.nbytes // max(1, len(output))), 4 * output.nbytes + weights)


def _lstm_backward(args: Sequence[Any], made: Sequence[Tensor]) -> Workspace:
    weights = args[1].nbytes + args[2].nbytes
    return Workspace(0, 4 * made[0].nbytes + 2 * weights)


WORKSPACES: dict[Any, Callable[[Sequence[Any], Sequence[Tensor]], Workspace]] = {
    torch.ops.aten.convolution_backward.default: _convolution_backward,
    torch.ops.aten.mkldnn_rnn_layer.default: _lstm,
    torch.ops.aten.mkldnn_rnn_layer_backward.default: _lstm_backward,
}
"""Operations of oneDNN on a CPU whose workspaces are a large part of a step, as measured by `benchmarks/memory.py`."""


class _Storages(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch lacks the types
    """Counts the bytes of the storages that are made within the block and are still there, by the current path."""

    def __init__(self, there: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._there = {one.untyped_storage()._cdata for one in there}
        """The storages from before the block, which are not counted."""
        self.now = self.peak = 0
        self.path: list[str] = []
        self.by_path: Counter[str] = Counter()
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        made = [one for one in tree_leaves(found) if isinstance(one, Tensor)]
        moment = 0
        if func in WORKSPACES and made[0].device.type == "cpu":
            workspace = WORKSPACES[func](args, made)
            self._add(made[-1], workspace.kept)
            moment = workspace.moment
        for one in made:
            self._add(one)
        self.peak = max(self.peak, self.now + moment)
        return found

    def _add(self, tensor: Tensor, more: int = 0) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._there or key in self._known:
            return
        size, path = storage.nbytes() + more, self.path[-1] if self.path else ""

        def gone(_: object) -> None:
            self._known.pop(key, None)
            self.now -= size
            self.by_path[path] -= size

        self._known[key] = weakref.ref(storage, gone)
        self.now += size
        self.by_path[path] += size


@dataclass(frozen=True)
class PassMemory:
    """The bytes of one forward and backward pass beside the weights and the batch."""

    kept: Mapping[str, int]
    """The memory in use after the forward pass, by the path of the module that allocated it."""
    forward: int
    """The most at one time in the forward pass."""
    backward: int
    """The most at one time in the backward pass, with the gradients."""


@dataclass(frozen=True)
class StepMemory:
    """The bytes of one training step of `rows` rows."""

    rows: int
    weights: int
    gradients: int
    optimizer: int
    averages: int
    batch: int
    found: PassMemory

    @property
    def peak(self) -> int:
        """The most at one time. In the forward pass, the gradients of the step before are still there."""
        resting = self.weights + self.optimizer + self.averages + self.batch
        return resting + max(self.gradients + self.found.forward, self.found.backward)

    @property
    def kept(self) -> int:
        """The memory kept for the backward pass."""
        return sum(self.found.kept.values())


def rehearsed(view: nn.Module, batch: Iterable[Tensor], loss: Callable[[], Tensor]) -> PassMemory:
    """What `loss`, which runs `view` with `batch`, and its backward pass allocate.

    All tensors are fake; the gradients stay with the parameters.
    """
    with _Storages([*view.parameters(), *view.buffers(), *batch]) as storages, _paths(view, storages):
        total = loss()
        kept = {path: size for path, size in storages.by_path.items() if size}
        forward, storages.peak = storages.peak, storages.now
        total.backward()  # type: ignore[no-untyped-call]
        return PassMemory(kept, forward, storages.peak)


def step_memory(config: Config, inference: Inference, fields: Fields, rows: int, device: torch.device) -> StepMemory:
    """The memory of a training step of a config with `rows` rows, when the optimizer has its state.

    With `accumulate`, it is that of one part and of the whole batch. Raises what a graph or loss raises that fake
    tensors cannot run.
    """
    training, precision = config.training, config.training.trainer.precision
    with faked(grad=True):
        with torch.device(device):
            graph = build_graph(config.model, inference)
        terms = [term for term in loss_terms(training.loss, config.model, fields) if term.weight]
        view = graph.view(list(dict.fromkeys(name for term in terms for name in term.references)))
        learned = {name: one for name, one in graph.named_parameters() if one.requires_grad}
        with real():
            state = sum(state_bytes(group, training.optimizer) for group in groups_of(config, graph, learned))
        count = -(-rows // training.trainer.accumulate)
        batch = {
            name: torch.empty((count, *shape), dtype=dtype, device=device) for name, (shape, dtype) in fields.items()
        }

        def loss() -> Tensor:
            with torch.autocast(device.type, FORMATS.get(precision), enabled=precision in FORMATS):
                values = view(**{name: batch[name] for name in graph.inputs})
            values = {name: value.float() if value.is_floating_point() else value for name, value in values.items()}
            return weighted(means_of(terms, values, batch), [term.weight for term in terms])

        found = rehearsed(view, batch.values(), loss)
        gradients = nbytes(one.grad for one in learned.values() if one.grad is not None)
        weights = nbytes([*graph.parameters(), *graph.buffers()])
        averages = nbytes(learned.values()) if training.trainer.ema is not None else 0
    return StepMemory(rows, weights, gradients, state, averages, nbytes(batch.values()) * rows // count, found)


def nbytes(tensors: Iterable[Tensor]) -> int:
    """The bytes of tensors, each storage counted once."""
    return sum({one.untyped_storage()._cdata: one.untyped_storage().nbytes() for one in tensors}.values())


@contextmanager
def _paths(graph: nn.Module, storages: _Storages) -> Iterator[None]:
    """A block in which the path of the module that runs is known."""

    def leave(*_: object) -> None:
        storages.path.pop()

    with ExitStack() as hooks:
        for path, module in graph.named_modules():
            hooks.enter_context(module.register_forward_pre_hook(lambda *_, path=path: storages.path.append(path)))
            hooks.enter_context(module.register_forward_hook(leave))
        yield
