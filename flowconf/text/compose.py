"""Composes a main config, the configs that its defaults list names, and the command line.

Hydra decides which files take part, in which order and at which package. Everything is then merged by `merge`; graphs
that are named by text are inserted as soon as the file that names them is merged, the command line comes last, and
interpolations are resolved at the end. Nothing is written, and the current folder does not change.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path as File
from typing import TYPE_CHECKING, Any

from flowconf.report import (
    ConfigError,
    Diagnostic,
    FlowconfError,
    Place,
    Reporter,
    Suggestion,
    listing,
    nearest,
    shortened,
    shown_path,
    suggest,
)
from flowconf.report.origins import Document, MountOrigin, Node, Origins, Path, dotted, from_plain
from flowconf.text import defaults, hydra_settings
from flowconf.text import overrides as words
from flowconf.text.defaults import Composed, Included
from flowconf.text.interpolate import resolve
from flowconf.text.library import Library, check_graph_name
from flowconf.text.merge import MISSING, MergeRules, drop, merge, nested, removals
from flowconf.text.output import write_output
from flowconf.text.overrides import Override
from flowconf.text.overruled import Overruled, overruled
from flowconf.text.quoting import quoted
from flowconf.text.setting import apply, may_name_graphs
from flowconf.text.source import absolute

if TYPE_CHECKING:
    from flowconf.text.hydra_bridge import Lists

SWEEP = "multirun.yaml"
"""In a sweep's folder: what Hydra writes before it composes the first job."""
MAX_ROUNDS = 8
"""How often a graph that an interpolation names may name another one by interpolation."""


@dataclass(frozen=True)
class Composition:
    """A composed config.

    Attributes:
        document: plain data without `defaults` and `hydra`, interpolations resolved.
        overrides: the words of the command line; in a sweep, as the sweeper writes them.
        choices: config group -> chosen option, a list of options, or None.
        file: the absolute path of the main file.
        overruled: values of the main file that a config group after `_self_` replaces.
    """

    document: Document
    overrides: tuple[str, ...]
    choices: dict[str, Any]
    file: str
    overruled: dict[Path, Node]


@dataclass(frozen=True)
class Turn:
    """The place of a job in its sweep: its number from 1, the number of all, if it is known, and the sweep's folder."""

    number: int
    total: int | None
    folder: File


Job = Callable[[Composition, Turn], float]
"""Runs a job, and returns the sweeper's objective."""
RunCheck = Callable[[Composition, str | None], object]
"""Checks a job's config, given the direction in which the sweeper optimises."""


def compose(file: str | os.PathLike[str], overrides: Sequence[str], rules: MergeRules) -> Composition:
    """The config composed of `file` and the words of the command line.

    Raises `ConfigError`: what is wrong with the files (FC00xx) and with how they are composed (FC010x).
    """
    return _Composer(_library(file, overrides, rules)).compose(overrides)


def with_graphs(document: Document, folder: str | os.PathLike[str], rules: MergeRules) -> Document:
    """A document made in Python, with the graphs that it names inserted; they are looked up from `folder`.

    Raises `ConfigError`: FC0105 for a graph that cannot be found, FC0106 for a circle.
    """
    library = Library(absolute(File(folder) / "document.yaml"), rules)
    return Document.of(library.expand(document.origins.root), document.file, library.warnings())


def multirun(
    file: str | os.PathLike[str],
    overrides: Sequence[str],
    rules: MergeRules,
    job: Job,
    folder: File,
    check: RunCheck | None = None,
) -> None:
    """Calls `job` for each combination of the values in `overrides`, by Hydra's sweepers and launchers.

    All jobs see the files as they are now. Every combination is composed, and held against `check` together with the
    direction in which the sweeper looks (None: in none), before the first job starts. The sweeper's own files go to
    `folder`; logging is left alone. What `job` returns is the sweeper's objective.

    Raises `ConfigError`: as `compose` does, for any of the combinations.
    """
    from flowconf.text import hydra_bridge

    composer = _Composer(_library(file, overrides, rules))
    typed = words.parse(overrides)
    composer.check_settings(typed)
    in_quotes = [quoted(one.typed) for one in typed]

    made = [one for one in (folder, folder.parent, folder.parent.parent) if not one.exists()]
    before = _record_before(folder / SWEEP)
    try:
        hydra_bridge.sweep(
            composer.library,
            folder,
            in_quotes,
            partial(_checked, composer, check),
            partial(_started, composer, job, folder),
        )
    except FlowconfError:
        _restore(folder / SWEEP, before, made)
        raise
    except hydra_bridge.HYDRA_ERRORS as error:
        _restore(folder / SWEEP, before, made)
        raise ConfigError(composer.explained(error, typed)) from error


