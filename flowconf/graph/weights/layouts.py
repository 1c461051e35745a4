"""The layouts in which other tools write weights: dicts in dicts, and shards with an index."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from flowconf.graph.weights.file_names import INDEX
from flowconf.report import ConfigError, Diagnostic, Place, listing, read_json, shown_path, why_not

MAIN = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights")
"""The keys below which tools write the weights of a model, the usual ones first."""
ASIDE = re.compile(r"optim|sched|scaler|rng|callback|loop|hyper", re.IGNORECASE)
"""Keys of other state."""
DEEPEST = 4


@dataclass(frozen=True)
class TensorSets:
    """The named tensors of a loaded file: one set by plain names, and further ones, such as moving averages."""

    main: Mapping[str, Tensor]
    others: Mapping[str, Mapping[str, Tensor]]
    """Path of a set -> its tensors."""


def sets_of(found: object, at: str | None, file: Path, place: Place) -> TensorSets:
    """The named tensors in what a file holds; `at` chooses among several sets. Raises `ConfigError`."""
    sets = dict(_sets(found, "", DEEPEST))
    if not sets:
        raise ConfigError(Diagnostic("FC0301", f"`{shown_path(file)}` has no named tensors", place))
    main = next((path for path in ("", *MAIN) if path in sets), next(iter(sets)) if len(sets) == 1 else None)
    asked = next((path for path in sets if path and f"{at or ''}.".startswith(f"{path}.")), None)
    has_own = main is not None and any(name.startswith(f"{at}.") for name in sets[main])
    if asked is not None and not has_own:
        chosen = {f"{asked}.{name}": tensor for name, tensor in sets[asked].items()}
        return TensorSets(chosen, {path: sets[path] for path in sets if path != asked})
    if main is None:
        message = f"`{shown_path(file)}` has several sets of tensors: {listing(list(sets))}"
        raise ConfigError(Diagnostic("FC0301", message, place, advice=f"choose one, as in `at: {next(iter(sets))}`"))
    return TensorSets(sets[main], {path: sets[path] for path in sets if path != main})


def _sets(found: object, path: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The mappings with tensors, at any depth, without those of other state."""
    if not isinstance(found, Mapping) or not depth:
        return
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    if tensors and any(isinstance(name, str) for name in found):
        yield path, tensors
    for key, value in found.items():
        if isinstance(key, str) and not ASIDE.search(key):
            yield from _sets(value, f"{path}.{key}" if path else key, depth - 1)


def shards_of(file: Path, place: Place) -> dict[str, Path]:
    """Tensor -> the file beside an index that has it. Raises `ConfigError` for an index that is none."""

    def wrong(why: str) -> ConfigError:
        return ConfigError(Diagnostic("FC0301", f"`{shown_path(file)}` is not an index of weights: {why}", place))

    try:
        data: Any = read_json(file)
    except OSError as problem:
        raise wrong(why_not(problem)) from None
    except ValueError as problem:
        raise wrong(str(problem)) from None
    shards = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(shards, dict) or not shards:
        raise wrong("it has no `weight_map`")
    found: dict[str, Path] = {}
    for name, shard in shards.items():
        if not isinstance(shard, str) or Path(shard).name != shard or shard.endswith(INDEX):
            raise wrong(f"`{name}` is not in a file beside it")
        found[name] = file.parent / shard
    absent = next((shard for shard in found.values() if not shard.is_file()), None)
    if absent is not None:
        raise wrong(f"`{absent.name}` is not beside it")
    return found
