"""Sources of weights: files and run folders.

A run folder is `<runs>/<config name>/<time>/`. It contains `run.json`, whose `status` is `finished` at the end of the
run, and `checkpoints/last.safetensors`, `checkpoints/best.safetensors` and, with `trainer.keep`, the weights of some
steps: `checkpoints/step_1000.safetensors`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from flowconf.graph.weights import hub
from flowconf.graph.weights.file_names import ENDINGS, FOLDER_NAMES
from flowconf.graph.weights.records import lacks, read_record
from flowconf.language.settings import Checkpoint
from flowconf.report import (
    ConfigError,
    Diagnostic,
    FlowconfError,
    Place,
    Suggestion,
    listing,
    nearest,
    shown_path,
    why_not,
)
from flowconf.text.near_files import near_path
from flowconf.text.overrides import word_of

Conditions = Sequence[tuple[str, Any]]
"""Dotted keys of a config, and their values."""
Which = int | Literal["best", "last"]
"""Which weights of a run: its best or last ones, or those that it has kept of a step."""
RECORD = "run.json"
CONFIG = "config.yaml"
CHECKPOINTS = "checkpoints"
BEST = "best.safetensors"
LAST = "last.safetensors"
STEP = re.compile(r"step_(\d{1,18})\.safetensors")
"""The name of a file with the weights of a step."""
NOT_A_WEIGHT = "@"
"""The prefix of tensors in a file that are not weights: the state of a run."""


def find_run(config: str | Path, runs: str | Path, where: Conditions = ()) -> Path | None:
    """The newest of the `finished_runs`, or None."""
    return next(iter(finished_runs(config, runs, where)), None)


def finished_runs(config: str | Path, runs: str | Path, where: Conditions = ()) -> list[Path]:
    """The folders of the finished runs of the training config `config` below `runs`, newest first.

    `where` are dotted keys with the values that the config of a run has. Runs of another config with the same name are
    ignored.
    """
    config = Path(config).resolve()
    folder = Path(runs) / config.stem
    finished = [run for run in folder.glob("*/") if _is_finished_run_of(run, config) and _has_values(run, where)]
    return sorted(finished, key=lambda run: (str(record(run).get("ended", "")), run.name), reverse=True)


def _has_values(run: Path, where: Conditions) -> bool:
    if not where:
        return True
    from flowconf.language.values import same, value_of
    from flowconf.text.documents import read

    try:
        data = read(run / CONFIG).data
    except FlowconfError:
        return False
    return all(same(value_of(data, key), value) for key, value in where)


def find_run_folder(path: str | Path) -> Path:
    """The run folder `path`, or the newest one directly below it. Raises `ConfigError` if there is none."""
    folder = Path(path)
    newest = newest_run(folder)
    if newest is not None:
        return newest
    others = [str(other) for other in folder.parent.glob("*") if other.is_dir() and other != folder]
    close = nearest(str(folder), sorted(others))
    advice = f"write `{close}`" if close else "a run folder is named `runs/CONFIG/DATE_TIME` and contains `run.json`"
    if folder.is_dir():
        deeper = sorted({run.parent.parent for run in folder.glob(f"*/*/{RECORD}")})
        none = f"it contains no `{RECORD}`; start a run or sweep again that was killed before it was written"
        advice = f"write `{deeper[0]}`" if deeper else none
    elif folder.is_file():
        advice = f"write a run folder: `flowconf train` creates those of a config in `runs/{folder.stem}`"
    message = f"`{shown_path(folder)}` is not a run folder"
    raise ConfigError(Diagnostic("FC0301", message, Place(str(folder)), advice=advice))


def newest_run(folder: Path) -> Path | None:
    """`folder`, if it is a run folder, or the newest run directly below it; None if there is none."""
    return next(iter(runs_in(folder)), None)


def runs_in(folder: Path) -> list[Path]:
    """`folder`, if it is a run folder, or the runs directly below it, newest first."""
    if (folder / RECORD).is_file():
        return [folder]
    runs = (inner.parent for inner in folder.glob(f"*/{RECORD}"))
    return sorted(runs, key=lambda run: (str(record(run).get("started", "")), run.name), reverse=True)


def skipped_runs(folder: str | Path, file: Path, step: int | None = None) -> list[str]:
    """A line for each run in `folder` that is newer than that of the weights `file`, because it has no such weights."""
    newer = takewhile(lambda run: run not in file.parents, runs_in(Path(folder)))
    what = "weights" if step is None else f"weights of step {step:,}"
    return [
        f"skipped the newer run {shown_path(run)} ({record(run).get('status', 'unknown')}): it has no {what}"
        for run in newer
    ]


def record(run: Path) -> dict[str, Any]:
    """The record of a run; empty if there is no valid one."""
    found, _ = read_record(run / RECORD)
    return found


def known_record(run: Path) -> dict[str, Any]:
    """The record of a run. Raises `ConfigError` if there is no valid one."""
    file = run / RECORD
    found, wrong = read_record(file)
    wrong = wrong or lacks(found)
    if wrong:
        message = f"the record `{shown_path(file)}` of the run cannot be read: {wrong}"
        raise ConfigError(Diagnostic("FC0301", message, Place(str(file))))
    return found


def best_checkpoint(run: Path) -> Path:
    """The best weights of a run, or the last ones of an unfinished run without best ones."""
    best = run / CHECKPOINTS / BEST
    return best if best.is_file() or record(run).get("status") == "finished" else run / CHECKPOINTS / LAST


def kept_file(run: Path, step: int) -> Path:
    """The file with the weights that a run keeps of a step."""
    return run / CHECKPOINTS / f"step_{step}.safetensors"


def kept_steps(run: Path) -> list[int]:
    """The steps whose weights a run has kept, in order."""
    found = (STEP.fullmatch(file.name) for file in (run / CHECKPOINTS).glob("step_*.safetensors"))
    return sorted(int(name[1]) for name in found if name is not None)


def chosen(last: bool, step: int | None) -> Which:
    """The weights that `last` and `step` ask for. Raises `ConfigError` if both are given."""
    if step is None:
        return "last" if last else "best"
    if last:
        message = "`last` and `step` are both given, but only one of them can choose the weights"
        raise ConfigError(Diagnostic("FC0122", message, advice="keep one of them"))
    return step


def _file_of(run: Path, which: Which) -> Path:
    if which == "best":
        return best_checkpoint(run)
    return run / CHECKPOINTS / LAST if which == "last" else kept_file(run, which)


def weights_of(run: Path, which: Which = "best", place: Place | None = None) -> Path:
    """The file with some weights of a run.

    Raises `ConfigError` for a step whose weights it has not kept, and for a file that another run has written.
    """
    file = _file_of(run, which)
    if isinstance(which, int) and not file.is_file():
        kept = listing(list(map(str, kept_steps(run))))
        advice = f"it has kept those of the steps {kept}" if kept else "`trainer.keep` keeps weights during a run"
        message = f"the run {shown_path(run)} has not kept the weights of step {which:,}"
        raise ConfigError(Diagnostic("FC0301", message, place or Place(str(file)), advice=advice))
    own = record(run).get("id")
    if (writer := _written_by(file)) and own and writer != own:
        message = f"`{shown_path(file)}` is of the run `{writer}`, not of `{own}`, in whose folder it is"
        advice = "move it to another folder, and write its path to load it"
        raise ConfigError(Diagnostic("FC0301", message, place or Place(str(file)), advice=advice))
    return file


def _written_by(file: Path) -> str | None:
    """The run that has written a file of weights; None if it does not say, or if the file cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with as_unicode(file) as name, safe_open(name, "np") as opened:
            return (opened.metadata() or {}).get("run")
    except (OSError, SafetensorError):
        return None