def composing(
    file: str | os.PathLike[str], overrides: Sequence[str], rules: MergeRules
) -> Callable[[Sequence[str]], Composition]:
    """`compose` for many words, all of which see the files as they were when they were first read."""
    return _Composer(_library(file, overrides, rules)).compose


def sweep_folder(folder: str | os.PathLike[str], file: str | os.PathLike[str]) -> File:
    """A folder for one sweep of a config that does not exist yet: `folder`/<name of the config>/sweep_<time>."""
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    base = File(folder).absolute() / File(file).stem
    tries = (base / f"sweep_{stamp}{f'-{number}' if number else ''}" for number in itertools.count())
    return next(one for one in tries if not one.exists())


def _checked(composer: _Composer, check: RunCheck | None, task: Sequence[str]) -> Callable[[str | None], object]:
    """Compose one combination, before the first one runs; returns the check that needs the sweeper's direction."""
    composition = composer.compose(task)
    return partial(check, composition) if check is not None else lambda direction: None


def _started(composer: _Composer, job: Job, folder: File, task: Sequence[str], number: int, total: int | None) -> float:
    """Run one combination, perhaps in another process."""
    return job(composer.compose(task), Turn(number, total, folder))


class _Composer:
    def __init__(self, library: Library) -> None:
        self.library = library
        self.rules = library.rules

    @cached_property
    def lists(self) -> Lists:
        from flowconf.text.hydra_bridge import Lists

        return Lists(self.library)

    def compose(self, typed: Sequence[str]) -> Composition:
        overrides = words.parse(typed)
        words.refuse_sweeps(overrides)
        self.check_settings(overrides)
        chosen = [words.as_choice(one) for one in overrides if self.chooses(one)]
        composed = self.defaults_list(chosen)
        words.refuse_hydra(overrides)
        lost: list[Overruled] = []
        root = self.merged(composed, chosen, lost)
        for override in overrides:
            if not override.parsed.is_hydra_override() and not self.chooses(override):
                root = apply(root, override, self.rules, self.library.groups)
                root = self.library.expand(root) if may_name_graphs(override, self.rules) else root
        root = self.finished(root)
        lost = [value for value in lost if value.holds(root)]
        warnings = (*self.library.warnings(), *(value.warning() for value in lost))
        document = Document.of(root, str(self.library.main), warnings)
        choices = {**{one.parsed.get_key_element().lstrip("+~"): None for one in chosen}, **composed.choices}
        overruled = {value.path: value.written for value in lost}
        return Composition(document, tuple(typed), choices, str(self.library.main), overruled)

    def chooses(self, override: Override) -> bool:
        """Whether an override chooses options of a config group.

        Raises `ConfigError` (FC0101) where it can only be meant so, and there is no such group.
        """
        if self.lists.chooses(override.parsed):
            return True
        if override.parsed.package is not None or "/" in override.key:
            advice = suggest(override.key, self.library.groups(), "groups")
            message = f"there is no config group `{override.key}`"
            raise ConfigError(Diagnostic("FC0101", message, override.place, override.key, advice=advice))
        is_listed = isinstance(override.parsed.value(), str) and self.lists.lists_without_folder(override.key)
        if is_listed or self.adds_group(override):
            folders = listing([shown_path(root) for root in self.library.roots[:-1]])
            close = None if is_listed else nearest(override.key, self.library.groups())
            message = f"there is no config group `{override.key}`"
            missing = f"`{override.key}/{override.parsed.value()}.yaml` was searched for in {folders}"
            better = None if close is None else override.typed.replace(override.key, close, 1)
            advice = missing if better is None else Suggestion(better, override.typed, otherwise=missing)
            raise ConfigError(Diagnostic("FC0101", message, override.place, override.key, advice=advice))
        return False

    def adds_group(self, override: Override) -> bool:
        """Whether a word such as `+pivot=wide` can only be meant for a group: no key is called so, or similar."""
        is_graph = self.rules.flow in self.library.read(self.library.main).data
        is_top = "." not in override.key and override.parsed.is_add() and bool(self.rules.tops) and not is_graph
        known = [*self.rules.tops, *self.rules.synonyms]
        return is_top and isinstance(override.parsed.value(), str) and nearest(override.key, known) is None

    def check_settings(self, overrides: Sequence[Override]) -> None:
        """Refuse words that must not reach Hydra, and a main config that does not begin with itself."""
        defaults.check(self.library.read(self.library.main))
        defaults.check_main(self.library.read(self.library.main))
        notes = Reporter()
        for override in overrides:
            if hydra_settings.concerns(override.parsed):
                hydra_settings.check_word(override.parsed, override.place, notes)
        notes.stop_on_errors()

    def defaults_list(self, chosen: Sequence[Override]) -> Composed:
        """What the main file and the chosen options include; Hydra is imported only where it is needed."""
        if not chosen and (composed := defaults.alone(self.library)) is not None:
            return composed
        from flowconf.text import hydra_bridge

        try:
            return self.lists.compose([override.parsed for override in chosen])
        except ConfigError:
            raise
        except (*hydra_bridge.HYDRA_ERRORS, ValueError, OSError, RecursionError) as error:
            raise ConfigError(self.explained(error, chosen)) from error

    def explained(self, error: Exception, overrides: Sequence[Override]) -> Diagnostic:
        """An error of Hydra as a diagnostic with a place."""
        from flowconf.text import hydra_bridge

        if isinstance(error, RecursionError | hydra_bridge.TooManyLoads):
            return defaults.circle(self.library)
        missing = getattr(error, "missing_cfg_file", None)
        if missing:
            return defaults.missing_config(self.library, missing, getattr(error, "options", None), overrides)
        return defaults.explained(self.library, str(error), overrides, self.lists.options)

    def merged(self, composed: Composed, chosen: Sequence[Override], lost: list[Overruled]) -> Node:
        """Everything that the defaults list includes, in its order; overruled values of the main file go to `lost`."""
        main = self.library.read(self.library.main).origins.root
        root = Node({}, main.place, main.key)
        for included in composed.included:
            if included.package.partition(".")[0] != "hydra":
                new = self.embedded(included, chosen)
                self.check_meets(root, new, included)
                named = defaults.place_of(self.library, included.config_path, chosen)
                if included.package and named.word is None:
                    lost += overruled(root, new, included, named, main.place.file)
                root = self.library.expand(merge(root, new, self.rules))
        return root

    def check_meets(self, root: Node, new: Node, included: Included) -> None:
        """Refuse a file whose package is no section, and null for members that do not exist.

        Raises `ConfigError`: FC0104 for the package, FC0102 for the members; FC0123 for a section that is not a
        mapping.
        """
        top, own = included.package.partition(".")[0], included.document.origins.root
        if top and self.rules.tops and top not in self.rules.tops:
            raise ConfigError(self.misplaced(new, included, [key for key in own.value if key in self.rules.tops]))
        notes = Reporter()
        section = root.at((included.package,)) if included.package in self.rules.tops else None
        if section is not None and not isinstance(section.value, dict):
            message = f"`{included.package}` must be a mapping, got `{json.dumps(section.plain())}`"
            advice = "write its keys below it, or remove it"
            place = section.key if section.value is None else section.place
            notes.error("FC0123", message, place, path=included.package, advice=advice)
        for path, parent in removals(root, new, self.rules):
            node = new.at(path)
            assert node is not None
            close = suggest(str(path[-1]), [str(name) for name, _ in parent.members()], "members")
            notes.error(
                "FC0102",
                f"nothing to remove: `{dotted(path)}` does not exist",
                node.key,
                path=dotted(path),
                advice=close,
            )
        notes.stop_on_errors()

    def misplaced(self, new: Node, included: Included, meant: list[str]) -> Diagnostic:
        """A config whose package is no section; `meant` are the sections that it contains itself."""
        package, name = included.package, included.config_path
        header = self.library.package_place(included.document, package)
        if meant and meant != ["defaults"]:
            message = f"`{meant[0]}` is placed at `{package}.{meant[0]}`: the package of this file is `{package}`"
            advice = "write `# @package _global_` as the first line of this file"
            place = header or included.document.origins.key((meant[0],))
            return Diagnostic("FC0104", message, place, package, advice=advice)
        head, dot, rest = package.partition(".")
        close = nearest(head, self.rules.tops)
        advice = (
            f"set its package: `{name}@{self.rules.tops[0]}`, or `# @package SECTION` as the first line of its file"
        )
        advice = f"write `{close}{dot}{rest}` for `{package}`" if close else advice
        message = f"`{name}` is placed at `{package}`, which is not a section of a config"
        place = header or next(iter(new.value.values())).key
        return Diagnostic("FC0104", message, place, package, advice=advice)

    def embedded(self, included: Included, chosen: Sequence[Override]) -> Node:
        """The content of one config, below the keys of its package."""
        whole = included.document.origins.root
        kept = {key: child for key, child in whole.value.items() if key != "defaults"}
        if not included.package:
            kept.pop("hydra", None)
            return replace(whole, value=kept)
        place = defaults.place_of(self.library, included.config_path, chosen)
        path = tuple(included.package.split("."))
        mount = None
        if path[-1] == self.rules.mount:
            check_graph_name(included.config_path, place, path)
            mount = MountOrigin(included.config_path, str(included.document.file), place)
        return nested(path, replace(whole, value=kept, key=place, mount=mount))

    def finished(self, root: Node) -> Node:
        """`root` without removed sections, with the graphs that interpolations name, and then all of these resolved."""
        for name, section in list(root.members()):
            if name in self.rules.tops and section.value is None and section.history:
                root = drop(root, (name,), section.place, self.rules)
        texts = [node.value for node in root.all() if isinstance(node.value, str)]
        if not any(text == MISSING or "${" in text for text in texts):
            return root
        notes = Reporter()
        for path, node in Origins(root).items():
            if node.value == MISSING:
                key = dotted(path)
                notes.error("FC0122", f"`{key}` has no value yet", node.place, path=key, advice=f"write `{key}=...`")
        notes.stop_on_errors()
        for _ in range(MAX_ROUNDS):
            names = self.library.open_names(root)
            if not names:
                break
            root = self.library.expand(resolve(root, names))
        return resolve(root)


