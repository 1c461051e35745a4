"""Saves and loads the weights of a subtree of a graph, with a report of every tensor on both sides.

Tensors are saved as safetensors, never as a pickle; a `.pt` file is read with `weights_only`. Only the required tensors
of a safetensors file are read from disk.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

import torch
from torch import Tensor, nn

from flowconf.graph.runtime import adapted_parts
from flowconf.graph.sharded import like
from flowconf.graph.weights.files import save_tensors
from flowconf.graph.weights.reading import TensorFile, opened
from flowconf.graph.weights.renames import ANY, renamed, with_any
from flowconf.graph.weights.sources import NOT_A_WEIGHT, skipped_runs, weights_file
from flowconf.graph.weights.structural_hash import structural_hash
from flowconf.language.paths import join
from flowconf.language.plan import GraphPlan
from flowconf.language.settings import Checkpoint
from flowconf.report import (
    Advice,
    ConfigError,
    Diagnostic,
    Place,
    Reporter,
    counted,
    dtype_name,
    listing,
    shown_path,
    suggest,
)

EMPTY = '""'
FEW = 4
"""The names that a message lists."""
CHOICES = {"mismatched": ("error", "ignore")} | dict.fromkeys(("missing", "unused"), ("error", "warn", "ignore"))


def as_key(key: str, value: str | Mapping[str, str]) -> str:
    """A key of a `checkpoint:` with its value."""
    if isinstance(value, Mapping):
        value = f"{{{', '.join(f'{old or EMPTY}: {new or EMPTY}' for old, new in value.items())}}}"
    return f"{key}: {value}"


def as_argument(key: str, value: str | Mapping[str, str]) -> str:
    """The same as an argument of `Graph.load`."""
    return f"{'source_at' if key == 'at' else key}={json.dumps(value)}"


@dataclass(frozen=True)
class Request:
    """A file or folder of weights, and how to load them."""

    path: str
    how: Checkpoint = field(default_factory=Checkpoint)
    written: Callable[[str, str | Mapping[str, str]], str] = as_key
    """A key with a value, as it is written where these weights are asked for."""

    @property
    def place(self) -> Place:
        """The place of the source."""
        return self.how.place

    @property
    def start(self) -> str:
        """The prefix of the names of the tensors in the source, if only a part is loaded."""
        return f"{self.how.at}." if self.how.at else ""

    def place_of(self, key: str) -> Place:
        """The place of a key, or else of the source."""
        return dict(self.how.places).get(key, self.place)


@dataclass
class WeightReport:
    """The report of one load. Names are those of the target, `unused` ones those of the source; `str()` sums up."""

    source: str
    at: str
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    cast: list[tuple[str, str, str]] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)
    """Further sets of tensors in the file, such as moving averages, and their sizes; they are not read."""
    skipped: list[str] = field(default_factory=list)
    """Of a folder of runs: the newer runs without such weights."""

    def __str__(self) -> str:
        first, *others = self._lines()
        loaded = (f"  {prefix}: {count} loaded" for prefix, count in _by_prefix(self.loaded))
        return "\n".join([first, *loaded, *others])

    def brief(self) -> str:
        """The report without the paths of what was loaded."""
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        where = f"`{self.at}`" if self.at else "the graph"
        lines = [f"weights of {where} from {shown_path(self.source)}: {counted(len(self.loaded), 'tensor')} loaded"]
        lines += [f"  {line}" for line in self.skipped]
        lines += [f"  {prefix}: {count} missing in the file" for prefix, count in _by_prefix(self.missing)]
        lines += [f"  {prefix}: {count} in the file, not used" for prefix, count in _by_prefix(self.unused)]
        lines += [f"  {name}: {list(mine)} here, {list(theirs)} in the file" for name, mine, theirs in self.mismatched]
        lines += [
            f"  {path}: {count} in the file, another set, which `at: {path}` loads"
            for path, count in self.others.items()
        ]
        lines += [f"  {name}: cast from {old} to {new}" for name, old, new in self.cast]
        return lines


def weights_in(file: TensorFile) -> list[str]:
    """The names of the weights in a file, without other tensors."""
    return [name for name in file.names if not name.startswith(NOT_A_WEIGHT)]


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and persistent buffers below `module`; shared ones are listed once, with their first name."""
    return {names[0]: tensor for tensor, names in _names_of(module).items()}


