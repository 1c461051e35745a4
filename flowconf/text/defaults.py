"""Defaults lists: their entries, where an entry was written, and Hydra's errors as diagnostics.

An entry is `_self_`, the name of a config, or one config group with its option: `- optimizer: adamw`,
`- graph@model.flow.letter.graph: letter`, `- override pivot: none`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flowconf.report import Diagnostic, Label, Place, Reporter, Suggestion, listing, nearest, shortened, suggest
from flowconf.report.origins import MAX_DEPTH, Document, Node
from flowconf.text import hydra_settings
from flowconf.text.library import Library
from flowconf.text.overrides import Override, listed

SELF = "_self_"
_PACKAGE = re.compile(r"\s*#\s*@")
"""A file that begins with a line such as `# @package _global_`."""
PACKAGES = ("_global_", "_group_", "_name_", "_here_")
"""What a part of a package may be besides a key of the config."""


@dataclass(frozen=True)
class Entry:
    """One entry of a defaults list. `group` is None for a plain config name, which is then the only option.

    `key` and `place` are the places of the group and of its option.
    """

    key: Place
    place: Place
    keywords: tuple[str, ...]
    group: str | None
    package: str
    options: tuple[str, ...]

    @property
    def is_self(self) -> bool:
        return self.group is None and self.options == (SELF,)

    def paths(self) -> list[str]:
        """The config paths that the entry names, relative to its own file's group unless they begin with `/`."""
        return [option if self.group is None else f"{self.group}/{option}" for option in self.options]


@dataclass(frozen=True)
class Included:
    """One config of the final defaults list, in the order of merging. `package` is where it goes, dotted."""

    config_path: str
    package: str
    parent: str | None
    document: Document


@dataclass(frozen=True)
class Composed:
    """The result of a main config and overrides: the configs to merge, and the chosen options."""

    included: tuple[Included, ...]
    choices: dict[str, Any]


def alone(library: Library) -> Composed | None:
    """A main config that includes no other file and no settings of Hydra; None where Hydra is needed."""
    main = library.read(library.main)
    if main.data.keys() & {"defaults", "hydra"} or _PACKAGE.match(library.head(library.main)):
        return None
    return Composed((Included(library.main.name, "", None, main),), {})


def entries(document: Document) -> list[Entry]:
    """The well-formed entries of a document's defaults list."""
    listing = document.origins.root.child("defaults")
    items = listing.value if listing is not None and isinstance(listing.value, list) else []
    return [entry for item in items if (entry := _entry(item)) is not None]


def _entry(item: Node) -> Entry | None:
    if isinstance(item.value, str):
        name, _, package = item.value.partition("@")
        return Entry(item.place, item.place, (), None, package, (name,))
    if not isinstance(item.value, dict) or len(item.value) != 1:
        return None
    key, value = next(iter(item.value.items()))
    options = value.plain()
    if not isinstance(options, str | list | None):
        return None
    *keywords, group = key.split(" ")
    name, _, package = group.partition("@")
    place = value.place if options is not None and not isinstance(options, list) else value.key
    return Entry(value.key, place, tuple(keywords), name, package, () if options is None else tuple(listed(options)))


def check(document: Document) -> None:
    """Refuse (FC0104) a list that Hydra cannot read, and (FC0108) settings that must not reach Hydra."""
    notes = Reporter()
    listing = document.origins.root.child("defaults")
    if listing is not None and listing.value is not None and not isinstance(listing.value, list):
        notes.error("FC0104", "`defaults` must be a list", listing.place, advice="write `[_self_, {GROUP: OPTION}]`")
    for item in listing.value if listing is not None and isinstance(listing.value, list) else ():
        _check_entry(item, notes)
    selves = [entry.place for entry in entries(document) if entry.is_self]
    for place in selves[1:]:
        labels = (Label("first listed here", selves[0]),)
        notes.error("FC0104", f"duplicate `{SELF}`", place, labels=labels, advice=f"remove one `{SELF}`")
    section = document.origins.root.child("hydra")
    if section is not None:
        hydra_settings.check_section(section, notes)
    notes.stop_on_errors()


