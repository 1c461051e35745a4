"""Records operations on the CPU as a CUDA graph records kernels: to see what a replay does, without a device."""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flowconf.train.seeds import all_undisturbed


def key(tensor):
    return tensor.untyped_storage()._cdata


class Recording(TorchDispatchMode):
    """Notes each operation, with the tensors that it reads and writes."""

    def __init__(self):
        super().__init__()
        self.operations = []
        self.made = set()
        self.before = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        for one in given:
            if key(one) not in self.made and key(one) not in self.before:
                whole = one.new_empty(0).set_(one.untyped_storage())
                self.before[key(one)] = whole, whole.clone()
        results = function(*args, **(kwargs or {}))
        made = [one for one in tree_leaves(results) if isinstance(one, Tensor)]
        self.made |= {key(one) for one in made} - self.before.keys()
        self.operations.append((function, args, kwargs or {}, given, made))
        return results

    @torch.no_grad()
    def undo(self):
        """Nothing that was recorded has happened."""
        for whole, values in self.before.values():
            whole.copy_(values)

    @torch.no_grad()
    def replay(self):
        for function, args, kwargs, given, made in self.operations:
            results = function(*args, **kwargs)
            shared = {key(one) for one in given}
            for old, new in zip(made, [one for one in tree_leaves(results) if isinstance(one, Tensor)], strict=True):
                if key(old) not in shared:
                    old.copy_(new)


class FakeRecorder:
    """What `CudaRecorder` is for a CUDA device; `recorded` counts the recordings, `replayed` their replays."""

    recorded = 0
    replayed = 0
    records = False

    def __init__(self, device):
        self.device = device

    @contextmanager
    def block(self):
        yield

    @contextmanager
    def waits(self):
        found = []
        with Waits() as mode:
            yield found
        found += mode.found

    def record(self, function):
        found = Recording()
        FakeRecorder.records = True
        with all_undisturbed(self.device):
            try:
                with found:
                    function()
            finally:
                FakeRecorder.records = False
                found.undo()
        FakeRecorder.recorded += 1

        def replay():
            FakeRecorder.replayed += 1
            found.replay()

        return replay


class Waits(TorchDispatchMode):
    """Finds operations that wait for a device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            self.found.append("waits for the device")
        return function(*args, **(kwargs or {}))