def _names_of(module: nn.Module) -> dict[Tensor, list[str]]:
    """The parameters and persistent buffers below `module`, each with all its names."""
    found: dict[Tensor, list[str]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor):
            found.setdefault(tensor, []).append(name)
    return found


def save(module: nn.Module, plan: GraphPlan | None, file: Path, metadata: Mapping[str, str]) -> None:
    """Write the tensors below `module` to `file`, atomically. Raises `OSError`."""
    save_tensors(file, tensors_of(module), {**metadata, **texts_of(plan)})


def save_some(module: nn.Module, some: Iterable[Tensor], file: Path, metadata: Mapping[str, str]) -> None:
    """Write some of the tensors below `module` to `file`, with their names there. Raises `OSError`."""
    wanted = {id(tensor) for tensor in some}
    save_tensors(file, {name: one for name, one in tensors_of(module).items() if id(one) in wanted}, metadata)


def texts_of(plan: GraphPlan | None) -> dict[str, str]:
    """The metadata of a file with the weights of a graph: its document, and its structural hash."""
    if plan is None:
        return {}
    texts = {"graph": json.dumps(plan.document, default=str)}
    with suppress(ConfigError):  # a module from outside the document has no structure
        texts["hash"] = structural_hash(plan)
    return texts


def check(module: nn.Module, request: Request, at: str = "") -> WeightReport:
    """The report that `load` would give, from the header of the file, without loading tensors. Raises `ConfigError`."""
    file = _checked_file(request)
    with opened(file, request.place, "meta", request.how.at) as found:
        return _Comparison(found, file, module, request, at).report


def load(module: nn.Module, request: Request, at: str = "") -> WeightReport:
    """Load weights into `module` at the path `at`. Raises `ConfigError`, and then leaves the module unchanged."""
    for key, choices in CHOICES.items():
        if getattr(request.how, key) not in choices:
            *others, last = (f"`{choice}`" for choice in choices)
            message = f"`{key}` must be {', '.join(others)} or {last}, got `{getattr(request.how, key)}`"
            raise ConfigError(Diagnostic("FC0123", message, request.place, at))
    file = _checked_file(request)
    with opened(file, request.place, at=request.how.at) as found:
        compared = _Comparison(found, file, module, request, at)
        ready, report = compared.tensors(), compared.report
        report.cast += [
            (name, dtype_name(new.dtype), dtype_name(old.dtype)) for name, old, new in ready if old.dtype != new.dtype
        ]
        with torch.no_grad():
            for _, old, new in ready:
                old.copy_(like(old, new))
    return report