def _check_entry(item: Node, notes: Reporter) -> None:
    entry = _entry(item)
    if entry is None or (entry.group is not None and not entry.group):
        advice = "write the name of a config, or `- group: option`"
        notes.error("FC0104", "not an entry of a defaults list", item.place, advice=advice)
        return
    for name in entry.options:
        if "." in name.split("/"):
            message = f"`{name}` is not the name of a config: names are relative to the config folders"
            notes.error("FC0104", message, entry.place, advice=Suggestion(posixpath.normpath(name), name))
    unknown = [word for word in entry.keywords if word not in ("override", "optional", "")]
    if unknown:
        message = f"`{unknown[0]}` is not a keyword of a defaults list"
        notes.error("FC0104", message, item.place, advice=suggest(unknown[0], ("override", "optional")))
    if entry.package.count(".") >= MAX_DEPTH:
        notes.error("FC0104", f"the package has more than {MAX_DEPTH} parts", item.place)
    parts = entry.package.split(".") if entry.package else []
    wrong = next((part for part in parts if not part or (part.startswith("_") and part not in PACKAGES)), None)
    if wrong is not None:
        message = f"the package `{entry.package}` has {f'an unknown part `{wrong}`' if wrong else 'an empty part'}"
        close = suggest(wrong, PACKAGES) if wrong else None
        notes.error("FC0104", message, entry.key, advice=close)
    if entry.is_self and entry.package:
        notes.error("FC0104", f"`{SELF}` takes no package", item.place, advice=f"write `- {SELF}`")
    named = posixpath.dirname(entry.options[0]) if entry.group is None else entry.group
    if hydra_settings.is_hydras(named) or hydra_settings.is_hydras(entry.package):
        hydra_settings.check_choice(named, entry.package, entry.key, notes)
        hydra_settings.check_options(named, dict.fromkeys(entry.options, entry.place), notes)
    value = next(iter(item.value.values())) if isinstance(item.value, dict) else None
    if value is not None and isinstance(value.value, list):
        for option in value.value:
            if not isinstance(option.value, str):
                notes.error("FC0104", "an option must be a string", option.place, advice="quote it")


def check_main(document: Document) -> None:
    """Refuse (FC0104) a main config whose members would not keep their order.

    With `_self_` after a group, members that the group changes would come first in the flow. A config that extends
    another one lists that one first instead, and may have `_self_` last.
    """
    found = [entry for entry in entries(document) if "override" not in entry.keywords]
    if not found or found[0].is_self or any(entry.group is None and not entry.is_self for entry in found):
        return
    listing = document.origins.root.child("defaults")
    assert listing is not None
    late = next((entry for entry in found if entry.is_self), None)
    labels = (Label("`_self_` belongs before this", found[0].key),) if late is not None else ()
    place = found[0].key if late is None else late.place
    notes = Reporter()
    message = f"`{SELF}` must come before the groups in the defaults list of a main config"
    advice = f"write `- {SELF}` as its first entry, so that members keep the order of this file"
    notes.error("FC0104", message, place, labels=labels, advice=advice)
    notes.stop_on_errors()


def place_of(library: Library, config_path: str, overrides: Sequence[Override], of_group: bool = False) -> Place:
    """Where `config_path` is requested: a word of the command line, an entry of a list, or the main file.

    With `of_group` it is the group's place in the entry, not the option's.
    """
    for override in reversed(overrides):
        value = override.parsed.value()
        if value is not None and config_path in [f"{override.key}/{option}" for option in listed(value)]:
            return override.place
    for document in library.documents():
        for entry in entries(document):
            if any(_ends_with(config_path, path) for path in entry.paths()):
                return entry.key if of_group else entry.place
    return Place(str(library.main), 1, 1)


def _ends_with(config_path: str, path: str) -> bool:
    path = posixpath.normpath(path.lstrip("/"))
    return config_path == path or config_path.endswith(f"/{path}") or posixpath.normpath(config_path).endswith(path)


def _group_place(library: Library, key: str, overrides: Sequence[Override]) -> tuple[Place, Override | None]:
    """Where the group `key` (perhaps with `@package`) was chosen."""
    for override in reversed(overrides):
        if override.parsed.get_key_element().lstrip("+~") == key or override.key == key:
            return override.place, override
    group = key.partition("@")[0]
    for document in library.documents():
        for entry in reversed(entries(document)):
            if entry.group is not None and _ends_with(group, entry.group):
                return entry.key, None
    main = library.read(library.main).origins
    return main.key(("defaults",)), None


def circle(library: Library) -> Diagnostic:
    """The configs that include each other, where Hydra does not terminate."""
    open_paths: list[str] = []
    done: set[str] = set()

    def follow(config_path: str) -> Entry | None:
        file = library.find_anywhere(config_path)
        if file is None or config_path in done:
            return None
        open_paths.append(config_path)
        folder = posixpath.dirname(config_path)
        for entry in entries(library.read(file)):
            for path in [] if entry.is_self else entry.paths():
                target = path[1:] if path.startswith("/") else posixpath.join(folder, path)
                if target in open_paths or library.find_anywhere(target) == library.main:
                    return entry
                if len(open_paths) < 500 and (closing := follow(target)) is not None:
                    return closing
        open_paths.pop()
        done.add(config_path)
        return None

    closing = follow(library.main.name)
    if closing is None:
        place = library.read(library.main).origins.key(("defaults",))
        return Diagnostic("FC0104", "the defaults lists include too many configs", place)
    name = closing.paths()[0]
    return Diagnostic(
        "FC0106",
        f"`{name}` includes itself through its defaults list",
        closing.place,
        advice="remove one of the entries",
    )