def _record_before(file: File) -> bytes | None:
    """What Hydra has written of a sweep before; None without it. Raises `ConfigError` if it leads elsewhere."""
    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise ConfigError(Diagnostic("FC0001", f"`{file.name}` is not a regular file", Place(str(file))))
    return file.read_bytes() if file.exists() else None


def _restore(file: File, before: bytes | None, made: Sequence[File]) -> None:
    """Undo what was written for a sweep that was refused, and remove the folders made for it, unless they have more."""
    with suppress(OSError):
        if before is None:
            file.unlink(missing_ok=True)
        else:
            write_output(file, before)
        for folder in made:
            folder.rmdir()


def _library(file: str | os.PathLike[str], overrides: Sequence[str], rules: MergeRules) -> Library:
    """The library of a main config, with the folders of `hydra.searchpath`."""
    library = Library(absolute(file), rules)
    section = library.read(library.main).origins.at(("hydra", "searchpath"))
    base = library.main.parent
    for override in words.parse([word for word in overrides if "hydra.searchpath" in word]):
        section, base = from_plain(override.parsed.value(), override.place), File.cwd()
    if section is not None and section.value is not None:
        library.add_roots(_searched(section, base))
    return library


def _searched(section: Node, base: File) -> Iterator[File]:
    """The folders that `hydra.searchpath` names, relative to `base`."""
    for item in section.value if isinstance(section.value, list) else [section]:
        name = str(item.value).removeprefix("file://")
        folder = base / name
        if not isinstance(section.value, list) or "://" in name or "${" in name:
            message = f"`{shortened(name)}` cannot be in `hydra.searchpath`, which is a list of folders"
            raise ConfigError(Diagnostic("FC0108", message, item.place, advice="write a folder"))
        if not folder.is_dir():
            message = f"the search path `{item.value}` is not a folder"
            raise ConfigError(Diagnostic("FC0104", message, item.place, advice="write a folder"))
        yield File(os.path.normpath(folder))
