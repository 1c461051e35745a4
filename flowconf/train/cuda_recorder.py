"""Records what a function launches on a CUDA device, to launch it again without the function: CUDA graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from weakref import WeakSet

import torch

from flowconf.report import shown_path

WAITS = "called a synchronizing CUDA operation"
"""The beginning of torch's warning."""
ENDS = ("_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool")
"""torch's function that ends the use of a pool, and its name before torch 2.8."""


class CudaRecorder:
    """Recordings of one stream, which share their memory: none of them needs what another one has left there."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graphs: WeakSet[torch.cuda.CUDAGraph] = WeakSet()
        """The recordings, which share a pool of memory: once all are dropped, nothing can be recorded there again."""

    @contextmanager
    def block(self) -> Iterator[None]:
        """A block that launches everything on the stream of the recordings.

        What libraries set up for a stream, and autograd remembers of it, is then there before a recording begins.
        """
        outside = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(outside)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            outside.wait_stream(self._stream)

    @contextmanager
    def waits(self) -> Iterator[list[str]]:
        """A block that finds where Python waits for the device, which cannot be recorded: a list that its end fills."""
        before, found = torch.cuda.get_sync_debug_mode(), list[str]()
        with warnings.catch_warnings(record=True) as noted:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield found
            finally:
                torch.cuda.set_sync_debug_mode(before)
        for one in noted:
            if str(one.message).startswith(WAITS):
                found.append(f"waits for the device ({shown_path(one.filename)}:{one.lineno})")
            elif "prototype feature" not in str(one.message):
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)

    def record(self, function: Callable[[], object]) -> Callable[[], None]:
        """Run `function`, launching nothing; returns what launches it. Raises what `function` raises."""
        graph = torch.cuda.CUDAGraph()
        pool = next((one.pool() for one in self._graphs), None) or torch.cuda.graph_pool_handle()
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()
        graph.capture_begin(pool, "thread_local")  # other threads upload and save
        try:
            function()
        except BaseException:
            self._abandon(graph, pool)
            raise
        try:
            graph.capture_end()
        except RuntimeError:
            self._clear(pool)
            raise
        self._graphs.add(graph)
        found: Callable[[], None] = graph.replay
        return found

    def _abandon(self, graph: torch.cuda.CUDAGraph, pool: tuple[int, int]) -> None:
        """End a recording in which something was raised."""
        try:
            graph.capture_end()
        except RuntimeError:  # CUDA refuses to end it after what cannot be recorded
            self._clear(pool)

    def _clear(self, pool: tuple[int, int]) -> None:
        """After an end that has failed: torch's allocator and random generator still wait for one that succeeds."""
        with suppress(RuntimeError):  # since torch 2.12, the allocator does not
            end = next(getattr(torch._C, name) for name in ENDS if hasattr(torch._C, name))
            end(self._device.index or 0, pool)
        with torch.cuda.graph(torch.cuda.CUDAGraph(), None, self._stream, "thread_local"):
            torch.zeros(1, device=self._device)
