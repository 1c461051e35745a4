"""Records what a function launches on a CUDA device, to launch it again without the function: CUDA graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from flowconf.report import shown_path

WAITS = "called a synchronizing CUDA operation"
"""The beginning of torch's warning."""


class CudaRecorder:
    """Recordings of one stream, which share their memory: none of them needs what another one has left there."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

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
        """Run `function`, launching nothing; returns what launches it. Raises what cannot be recorded."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, self._pool, self._stream, "thread_local"):  # other threads upload and save
                function()
        except Exception:
            self._record_nothing()
            raise
        found: Callable[[], None] = graph.replay
        return found

    def _record_nothing(self) -> None:
        """End a recording that has failed: torch's random generator waits for the end of one that succeeds."""
        with torch.cuda.graph(torch.cuda.CUDAGraph(), None, self._stream, "thread_local"):
            torch.zeros(1, device=self._device)
