"""What reading rows costs: 32x32 images with augmentation, by two worker processes, against a plain `DataLoader`.

    python benchmarks/data.py [--rounds 5] [--rows 8192] [--out FOLDER]

Each makes all rows once, in random order. The time is that of the CPU in this process and its workers, from the start
of the workers to their end: with as many workers as cores, the CPU limits the rows in a second.
"""

from __future__ import annotations

import argparse
import resource
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch
from table import Table, ratio
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from flowconf.train.data.batches import Items
from flowconf.train.data.feed import Feed
from flowconf.train.data.sampling import Sampler

BATCH, WORKERS = 64, 2
CPU = torch.device("cpu")


class Images(Dataset[dict[str, Tensor]]):
    """Random images, shifted and mirrored anew each time."""

    def __init__(self, rows: int) -> None:
        self.images = torch.randint(0, 256, (rows, 3, 32, 32), dtype=torch.uint8)
        self.labels = torch.randint(10, (rows,))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        wide = torch.nn.functional.pad(self.images[row], (4, 4, 4, 4)).float().div_(255)
        top, left = torch.randint(9, (2,)).tolist()
        image = wide[:, top : top + 32, left : left + 32]
        return {"image": image.flip(-1) if torch.rand(()) < 0.5 else image, "label": self.labels[row]}


class Batches:
    """The same images as a split of flowconf: a whole batch is shifted and mirrored at once."""

    fields: ClassVar = {"image": ((3, 32, 32), torch.float32), "label": ((), torch.int64)}

    def __init__(self, images: Images) -> None:
        self.images, self.labels = images.images, images.labels

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        wide = torch.nn.functional.pad(self.images[rows], (4, 4, 4, 4))
        top, left = torch.randint(9, (2, len(rows), 1), generator=generator)
        mirrored = torch.rand((len(rows), 1), generator=generator) < 0.5
        inside = torch.arange(32).expand(len(rows), 32)
        down, across = inside + top, torch.where(mirrored, 31 - inside, inside) + left
        high = wide.gather(2, down[:, None, :, None].expand(-1, 3, -1, 40))
        image = high.gather(3, across[:, None, None, :].expand(-1, 3, 32, -1))
        return {"image": image.float().div_(255), "label": self.labels[rows]}


def plain(images: Images) -> None:
    for _ in DataLoader(images, BATCH, shuffle=True, num_workers=WORKERS):
        pass


def ours(split: object, rows: int) -> None:
    feed = Feed(split, CPU, 0, "train", workers=WORKERS)  # type: ignore[arg-type]
    sampler = Sampler(rows, BATCH, 0, drop_last=False, device=CPU)
    with feed.ahead(sampler, 0, sampler.batches, 1):
        for step, some in enumerate(sampler.rest_of_epoch()):
            feed.batch(some, step)


def seconds(run: Callable[[], None]) -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    before = [resource.getrusage(kind) for kind in kinds]
    run()
    after = [resource.getrusage(kind) for kind in kinds]
    return sum(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime for a, b in zip(before, after, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description="what reading rows costs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=8192)
    parser.add_argument("--out", type=Path, help="the folder for `data.json`")
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = Images(options.rows)
    runs: dict[str, Callable[[], None]] = {
        "a plain `DataLoader`": lambda: plain(images),
        "flowconf, the same data set": lambda: ours(Items(images), options.rows),
        "flowconf, a data set that makes whole batches": lambda: ours(Batches(images), options.rows),
    }
    took: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(options.rounds):
        for name in list(runs)[:: 1 if number % 2 else -1]:
            took[name].append(seconds(runs[name]))
    base = took["a plain `DataLoader`"]
    about = (
        f"{options.rows:,} images of 32 x 32, shifted and mirrored at random, made by {WORKERS} worker processes in "
        f"batches of {BATCH}: the CPU time of all processes. flowconf seeds every batch, so that a run can be "
        "repeated and resumed, and its workers hand over batches in memory that is used again."
    )
    table = Table("data", "Rows from workers", about, ["by", "µs a row", "time to a `DataLoader`"])
    for name, times in took.items():
        table.add(name, f"{1e6 * statistics.median(times) / options.rows:,.0f}", ratio(times, base))
    table.save(options.out)


if __name__ == "__main__":
    main()
