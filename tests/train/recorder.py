"""Records operations on the CPU as a CUDA graph records kernels: to see what a replay does, without a device."""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flowconf.train.seeds import undisturbed


def key(tensor):
    return tensor.untyped_storage()._cdata


ASKS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal"}
"""The operations whose result, or the shape of it, Python gets from a device."""
FROM_HOST = {"lift_fresh", "_pin_memory", "is_pinned"}
"""Those that begin with memory of the host, as `torch.tensor` does."""
SELECTS = {"index", "index_put", "index_put_"}


def name_of(function):
    return function.overloadpacket.__name__


def asks(function, args):
    """Whether Python waits for the result of an operation on a device, or for its shape."""
    name = name_of(function)
    return name in ASKS or (name in SELECTS and any(one is not None and one.dtype == torch.bool for one in args[1]))


class Recording(TorchDispatchMode):
    """Notes each operation, with the tensors that it reads and writes."""

    def __init__(self):
        super().__init__()
        self.operations = []
        self.made = set()
        self.before = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if asks(function, args) or name_of(function) in FROM_HOST:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name_of(function)}")
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
        """Nothing that was recorded has happened: what it made has any values."""
        for whole, values in self.before.values():
            whole.copy_(values)
        for one in (one for operation in self.operations for one in operation[-1]):
            if key(one) not in self.before and one.is_floating_point():
                one.detach().fill_(torch.nan)

    @torch.no_grad()
    def replay(self):
        for function, args, kwargs, given, made in self.operations:
            results = function(*args, **kwargs)
            shared = {key(one) for one in given}
            for old, new in zip(made, [one for one in tree_leaves(results) if isinstance(one, Tensor)], strict=True):
                if key(old) not in shared:
                    old.copy_(new)


class FakeRecorder:
    """What `CudaRecorder` is for a CUDA device; `recorded` counts the recordings, `replayed` their replays.

    `modes` are those in which views would be compiled.
    """

    modes = []
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
        with undisturbed(self.device):
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
        if asks(function, args):
            self.found.append("waits for the device")
        return function(*args, **(kwargs or {}))