def beside(path: str, place: Place) -> Path:
    """A path relative to the file in which it is written, or to the current folder on the command line."""
    folder = Path(place.file).parent if place.file is not None else Path()
    return (folder / path).absolute()


def locate(checkpoint: Checkpoint, runs: str | Path, download: bool = False) -> Path:
    """The file or folder that a `checkpoint:` key refers to.

    A `path` is relative to the file in which it is written, or else to the current folder; a `config` refers to its
    newest finished run in `runs`. A `hub` refers to a file in its cache, and with `download` to one that is downloaded.
    Raises `ConfigError` if there is none.
    """
    return _of_hub(checkpoint, download) if checkpoint.hub is not None else _located(checkpoint, runs)


def _of_hub(checkpoint: Checkpoint, download: bool) -> Path:
    """The file of a `hub` in the cache."""
    found = hub.downloaded(checkpoint) if download else hub.cached(checkpoint)
    if found is None:
        message = f"the weights of `{checkpoint.hub}` are not in the cache of the hub"
        raise ConfigError(
            Diagnostic("FC0301", message, checkpoint.place, advice="they are downloaded when they are loaded")
        )
    return found


def is_awaited(checkpoint: Checkpoint, runs: str | Path) -> bool:
    """Whether the weights of a checkpoint are not there yet: its config is trained first, or they are downloaded."""
    if checkpoint.hub is not None:
        return hub.cached(checkpoint) is None
    if checkpoint.config is None:
        return False
    return find_run(beside(checkpoint.config, checkpoint.place), runs, checkpoint.where) is None


