"""A run's checkpoint: the weights and everything else that resuming needs, in one file.

The weights have their own names, so any reader of weights can load the file; the rest (optimizer, random numbers,
averages, recurrent state) has names that begin with `@`, which readers of weights skip, or is JSON in the metadata of
the file. There is no pickle. The file is replaced atomically, so its parts always belong together.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor, nn
from torch.optim import Optimizer

from flowconf.graph.weights import loading as weights
from flowconf.graph.weights.files import save_tensors, snapshot
from flowconf.graph.weights.reading import TensorFile, broken, check_whole, opened
from flowconf.graph.weights.seal import VERSION, version_of
from flowconf.graph.weights.sources import LAST, NOT_A_WEIGHT
from flowconf.language.settings import Checkpoint
from flowconf.report import ConfigError, Diagnostic, FlowconfError, Place, RunError, listing, shell_word, why_not
from flowconf.train.job import Job
from flowconf.train.optim.averages import average_of
from flowconf.train.optim.state import FEW, SAVEABLE, note_on, packed, restore_state, state_of, unpacked
from flowconf.train.runs.resume import advice_to_continue
from flowconf.train.runs.saved import Progress, SavedOptimizer, SavedPart, SavedState

MARK = NOT_A_WEIGHT


@dataclass(frozen=True)
class Snapshot:
    """The contents of a checkpoint, copied to the CPU, so that it can be written while training continues."""

    step: int
    tensors: Mapping[str, Tensor]
    texts: Mapping[str, str]
    digests: dict[Tensor, str] = field(default_factory=dict)
    """Those that are known, because a file has them."""

    def weights(self) -> Snapshot:
        """The weights alone, or their averages if there are any: those that are evaluated."""
        tensors = {
            name: self.tensors.get(f"{MARK}own/{average_of(name)}", tensor)
            for name, tensor in self.tensors.items()
            if not name.startswith(MARK)
        }
        return replace(self, tensors=tensors, texts={key: text for key, text in self.texts.items() if key != "state"})

    def with_texts(self, texts: Mapping[str, str]) -> Snapshot:
        """The same with further texts."""
        return replace(self, texts={**self.texts, **texts})

    def write(self, file: Path) -> None:
        """Replace a checkpoint. Raises `RunError`; the earlier checkpoint is then unchanged."""
        try:
            save_tensors(file, self.tensors, self.texts, self.digests)
        except OSError as problem:
            raise not_saved(file, self.step, problem) from problem


def whole_state(job: Job, run: str, progress: Progress, tensors: Mapping[str, Tensor]) -> Snapshot:
    """The state of the run with the id `run`, with further `tensors` by name.

    All processes of a team call this, and the first one gets the tensors.
    """
    found = {f"{MARK}own/{name}": tensor for name, tensor in tensors.items()}
    found |= {f"{MARK}random/{name}": tensor for name, tensor in job.team.random_states().items()}
    found |= {f"{MARK}memory/{at}": tensor for at, tensor in job.memory.state().items()}
    scaler = job.precision.scaler
    state = SavedState(
        progress=progress,
        optimizer=_optimizer_state(job, found),
        scaler=None if scaler is None else scaler.state_dict(),
    )
    texts = {"state": json.dumps(state.model_dump())}
    return _taken(job, run, progress.step, found, texts)


def best_weights(job: Job, run: str, step: int) -> Snapshot:
    """The weights after `step` steps, or their averages. All processes of a team call this, like `whole_state`."""
    averages = {f"{MARK}own/{name}": tensor for name, tensor in job.averages.state().items()}
    return _taken(job, run, step, averages, {}).weights()


def _taken(job: Job, run: str, step: int, beside: Mapping[str, Tensor], texts: Mapping[str, str]) -> Snapshot:
    tensors = snapshot({**weights.tensors_of(job.graph), **beside}, kept=job.team.first)
    return Snapshot(step, tensors, {"step": str(step), "run": run, **texts, **job.texts})


def load_checkpoint(file: Path, run: str, job: Job) -> tuple[Progress, dict[str, Tensor], list[str]]:
    """Restore weights, optimizer, random numbers and recurrent state; nothing is changed if the file is damaged.

    Returns the progress, the tensors that belong to it, and notes on what starts fresh. Raises `ConfigError` if the
    weights do not fit the graph, and `RunError` for a file that is damaged, or no checkpoint of the run `run`.
    """
    place = Place(str(file))
    try:
        with opened(file, place) as found:
            state = _state_in(found, file, run)
            kinds: dict[str, dict[str, Tensor]] = {kind: {} for kind in ("own", "optimizer", "random", "memory")}
            for name in found.names:
                kind, _, rest = name.removeprefix(MARK).partition("/")
                if name.startswith(MARK) and kind in kinds:
                    kinds[kind][rest] = found.read(name)
        weights.load(job.graph, weights.Request(str(file), Checkpoint(unused="error", place=place)))
        with restoring(file, "optimizer state"):
            notes = _restore_optimizer(job, state.optimizer, kinds["optimizer"])
            notes += _restore_scaler(job, state.scaler)
        job.memory.restore({at: tensor.to(job.device) for at, tensor in kinds["memory"].items()})
        with restoring(file, "random state"):
            job.team.restore_random(kinds["random"])
    except ConfigError as refused:
        raise _refused(refused, file) from None
    return state.progress, kinds["own"], notes


@contextmanager
def restoring(file: Path, what: str) -> Iterator[None]:
    """A block that restores a part of a checkpoint. Raises `RunError` if that is not as a run saves it."""
    try:
        yield
    except FlowconfError:
        raise
    except (TypeError, ValueError, RuntimeError, LookupError, ArithmeticError, AttributeError) as problem:
        why = f"{problem} is missing" if isinstance(problem, KeyError) else problem
        raise _refused(broken(file, Place(str(file)), f"its {what} is invalid: {why}"), file) from None


def check_checkpoint(file: Path, run: str) -> None:
    """Raise `RunError` if the header of a file is not that of a checkpoint of a run, of this version."""
    try:
        with opened(file, Place(str(file))) as found:
            _state_in(found, file, run)
    except ConfigError as refused:
        raise _refused(refused, file) from None


def check_weights(file: Path, step: int, run: str) -> None:
    """Raise `RunError` if a file is damaged, or does not hold the weights of a run after `step` steps."""
    place = Place(str(file))
    try:
        check_whole(file, place)
        with opened(file, place) as found:
            if (found.texts.get("step"), found.texts.get("run")) != (str(step), run):
                raise broken(file, place, f"it does not contain the run's weights of step {step:,}")
    except ConfigError as refused:
        raise _refused(refused, file) from None


def saved_step(file: Path, run: str | None = None) -> int | None:
    """The step whose weights a file holds; None if there is no such file, it cannot be read, or is not of the `run`."""
    try:
        with opened(file, Place(str(file))) as found:
            return int(found.texts["step"]) if run in (None, found.texts.get("run")) else None
    except (ConfigError, KeyError, ValueError):
        return None


def not_saved(file: Path, step: int, problem: OSError) -> RunError:
    """The error for a checkpoint that the operating system did not let be written."""
    last = file.with_name(LAST)
    before = saved_step(last)
    message = f"cannot save the checkpoint of step {step:,}: {why_not(problem)}"
    first = "make room" if problem.errno in (errno.ENOSPC, errno.EDQUOT) else "let it be written"
    then = "start again" if before is None else f"go on from step {before:,}"
    advice = f"{first}, then {then}: flowconf train --resume {shell_word(file.parents[1])}"
    return RunError(Diagnostic("FC0702", message, Place(str(last)), advice=advice))


def _state_in(found: TensorFile, file: Path, run: str) -> SavedState:
    """The data in a checkpoint besides its tensors. Raises `ConfigError` if it is of another version or run."""
    place, version = Place(str(file)), version_of(found.texts)
    if version is None or "state" not in found.texts:
        raise broken(file, place, "it is not a training checkpoint")
    if version < VERSION:
        raise broken(file, place, f"it has format {version}, which stores optimizer state by position")
    if found.texts.get("run") != run:
        raise broken(file, place, "it belongs to another run")
    try:
        return SavedState.model_validate_json(found.texts["state"])
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise broken(file, place, f"`{where}` is invalid: {first['msg'].lower()}") from None


def _refused(refused: ConfigError, file: Path) -> FlowconfError:
    """The error for a checkpoint, with advice on how to continue."""
    kind = RunError if any(one.code in ("FC0301", "FC0306") for one in refused.diagnostics) else ConfigError
    return kind(*(replace(one, advice=advice_to_continue(file.parents[1], file)) for one in refused.diagnostics))


def _names(job: Job) -> dict[nn.Parameter, str]:
    return {parameter: name for group in job.groups for name, parameter in group.named.items()}


def _optimizer_state(job: Job, tensors: dict[str, Tensor]) -> SavedOptimizer:
    plain: dict[str, dict[str, Any]] = {}
    parts, names = [], _names(job)
    for optimizer in (*job.optimizers, *job.repeating):
        state = state_of(optimizer, names)
        parts.append(_part(job, optimizer, list(state)))
        for name, kept in state.items():
            found: dict[str, Tensor] = {}
            try:
                plain[name] = {
                    key: packed(value, key, found) for key, value in kept.items() if not isinstance(value, Tensor)
                }
            except TypeError as problem:
                message = f"the state of `{job.optimizer_name(name)}` cannot be saved: {problem}"
                raise RunError(Diagnostic("FC0702", message, path="optimizer", advice=SAVEABLE)) from None
            found |= {key: value for key, value in kept.items() if isinstance(value, Tensor)}
            tensors |= {f"{MARK}optimizer/{name}/{key}": tensor for key, tensor in found.items()}
    return SavedOptimizer(parts=parts, state=plain)


def _part(job: Job, optimizer: Optimizer, parameters: list[str]) -> SavedPart:
    """An optimizer as a checkpoint describes it; with its settings, if its state is one for all parameters."""
    settings = optimizer.param_groups[0].items() if optimizer in job.repeating else ()
    kept = {key: value for key, value in settings if key not in ("params", "lr")}
    return SavedPart(name=job.optimizer_name(parameters[0]), parameters=parameters, settings=kept)


def _restore_optimizer(job: Job, saved: SavedOptimizer, tensors: Mapping[str, Tensor]) -> list[str]:
    held: dict[str, dict[str, Tensor]] = {}
    for at, tensor in tensors.items():
        name, _, key = at.rpartition("/")
        held.setdefault(name, {})[key] = tensor.clone()  # aligned as torch allocates it, on which sums depend
    kept = {name: _whole_state(plain, held.get(name, {})) for name, plain in saved.state.items()}
    before = {name: part.name for part in saved.parts for name in part.parameters}
    changed: dict[tuple[str, str], list[str]] = {}
    notes: list[str] = []
    names = _names(job)
    for optimizer in (*job.optimizers, *job.repeating):
        own = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
        now = job.optimizer_name(own[0])
        for name in own:
            if name in kept and before[name] != now:
                changed.setdefault((now, before[name]), []).append(name)
                kept[name] = {}
        if optimizer in job.optimizers:
            notes += restore_state(optimizer, names, kept, job.maker(own[0]))
        elif _part(job, optimizer, own) in saved.parts:
            notes += restore_state(optimizer, names, kept, None)
        elif any(kept.get(name) for name in own):
            notes.append(f"optimizer state starts fresh: `{now}` had other settings or parameters")
    everywhere = len(changed) == 1 and sum(map(len, changed.values())) == len(before)
    for (now, then), found in changed.items():
        whom = "" if everywhere else f" for {listing(found, FEW)}"
        notes.append(f"optimizer state starts fresh{whom}: the config has `{now}`, and the checkpoint `{then}`")
    leaving = sorted(before.keys() - {name for group in job.groups for name in group.named})
    return [*notes, *note_on(leaving, "optimizer state is dropped for", "no longer trained")]


def _whole_state(plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The state of a parameter: plain values, tensors, and containers of both."""
    inside = {key: unpacked(value, tensors) for key, value in plain.items()}
    return inside | {key: tensor for key, tensor in tensors.items() if re.split(r"[.\[]", key)[0] not in plain}


def _restore_scaler(job: Job, saved: dict[str, int | float] | None) -> list[str]:
    scaler = job.precision.scaler
    if scaler is None or saved is None:
        return ["the loss scale starts fresh: the checkpoint has none"] if scaler else []
    if saved.keys() != scaler.state_dict().keys():
        return ["the loss scale starts fresh: the checkpoint is from another version of torch"]
    scaler.load_state_dict(saved)
    return []