def missing_config(
    library: Library, config_path: str, options: Sequence[str] | None, overrides: Sequence[Override]
) -> Diagnostic:
    """A group or option that does not exist."""
    group, _, option = config_path.rpartition("/")
    of_group = not options and bool(group) and not library.options(group)
    place = place_of(library, config_path, overrides, of_group)
    if options and not option:
        listed_options = ", ".join(f"`{name}`" for name in options)
        advice = f"write one of {listed_options}, or `{group}=null` for none"
        return Diagnostic("FC0101", f"no option of `{group}` is given", place, group, (), advice)
    if posixpath.normpath(config_path).startswith(".."):
        return Diagnostic("FC0101", f"`{config_path}` is outside the config folders", place, group)
    if options:
        return Diagnostic(
            "FC0101", f"`{group}` has no option `{option}`", place, group, (), suggest(option, options, "options")
        )
    if not of_group:
        known = [name for name in library.options(group) if "/" not in name]
        known = [f"{group}/{name}" if group else name for name in known]
        option = config_path
        return Diagnostic(
            "FC0101", f"there is no config `{config_path}`", place, "", (), suggest(option, known, "configs")
        )
    return Diagnostic(
        "FC0101", f"there is no config group `{group}`", place, group, (), suggest(group, library.groups(), "groups")
    )


def _no_option(library: Library, group: str, override: Override) -> Diagnostic | None:
    """A word that names no option of a group that it may choose by `+`."""
    wanted, options = override.parsed.value(), library.options(group.partition("@")[0])
    if not options or not isinstance(wanted, str) or wanted in options:
        return None
    close = nearest(wanted, options)
    advice = f"write `+{group}={close}`" if close is not None else f"write `+{group}=<option>`; {listing(options)}"
    return Diagnostic("FC0101", f"`{group}` has no option `{wanted}`", override.place, group, (), advice)


def explained(library: Library, message: str, overrides: Sequence[Override], options: Any) -> Diagnostic:
    """An error of Hydra about the defaults lists or its own section, with its place."""
    found = re.search(r"Could not (override|delete) '([^']+)'", message)
    if found is not None and "defaults list" not in message and "Did you mean" not in message:
        place, _ = _group_place(library, found[2], overrides)
        return Diagnostic("FC0102", f"`{found[2]}` does not exist", place, found[2])
    if found is not None:
        return _not_listed(library, message, overrides, found[2].partition("=")[0], adds=found[1] == "override")
    found = re.search(r"You must specify '([^']+)'", message)
    if found is not None:
        place, _ = _group_place(library, found[1], overrides)
        names = ", ".join(f"`{name}`" for name in options(found[1].partition("@")[0]))
        advice = f"write `{found[1]}=<option>`; the options are {names}"
        return Diagnostic("FC0104", f"no option is chosen for `{found[1]}`", place, found[1], (), advice)
    found = re.search(r"Multiple values for ([^\s]+)\.|(\S+) appears more than once", message)
    if found is not None:
        key = found[1] or found[2]
        place, override = _group_place(library, key, overrides)
        typed = Suggestion(override.typed.lstrip("+"), override.typed) if override else None
        second = typed or f"write `- override {key}: ...` for the second"
        return Diagnostic("FC0104", f"`{key}` is chosen twice", place, key, (), second)
    place = library.read(library.main).origins.key(("defaults",))
    found = re.search(r"interpolation '([^']+)'", message)
    if found is not None:
        asking = [entry for document in library.documents() for entry in entries(document) if found[1] in entry.options]
        place = asking[0].place if asking else place
        advice = "write the option, or refer to another group of the list: `${GROUP}`"
        return Diagnostic("FC0104", f"`{found[1]}` cannot be resolved in a defaults list", place, "", (), advice)
    words = next((line.strip() for line in message.splitlines() if line.strip()), "it cannot be read")
    return Diagnostic("FC0104", f"invalid defaults list: {shortened(words)}", place)


def _not_listed(library: Library, message: str, overrides: Sequence[Override], key: str, adds: bool) -> Diagnostic:
    """A group that is in no defaults list, which a word may add where `adds`."""
    place, override = _group_place(library, key, overrides)
    if override is not None and (wrong := _no_option(library, key, override)) is not None:
        return wrong
    near = re.search(r"Did you mean to override (?:one of )?([^?]+)\?", message)
    if near is not None:
        ways = [near[1] if override is None else override.typed.replace(key, near[1].split(",")[0], 1)]
    else:
        close = nearest(key, library.groups())
        ways = [close] if close and close != key else []
    advice = [f"write `{way}`" for way in ways]
    if not ways and entries(library.read(library.main)):
        advice += [f"add `- {key}: null` after `- {SELF}`"]
    if near is None and override is not None and adds:
        advice += [f"write `+{override.typed}`"]
    message = f"the group `{key}` is not in any defaults list"
    return Diagnostic("FC0101", message, place, key, (), ", or ".join(advice))
