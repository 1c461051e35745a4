"""The folders in which configs and graphs are looked up, and the documents read from them.

A library belongs to one composition, or to one sweep: a file is read once, so that all jobs of a sweep see the same
text. It also inserts the graphs that a document names.
"""

from __future__ import annotations

import itertools
import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path as File

from flowconf.report import Advice, ConfigError, Diagnostic, Label, Place, Suggestion, nearest, shortened, suggest
from flowconf.report.origins import MAX_DEPTH, Document, MountOrigin, Node, Origins, Path, dotted
from flowconf.text.documents import SUFFIXES, read
from flowconf.text.merge import Kind, MergeRules, kind_at, kind_below
from flowconf.text.source import edited_text

CONFIG_FOLDERS = frozenset({"configs", "config", "conf"})
PROJECT_MARKS = ("pyproject.toml", ".git")
BUILT_IN = File(__file__).parent.parent / "configs"
PLAIN_PATH = re.compile(r"/?[\w.-]+(?:/[\w.-]+)*")
"""The valid names of graphs."""
MAX_COMPOSED = 60_000
"""The most values of a composed config."""


def config_roots(file: File) -> tuple[File, ...]:
    """Where the groups of a config are looked up: its folder, the folders above up to the config root, the built-ins.

    The config root is the nearest folder that is called `configs`, `config` or `conf`, or that holds a project. Where
    there is none, only the file's own folder is searched.
    """
    above = [file.parent]
    for folder in file.parents:
        if folder != file.parent:
            above.append(folder)
        if folder.name in CONFIG_FOLDERS or any((folder / mark).exists() for mark in PROJECT_MARKS):
            return (*above, BUILT_IN)
    return (file.parent, BUILT_IN)


