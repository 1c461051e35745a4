"""The data of a config as Python sees it: the batches that a run of it would see."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch

from flowconf.language.config import Config
from flowconf.report import ConfigError, Diagnostic, suggest
from flowconf.train.data.collate import Batch
from flowconf.train.data.feed import Feed
from flowconf.train.data.run_data import feeds, make_data, sampler_of
from flowconf.train.data.sampling import Sampler
from flowconf.train.data.splits import Splits
from flowconf.train.team.distributed import Team


class Batches:
    """The batches of a split: each iteration begins at the first one.

    Those of `train` are the first epoch of a run with the same seed; those of other splits are all rows in order.
    """

    def __init__(self, name: str, feed: Feed, config: Config, splits: Splits) -> None:
        self.name, self.feed, self.config, self.splits = name, feed, config, splits
        data = config.training.data
        self.batch_size = data.batch_size if name == "train" else data.rows_of_evaluations

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.feed)

    def __len__(self) -> int:
        """The number of batches."""
        return self._sampler().batches

    def __iter__(self) -> Iterator[Batch]:
        if self.name != "train":
            yield from self.feed.in_order(self.batch_size)
            return
        sampler = self._sampler()
        with self.feed.ahead(self._sampler(), 0, sampler.batches, 1):
            for number, rows in enumerate(sampler.rest_of_epoch()):
                yield self.feed.batch(rows, number)

    def __repr__(self) -> str:
        return f"Batches({self.name!r}, {self.rows} rows in {len(self)} batches)"

    def _sampler(self) -> Sampler:
        if self.name == "train":
            return sampler_of(self.config, self.feed, self.splits)
        return Sampler(len(self.feed), self.batch_size, self.config.training.seed, self.feed.home)


class RunData:
    """The data of a config by split: `train`, and `val` and `test` where the data set has them, else None."""

    def __init__(self, config: Config) -> None:
        device = torch.device("cpu")
        made = make_data(config, device)
        self.config = config
        self.splits = {
            name: Batches(name, feed, config, made) for name, feed in feeds(made, config, Team(device)).items()
        }

    @property
    def train(self) -> Batches:
        return self.splits["train"]

    @property
    def val(self) -> Batches | None:
        return self.splits.get("val")

    @property
    def test(self) -> Batches | None:
        return self.splits.get("test")

    def named(self, split: str) -> Batches:
        """The batches of `train`, `val`, `test` or a set of `data.evaluate`. Raises `ConfigError` for other names."""
        check_split(split, self.splits, self.config)
        return self.splits[split]

    def __repr__(self) -> str:
        return f"RunData({', '.join(f'{name}: {split.rows} rows' for name, split in self.splits.items())})"


def check_split(split: str, known: Collection[str], config: Config) -> None:
    """Raise `ConfigError` for a split that the data set of a config does not have."""
    if split not in known:
        message = f"the data set `{config.training.data.name}` has no split `{split}`"
        raise ConfigError(Diagnostic("FC0502", message, advice=suggest(split, known, "splits")))