class _Comparison:
    """The tensors of a file and of a module, by name. Raises `ConfigError` if they do not fit."""

    def __init__(self, found: TensorFile, file: Path, module: nn.Module, request: Request, at: str) -> None:
        self.found, self.request, self.at, self.reporter = found, request, at, Reporter()
        self.names = weights_in(found)
        below = [name for name in self.names if name.startswith(request.start)]
        self.mapping = self._renamed(below)
        """Target name -> source name."""
        self.again = _one_name_each(self.mapping, module)
        """The sources of a tensor with several names, the used one and another one."""
        self.target = _without_new(tensors_of(module), self.mapping, module)
        self.report = report = WeightReport(str(file), at, others=dict(found.others))
        report.skipped = skipped_runs(request.path, file, request.how.step)
        used = {source for _, source in self.again}
        used |= {self.mapping[name] for name in self.target if name in self.mapping}
        report.unused = [name for name in below if name not in used]
        report.missing = [name for name in self.target if name not in self.mapping]
        there = [(name, tuple(one.shape)) for name, one in self.target.items() if name in self.mapping]
        shapes = [(name, mine, found.shape_of(self.mapping[name])) for name, mine in there]
        report.loaded = [name for name, mine, theirs in shapes if mine == theirs]
        report.mismatched = [(name, mine, theirs) for name, mine, theirs in shapes if mine != theirs]
        self._judge()

    def tensors(self) -> list[tuple[str, Tensor, Tensor]]:
        """The names of the tensors to load, with the values here and in the file.

        Raises `ConfigError` if the file has different values for the names of one tensor.
        """
        ready = [(name, self.target[name], self.found.read(self.mapping[name])) for name in self.report.loaded]
        for first, other in self.again:
            if not torch.equal(self.found.read(first), self.found.read(other)):
                file = shown_path(self.request.path)
                message = f"`{first}` and `{other}` are one parameter here, but differ in `{file}`"
                advice = "use weights in which they are equal, or give each its own: without `tie` or `reuse`"
                raise ConfigError(Diagnostic("FC0209", message, self.request.place, self.at, advice=advice))
        return ready

    def _renamed(self, names: list[str]) -> dict[str, str]:
        """Target name -> source name, after `rename`; a renamed tensor replaces one that has the name in the file.

        Raises `ConfigError` for a prefix of `rename` without effect, and for two tensors that get the same name.
        """
        kept, given, used = dict[str, str](), dict[str, str](), set[str]()
        request, reporter = self.request, self.reporter
        for old, new in request.how.rename:
            if new.split(".").count(ANY) > old.split(".").count(ANY):
                message = f"`{new}` of `rename` has more `*` than `{old}`"
                advice = "each `*` of the new prefix is one of the old prefix, in their order"
                reporter.error("FC0302", message, request.place_of(f"rename.{old}"), path=self.at, advice=advice)
        reporter.stop_on_errors()
        start = len(request.start)
        for name in names:
            prefix, inner = renamed(name[start:], request.how.rename)
            if prefix is None:
                kept[inner] = name
                continue
            if inner in given:
                message = f"`{given[inner]}` and `{name}` are both renamed to `{inner}`"
                place, advice = request.place_of(f"rename.{prefix}"), "rename one of them, or give them different names"
                reporter.error("FC0302", message, place, path=self.at, advice=advice)
            given[inner] = name
            used.add(prefix)
        for old, _ in request.how.rename:
            if names and old and old not in used:
                self._report_unused(old, [name[start:] for name in names])
        reporter.stop_on_errors()
        return kept | given

    def _report_unused(self, old: str, names: list[str]) -> None:
        """Report a prefix of `rename` that applies to no tensor."""
        before = renamed(old, self.request.how.rename)[0]
        advice: Advice | None = f"write `{old}` before `{before}`"
        message = f"`{old}` of `rename` has no effect: `{before}` before it renames the same tensors"
        if before == old:
            if any(renamed(name, [(old, "")])[0] is not None for name in names):  # longer prefixes have taken them
                return
            message = f"no tensor in the file has the prefix `{old}` of `rename`"
            parts = [name.split(".") for name in names]
            prefixes = dict.fromkeys(".".join(one[:count]) for one in parts for count in range(1, len(one) + 1))
            advice = suggest(old, list(prefixes), "prefixes")
        place = self.request.place_of(f"rename.{old}")
        self.reporter.error("FC0302", message, place, path=self.at, advice=advice)

    def _judge(self) -> None:
        """Report missing, unused and mismatched tensors."""
        report, request, reporter, target = self.report, self.request, self.reporter, self.target
        file = shown_path(report.source)
        where = f"`{report.at}`" if report.at else "the graph"
        strict = request.how.mismatched == "error"
        if not report.loaded and target and not (report.mismatched and strict):
            part = f" below `{request.how.at}`" if request.how.at else ""
            message = f"nothing in `{file}`{part} matches {where}: 0 of {len(target)} tensors"
            advice = self._would_match()
            if request.how.at and set(self.names) & set(target):
                advice = f"remove `{request.written('at', request.how.at)}`: the names in the file match without it"
            place = request.place_of("at") if request.how.at else request.place
            reporter.error("FC0302", message, place, path=report.at, advice=advice)
            reporter.stop_on_errors()
        if report.mismatched and strict:
            (name, mine, theirs), *others = report.mismatched
            message = f"`{join(report.at, name)}` has shape {list(mine)}, but {list(theirs)} in `{file}`"
            message += f"; also of another shape: {counted(len(others), 'tensor')}" if others else ""
            advice = f"write `{request.written('mismatched', 'ignore')}` to keep the values that they have here"
            reporter.error("FC0305", message, request.place, path=join(report.at, name), advice=advice)
        if report.missing and request.how.missing == "error":
            message = f"{_counted(report.missing, f'of {where}')} not in `{file}`: {listing(report.missing, FEW)}"
            accepted = f"write `{request.written('missing', 'warn')}` to keep their current values"
            advice = self._would_rename() or accepted
            reporter.error("FC0303", message, request.place, path=report.at, advice=advice)
        if report.unused and request.how.unused == "error":
            message = f"{_counted(report.unused, f'of `{file}`')} not used: {listing(report.unused, FEW)}"
            advice = f"write `{request.written('unused', 'ignore')}` to accept that"
            reporter.error("FC0304", message, request.place, path=report.at, advice=advice)
        reporter.stop_on_errors()

    def _would_match(self) -> str | None:
        """The advice for a source whose names do not match those of the target."""
        target, names, request = self.target, self.names, self.request
        pairs = ((name, f".{wanted}") for name in names for wanted in target)
        if counts := Counter(name.removesuffix(inner) for name, inner in pairs if name.endswith(inner)):
            ((best, number),) = counts.most_common(1)
            count = f"({number} of {len(target)} would match)"
            part = f"add `{request.written('at', best)}` {count}"
            is_whole = request.how.mismatched == "ignore" and not self.at  # then a part cannot be selected
            return f"save the weights without `{best}.` in their names {count}" if is_whole else part
        shorter = {name.split(".", 1)[1] for name in target if "." in name}
        heads = {name.split(".", 1)[0] for name in target if "." in name}
        if len(heads) == 1 and shorter & set(names):
            head = next(iter(heads))
            renamed = request.written("rename", {"": head})
            return f"add `{renamed}` ({len(shorter & set(names))} of {len(target)} would match)"
        deeper = {wanted.removesuffix(f".{name}") for name in names for wanted in target if wanted.endswith(f".{name}")}
        if deeper:
            return f"load it into `{min(deeper, key=lambda prefix: (prefix.count('.'), prefix))}` instead"
        return f"the file has {listing(names, FEW)}"

    def _would_rename(self) -> str | None:
        """The `rename` of a prefix that maps most of the missing tensors to unused ones."""
        missing, spare = self.report.missing, [name for name in self.mapping if name not in self.target]
        wanted, prefixes = set(missing), [_prefixes(name, missing[0]) for name in spare]
        counts = {}
        for pair in sorted(filter(None, prefixes), key=lambda pair: len(pair[1]))[:8]:
            for one in (pair, with_any(*pair)):
                counts[one] = sum(renamed(name, [one])[1] in wanted for name in spare)
        if not counts:
            return None
        (old, new), count = max(counts.items(), key=lambda item: item[1])
        return f"add `{self.request.written('rename', {old: new})}` ({count} of {len(missing)} would match)"


