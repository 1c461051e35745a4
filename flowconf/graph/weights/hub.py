"""Weights of the Hugging Face hub: downloaded into the cache of `huggingface_hub`, and found there again."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

from flowconf.graph.weights.file_names import FOLDER_NAMES, INDEX
from flowconf.language.settings import Checkpoint
from flowconf.report import ConfigError, Diagnostic, MachineError, Place, first_line, read_json, why_not

NAME = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*", re.ASCII)
"""The name of a model."""
COMMIT = re.compile(r"[0-9a-f]{40}")
"""A revision that can never name another commit."""
MAIN = "main"
"""The revision without one."""


def cached(checkpoint: Checkpoint) -> Path | None:
    """The file of a checkpoint in the cache; None if it, or one of its shards, was not downloaded."""
    try:
        hub = client(checkpoint.place)
    except MachineError:
        return None
    for name in _candidates(checkpoint):
        found = hub.try_to_load_from_cache(checkpoint.hub, name, revision=checkpoint.revision or MAIN)
        if isinstance(found, str):
            file = Path(found)
            return file if all((file.parent / shard).is_file() for shard in _shards(file)) else None
    return None


def downloaded(checkpoint: Checkpoint) -> Path:
    """The file of a checkpoint, downloaded if the cache has none or an older one.

    Raises `ConfigError` and `MachineError`.
    """
    hub = client(checkpoint.place)
    known = cached(checkpoint)
    if known is not None and (checkpoint.sha256 is not None or COMMIT.fullmatch(checkpoint.revision or "")):
        return known
    names = _candidates(checkpoint)
    for name in names:
        try:
            file = Path(hub.hf_hub_download(checkpoint.hub, name, revision=checkpoint.revision))
            for shard in _shards(file):
                folder = name.rpartition("/")[0]
                hub.hf_hub_download(
                    checkpoint.hub, f"{folder}/{shard}" if folder else shard, revision=checkpoint.revision
                )
        except Exception as problem:  # noqa: BLE001 - of the client, its transport or the disk
            if _is_absent(problem, hub) and name != names[-1]:
                continue
            raise _refused(checkpoint, problem, hub, names) from None
        return file
    raise AssertionError(names)


def _candidates(checkpoint: Checkpoint) -> tuple[str, ...]:
    return FOLDER_NAMES if checkpoint.file is None else (checkpoint.file,)


def _shards(file: Path) -> list[str]:
    """The files beside an index; none for another file. A wrong index is reported when it is opened."""
    if not file.name.endswith(INDEX):
        return []
    try:
        shards = read_json(file)["weight_map"].values()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return [shard for shard in dict.fromkeys(shards) if isinstance(shard, str) and Path(shard).name == shard]


def client(place: Place) -> ModuleType:
    """The client of the hub. Raises `MachineError` without it."""
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        message, advice = "the hub requires huggingface_hub", "run `pip install 'flowconf[hub]'`"
        raise MachineError(Diagnostic("FC0601", message, place, advice=advice)) from None
    found: ModuleType = huggingface_hub
    return found


def upload(folder: Path, repo: str, private: bool, place: Place) -> str:
    """Upload the files of a folder to a model, which is created if there is none; returns its address.

    Raises `MachineError`.
    """
    hub = client(place)
    try:
        api = hub.HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=str(folder), commit_message="Add a run of flowconf")
    except Exception as problem:  # noqa: BLE001 - of the client, its transport or the disk
        status = getattr(getattr(problem, "response", None), "status_code", None)
        advice = "run `hf auth login` with a token that may write" if status in (401, 403) else None
        message = f"`{repo}` cannot be uploaded: {first_line(problem)}"
        raise MachineError(Diagnostic("FC0601", message, place, advice=advice)) from None
    return f"{api.endpoint}/{repo}"


def _is_absent(problem: Exception, hub: ModuleType) -> bool:
    """Whether the hub has no such file, and could be asked."""
    absent, unreached = hub.errors.EntryNotFoundError, hub.errors.LocalEntryNotFoundError
    return isinstance(problem, absent) and not isinstance(problem, unreached)


def _refused(checkpoint: Checkpoint, problem: Exception, hub: ModuleType, names: tuple[str, ...]) -> ConfigError:
    """The error for a download that failed, at the key that is at fault."""
    places, errors = dict(checkpoint.places), hub.errors
    place, advice = checkpoint.place, None
    message = f"`{checkpoint.hub}` cannot be downloaded: "
    if isinstance(problem, errors.RevisionNotFoundError):
        place, message = places["revision"], f"`{checkpoint.hub}` has no revision `{checkpoint.revision}`"
    elif isinstance(problem, errors.RepositoryNotFoundError):
        message, advice = f"the hub has no public `{checkpoint.hub}`", "for a private one, run `hf auth login`"
    elif isinstance(problem, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        message += "the hub cannot be reached, and the cache does not have it"
    elif isinstance(problem, errors.EntryNotFoundError):
        place = places["file"] if checkpoint.file is not None else place
        message = f"`{checkpoint.hub}` has no file {' or '.join(f'`{name}`' for name in names)}"
        advice = None if checkpoint.file is not None else "write `file: ...`"
    elif isinstance(problem, OSError):
        message += why_not(problem) if problem.errno else first_line(problem)
    else:
        message += first_line(problem)
    return ConfigError(Diagnostic("FC0301", message, place, advice=advice))