class Library:
    """Config roots, and the documents read from them.

    Attributes:
        roots: the folders, first found wins.
        main: the absolute path of the file that is composed.
    """

    def __init__(self, main: File, rules: MergeRules) -> None:
        self.main = main
        self.rules = rules
        self.roots = config_roots(main)
        self._documents: dict[str, Document] = {}
        self._heads: dict[str, str] = {}

    def read(self, file: File) -> Document:
        """The document of a file, read once."""
        name = str(file)
        if name not in self._documents:
            self._documents[name] = read(name, flow=self.rules.flow)
        return self._documents[name]

    def head(self, file: File) -> str:
        """The first characters of a file, which hold its `# @package` line; read once."""
        name = str(file)
        if name not in self._heads:
            text = edited_text(name)
            with file.open(encoding="utf-8-sig", errors="replace") if text is None else StringIO(text) as lines:
                self._heads[name] = lines.read(512)
        return self._heads[name]

    def package_place(self, document: Document, package: str) -> Place | None:
        """The place of `package` in the `# @package` line of a document; None where that has another or is missing."""
        if document.file is None:
            return None
        for number, line in enumerate(self.head(File(document.file)).splitlines(), 1):
            found = re.match(rf"\s*#\s*@package\s+({re.escape(package)})\s*$", line)
            if found is not None:
                return Place(document.file, number, found.start(1) + 1, len(package))
        return None

    def documents(self) -> list[Document]:
        """The documents read so far, in that order."""
        return list(self._documents.values())

    def warnings(self) -> tuple[Diagnostic, ...]:
        """The warnings of everything that was read so far."""
        return tuple(warning for document in self.documents() for warning in document.warnings)

    def add_roots(self, folders: Iterable[File]) -> None:
        """Add folders after the config's own roots and before the built-ins."""
        *own, built_in = self.roots
        self.roots = (*own, *folders, built_in)

    def find(self, root: File, name: str) -> File | None:
        """The config called `name` below one root, or None; `..` does not lead out of the root.

        Raises `ConfigError`: FC0104 where two files have that name.
        """
        inside = posixpath.normpath(name)
        if inside.startswith(("..", "/")) or "\0" in inside:
            return None
        path = root / inside
        if path.suffix in SUFFIXES and _is_file(path):
            return path
        found = [path.with_name(path.name + suffix) for suffix in SUFFIXES]
        found = [file for file in found if _is_file(file)]
        if len(found) > 1:
            message = f"both `{found[0].name}` and `{found[1].name}` exist: keep one"
            raise ConfigError(Diagnostic("FC0104", message, Place(str(found[0]))))
        return found[0] if found else None

    def find_anywhere(self, name: str) -> File | None:
        """The config called `name` in the first root that has it."""
        return next((file for root in self.roots if (file := self.find(root, name)) is not None), None)

    def options(self, group: str) -> list[str]:
        """The names of the configs in a group, over all roots, without suffixes; none outside of the roots."""
        if posixpath.normpath(group).startswith(("..", "/")):
            return []
        names = {name for root in self.roots for name in _configs_below(opened(root / group))}
        return sorted(names)

    def groups(self) -> list[str]:
        """The names of the groups in all roots."""
        folders = (entry for root in self.roots for entry in _entries(root) if _is_folder(entry))
        return sorted({folder.name for folder in folders if has_configs(File(folder.path))})

    # graphs

    def expand(self, root: Node, chain: tuple[str, ...] = ()) -> Node:
        """`root` with every graph inserted that a step or body names.

        Raises `ConfigError`: FC0105 for a graph that cannot be found, FC0106 for a circle, FC0006 for too much.
        """
        return _Expansion(self).node(root, Kind.PLAIN, (), chain or (str(self.main),))

    def open_names(self, root: Node) -> list[Path]:
        """The paths of graphs that are named through an interpolation, which `expand` leaves alone."""
        return [
            path
            for path, node in Origins(root).items()
            if path[-1:] == (self.rules.mount,)
            and isinstance(node.value, str)
            and "${" in node.value
            and kind_at(root, path[:-1], self.rules) in (Kind.STEP, Kind.BODY)
        ]

    def graph_file(self, node: Node, path: Path) -> File:
        """The file that the text of `node` names."""
        name: str = node.value
        check_graph_name(name, node.place, path)
        source = File(node.place.file) if node.place.file is not None else self.main
        if File(name).suffix in SUFFIXES:
            file = File(os.path.normpath(source.parent / name))
            if not any(file.is_relative_to(root) for root in self.roots):
                raise self._no_graph(f"`{name}` is outside the config root", node, path, None)
            if _is_file(file):
                return file
            beside = [entry.name for entry in file.parent.iterdir()] if file.parent.is_dir() else []
            close = nearest(file.name, beside)
            meant = posixpath.join(posixpath.dirname(name), close) if close else None
            beside_it = Suggestion(meant, instead_of=name) if meant else None
            raise self._no_graph(f"there is no graph file `{shortened(name)}`", node, path, beside_it)
        folder = self.rules.mount
        found = self.find_anywhere(f"{folder}/{name}")
        if found is not None:
            return found
        advice = (
            suggest(name, self.options(folder), "graphs")
            or f"it is searched for as `{folder}/{name}.yaml` in the config folder"
        )
        raise self._no_graph(f"there is no graph `{shortened(name)}`", node, path, advice)

    def _no_graph(self, message: str, node: Node, path: Path, advice: Advice | None) -> ConfigError:
        return ConfigError(Diagnostic("FC0105", message, node.place, dotted(path), advice=advice))