def _one_name_each(mapping: dict[str, str], module: nn.Module) -> list[tuple[str, str]]:
    """Leave one source for a tensor with several names, under its first name; gives it with each other source."""
    again = []
    for names in _names_of(module).values():
        sources = [mapping.pop(name) for name in names if name in mapping]
        if sources:
            mapping[names[0]] = sources[0]
            again += [(sources[0], source) for source in sources[1:]]
    return again


def _without_new(target: dict[str, Tensor], mapping: Mapping[str, str], module: nn.Module) -> dict[str, Tensor]:
    """The tensors to load: without those of adapters, if the source has none of these."""
    above = tuple(f"{join(path, kind)}." for path, _, kind in adapted_parts(module))
    added = {name for name in target if name.startswith(above)} if above else set()
    return target if added & mapping.keys() else {name: one for name, one in target.items() if name not in added}


def _checked_file(request: Request) -> Path:
    """The file of a request, which has its digest. Raises `ConfigError`."""
    file = weights_file(request.path, request.how)
    if request.how.sha256 is not None:
        _check_digest(file, request)
    return file


def _check_digest(file: Path, request: Request) -> None:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != request.how.sha256:
        message = f"`{shown_path(file)}` has the SHA-256 digest {digest}, not {request.how.sha256}"
        place, advice = request.place_of("sha256"), "use the right file, or change `sha256`"
        raise ConfigError(Diagnostic("FC0306", message, place, advice=advice))


def _counted(names: list[str], of: str) -> str:
    return f"{counted(len(names), 'tensor')} {of} {'is' if len(names) == 1 else 'are'}"


def _prefixes(name: str, wanted: str) -> tuple[str, str] | None:
    """The prefixes of two names before their common suffix, or None without one."""
    old, new = name.split("."), wanted.split(".")
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(reversed(old), reversed(new), strict=False)))
    return (".".join(old[:-common]), ".".join(new[:-common])) if common else None


def _by_prefix(names: list[str]) -> Iterable[tuple[str, int]]:
    return Counter(name.split(".")[0] for name in names).items()