def _located(checkpoint: Checkpoint, runs: str | Path) -> Path:
    """The file or folder of `path`, or the run of `config`."""
    place = checkpoint.place
    if checkpoint.config is None:
        assert checkpoint.path is not None
        near = beside(checkpoint.path, place)
        try:
            return near if near.exists() else Path(checkpoint.path)
        except OSError as problem:
            raise ConfigError(
                Diagnostic("FC0301", f"the checkpoint cannot be read: {why_not(problem)}", place)
            ) from None
    config = beside(checkpoint.config, place)
    if not config.is_file():
        message = f"the config `{checkpoint.config}` does not exist"
        close = near_path(checkpoint.config, beside(".", place), (".yaml", ".yml", ".toml"))
        advice = Suggestion(close, checkpoint.config) if close is not None else f"searched at {shown_path(config)}"
        raise ConfigError(Diagnostic("FC0301", message, place, advice=advice))
    run = find_run(config, runs, checkpoint.where)
    if run is None:
        words = [word_of(key, value) for key, value in checkpoint.where]
        asked = f" with `{' '.join(words)}`" if words else ""
        message = f"`{checkpoint.config}` has no finished run{asked} in `{runs}`"
        advice = f"run `flowconf train {shlex.join([shown_path(config), *words])}` first"
        raise ConfigError(Diagnostic("FC0301", message, place, advice=advice))
    return run


def weights_file(path: str | Path, how: Checkpoint) -> Path:
    """The file of tensors for a path: a file, a folder of checkpoints, or a run folder; of a folder of runs, that of
    the newest one that has the weights: those of the `step`, or else the best ones.

    Raises `ConfigError` if there is none.
    """
    found, place = Path(path), how.place
    which: Which = how.step or "best"
    of_step = dict(how.places).get("step", place)
    if runs := runs_in(found):
        run = next((run for run in runs if _file_of(run, which).is_file()), runs[0])
        found = weights_of(run, which, of_step)
    elif how.step is not None:
        message = f"`step` applies only to a run, and `{shown_path(found)}` is none"
        raise ConfigError(Diagnostic("FC0301", message, of_step, advice="remove it, or write the folder of a run"))
    elif found.is_dir():
        found = _in_folder(found)
    if found.exists() and not found.is_file() and not found.is_dir():
        message = f"the checkpoint `{shown_path(path)}` is not a regular file"
        raise ConfigError(Diagnostic("FC0301", message, place))
    if not found.is_file():
        what = "has no weights" if found != Path(path) else "does not exist"
        message = f"the checkpoint `{shown_path(path)}` {what}"
        raise ConfigError(Diagnostic("FC0301", message, place, advice=_neighbour(Path(path), place)))
    if not found.name.endswith(ENDINGS):
        message = f"`{shown_path(path)}` is not a weights file"
        advice = f"weights files end in {listing(ENDINGS)}"
        raise ConfigError(Diagnostic("FC0301", message, place, advice=advice))
    return found


def _neighbour(path: Path, place: Place) -> str:
    """The advice for a checkpoint that does not exist: a similar file beside it, or the folders that were searched."""
    if path.is_dir():
        return "the folder must contain `best.safetensors`, `last.safetensors`, or a single weights file"
    close = near_path(str(path), beside(".", place)) or near_path(str(path))
    if close is not None:
        return f"write `{close}`"
    here = "beside this file and " if place.file is not None else ""
    is_model = hub.NAME.fullmatch(str(path)) and len(path.parts) == 2 and not path.name.endswith(ENDINGS)
    named = f"; a model of the hub is `{{hub: {path}}}`" if is_model else ""
    return f"searched {here}in the current folder{named}"


def _in_folder(folder: Path) -> Path:
    for name in (BEST, LAST, *FOLDER_NAMES):
        if (folder / name).is_file():
            return folder / name
    for ending in ENDINGS:
        only = sorted(folder.glob(f"*{ending}"))
        if only:
            return only[0] if len(only) == 1 else folder / BEST
    return folder / BEST


def _is_finished_run_of(run: Path, config: Path) -> bool:
    known = record(run)
    named = known.get("config")
    same = isinstance(named, str) and Path(named).resolve() == config
    return known.get("status") == "finished" and same and best_checkpoint(run).is_file()


def check_source(checkpoint: Checkpoint) -> list[Diagnostic]:
    """The errors of a `checkpoint:` key that do not require reading weights; a missing run is not an error."""
    try:
        if checkpoint.hub is not None and is_awaited(checkpoint, ""):
            return []
        if checkpoint.config is None:
            weights_file(locate(checkpoint, ""), checkpoint)
        elif not beside(checkpoint.config, checkpoint.place).is_file():
            locate(checkpoint, "")
    except ConfigError as error:
        return list(error.diagnostics)
    except OSError as problem:
        name = checkpoint.path or checkpoint.config or checkpoint.hub
        message = f"`{name}` cannot be read: {why_not(problem)}"
        return [Diagnostic("FC0301", message, checkpoint.place)]
    return []


@contextmanager
def as_unicode(file: Path) -> Iterator[str]:
    """The path of a file, or of its descriptor if the path has bytes that are not UTF-8, which safetensors refuses.

    Raises `OSError`.
    """
    try:
        str(file).encode()
    except UnicodeEncodeError:
        with file.open("rb") as stream:
            yield f"/dev/fd/{stream.fileno()}"
    else:
        yield str(file)