class _Expansion:
    def __init__(self, library: Library) -> None:
        self.library = library
        self.count = 0
        self.files: dict[tuple[str | None, str], File] = {}

    def node(self, node: Node, kind: Kind, path: Path, chain: tuple[str, ...]) -> Node:
        """A mapping or list with the graphs that are named in it."""
        rules = self.library.rules
        if node.mount is not None:
            chain = (*chain, node.mount.file)
        if isinstance(node.value, list):
            return self.members(node, dict(enumerate(node.value)), Kind.PLAIN, path, chain)
        named = node.value.get(rules.mount)
        if named is not None and kind in (Kind.STEP, Kind.BODY) and _is_name(named.value):
            node = replace(node, value={**node.value, rules.mount: self.mounted(named, (*path, rules.mount), chain)})
        return self.members(node, node.value, kind, path, chain)

    def members(
        self, node: Node, members: dict[str, Node] | dict[int, Node], kind: Kind, path: Path, chain: tuple[str, ...]
    ) -> Node:
        """`node` with its members expanded; the same object where nothing changes."""
        rules = self.library.rules
        changed = {}
        for key, child in members.items():
            self.count += 1
            if self.count > MAX_COMPOSED or len(path) >= 2 * MAX_DEPTH:
                much = "deeper" if len(path) >= 2 * MAX_DEPTH else "larger"
                raise ConfigError(Diagnostic("FC0006", f"the composed config is {much} than allowed", child.place))
            if isinstance(child.value, dict | list):
                new = self.node(child, kind_below(kind, key, members, rules), (*path, key), chain)
                if new is not child:
                    changed[key] = new
        if not changed:
            return node
        whole = [(key, changed.get(key, child)) for key, child in members.items()]
        return replace(node, value=[child for _, child in whole] if isinstance(node.value, list) else dict(whole))

    def mounted(self, node: Node, path: Path, chain: tuple[str, ...]) -> Node:
        """The document of a graph in place of its name."""
        asked = (node.place.file, node.value)
        file = self.files[asked] = self.files.get(asked) or self.library.graph_file(node, path)
        if str(file) in chain:
            steps = tuple(Label(f"`{File(one).name}` is opened here", Place(one, 1, 1)) for one in chain)
            message = f"the graph `{node.value}` contains itself"
            raise ConfigError(Diagnostic("FC0106", message, node.place, dotted(path), labels=steps[-1:]))
        document = self.library.read(file).origins.root
        listed = document.child("defaults")
        if listed is not None:
            key = self.library.rules.mount
            message = f"`{node.value}` has a defaults list, which a graph named by `{key}:` cannot have"
            advice = f"mount it in the config's own defaults: `- {key}@...: {node.value}`"
            if File(node.value).suffix in SUFFIXES:
                advice = (
                    f"move the graph itself to `{key}/NAME.yaml`, and mount that with `{key}: NAME` here, and there "
                )
                advice += f"with `- {key}/NAME@...`"
            raise ConfigError(
                Diagnostic(
                    "FC0104", message, node.place, dotted(path), (Label("its defaults list", listed.key),), advice
                )
            )
        mount = MountOrigin(node.value, str(file), node.place)
        return replace(document, key=node.key, history=node.history, mount=mount)


def check_graph_name(name: str, place: Place, path: Path) -> None:
    """Refuse (FC0126) a graph whose name is not a path of plain names."""
    if not PLAIN_PATH.fullmatch(name):
        message = f"`{shortened(name)}` cannot be the name of a graph"
        advice = "write letters, digits, `_`, `-` and `.`, with `/` between folders, as in `vision/stem`"
        raise ConfigError(Diagnostic("FC0126", message, place, dotted(path), advice=advice))


def opened(folder: File) -> File:
    """A folder, which may be missing. Raises `ConfigError` where it cannot be read."""
    try:
        os.scandir(folder).close()
    except PermissionError:
        message = f"the folder `{folder.name}` cannot be read: permission denied"
        raise ConfigError(Diagnostic("FC0001", message, Place(str(folder)))) from None
    except OSError:  # missing, or not a folder
        pass
    return folder


def _is_file(path: File | os.DirEntry[str]) -> bool:
    try:
        return path.is_file()
    except PermissionError:
        if isinstance(path, File):
            opened(path.parent)
        return False
    except OSError:  # a name too long for the file system, or a link to itself
        return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _entries(folder: File) -> list[os.DirEntry[str]]:
    """The sorted entries of a folder, the first 10,000; none where it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return sorted(itertools.islice(found, 10_000), key=lambda entry: (_is_folder(entry), entry.name))
    except OSError:
        return []


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value) and "${" not in value and value != "???"


def _configs_below(folder: File, depth: int = 3) -> Iterator[str]:
    """The configs in a folder and below it, as `sub/name`."""
    for entry in _entries(folder):
        if _is_file(entry) and File(entry.name).suffix in SUFFIXES:
            yield File(entry.name).stem
        elif depth > 1 and _is_folder(entry) and not entry.name.startswith((".", "__")):
            for name in _configs_below(File(entry.path), depth - 1):
                yield f"{entry.name}/{name}"


def has_configs(folder: File) -> bool:
    """Whether a folder is a config group: it, or a folder in it, holds a config."""
    return next(_configs_below(folder), None) is not None
