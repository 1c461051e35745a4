"""Batches of workers on their way to a CUDA device, which is pretended: what waits for what, and how it ends."""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from flowconf.report import RunError
from flowconf.train.data import streams
from flowconf.train.data.streams import Arrivals, Uploads, closing_stream, stream

CPU = torch.device("cpu")


class Numbered:
    """Batches that tell their rows."""

    fields: ClassVar = {"row": ((), torch.int64)}

    def __len__(self):
        return 100

    def batch(self, rows, generator):
        return {"row": rows.clone()}


@pytest.fixture
def done(monkeypatch):
    """What is asked of CUDA, in its order, by an upload to the CPU."""
    done = []
    event = SimpleNamespace(name="copied")
    side = SimpleNamespace(record_event=lambda: event)

    def current(device):
        return SimpleNamespace(device=device, wait_event=lambda event: done.append((event.name, device)))

    monkeypatch.setattr(streams, "_side_stream", lambda device: side)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", current)
    monkeypatch.setattr(Tensor, "pin_memory", Tensor.clone)
    monkeypatch.setattr(Tensor, "record_stream", lambda self, stream: done.append(("held", stream.device)))
    return done


def uploads(count, workers=1, split=None):
    orders = [([row], 0, None) for row in range(count)]
    arrivals = stream(split or Numbered(), orders, 1, workers, 2, CPU)
    assert isinstance(arrivals, Arrivals)
    return Uploads(arrivals, CPU)


def test_the_stream_of_the_device_waits_for_each_batch_and_holds_its_memory(done):
    """That of the current device, if it is another one, would read a batch before it is copied."""
    with closing_stream(uploads(5)) as batches:
        for row, batch in enumerate(batches):
            assert batch["row"].tolist() == [row]
            assert done == [("copied", CPU), ("held", CPU)] * (row + 1)


def test_an_error_before_the_first_copy_is_raised(done, monkeypatch):
    def refused(device):
        raise RuntimeError("no stream")

    monkeypatch.setattr(streams, "_side_stream", refused)
    with closing_stream(uploads(5)) as batches, pytest.raises(RuntimeError, match="no stream"):
        next(batches)


def test_an_error_of_a_row_is_raised_with_its_batch(done):
    class Raising(Numbered):
        def batch(self, rows, generator):
            if 3 in rows:
                raise KeyError("gone")
            return super().batch(rows, generator)

    with closing_stream(uploads(5, split=Raising())) as batches:
        assert [next(batches)["row"].item() for _ in range(3)] == [0, 1, 2]
        with pytest.raises(RunError, match="KeyError: 'gone'"):
            next(batches)


def test_the_end_stops_the_thread_and_the_workers_in_the_middle(done):
    with closing_stream(uploads(50, workers=2)) as batches:
        next(batches)
        workers = batches.arrivals.found._workers
        assert all(worker.is_alive() for worker in workers)
    assert not batches.thread.is_alive()
    assert not any(worker.is_alive() for worker in workers)


@pytest.mark.slow  # torch looks for dead workers every five seconds
def test_a_worker_that_dies_while_the_main_thread_computes_is_reported(done):
    batches = uploads(50)
    next(batches)
    os.kill(batches.arrivals.found._workers[0].pid, signal.SIGKILL)
    with pytest.raises(RunError, match="a data worker died"), closing_stream(batches):
        list(batches)
