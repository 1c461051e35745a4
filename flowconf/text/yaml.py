"""YAML 1.2 (core schema) to nodes, straight from the parser's events.

PyYAML scans and parses; its composer, resolver and constructors are not used. Building from events needs no recursion,
shares what an alias repeats, and stops at the first value beyond the limit, so that hostile files are cheap to refuse.
Keys are always strings. Tags are refused. What another YAML version reads differently is a string here, with a warning.
Independent mistakes are gathered and raised together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from flowconf.report import NOWHERE, Advice, ConfigError, Diagnostic, Label, Place, Suggestion, shortened
from flowconf.report.garbage import uncollected
from flowconf.report.origins import MAX_DEPTH, MAX_VALUES, Node
from flowconf.text.source import Notes, Source
from flowconf.text.yaml_errors import syntax_error

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"(true|True|TRUE)|false|False|FALSE")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"([-+]?)\.(?:inf|Inf|INF)")
_NAN = re.compile(r"\.(?:nan|NaN|NAN)")
_MAX_DIGITS = 300

_LOOK_ALIKES = (
    (re.compile(r"[-+]?inf"), lambda text: text.replace("inf", ".inf")),
    (re.compile(r"nan|NaN"), lambda text: ".nan"),
    (re.compile(r"[-+]?(?=[0-9_]*_)[0-9][0-9_]*"), lambda text: text.replace("_", "")),
    (re.compile(r"[-+]?0[0-9]+"), lambda text: str(int(text))),
    (re.compile(r"[0-9]+(?::[0-5]?[0-9])+"), lambda text: ""),
)
"""Strings that look like numbers, and what was probably meant. Words such as `yes` are reported by the key they are
written for, because they may be names."""
_NOT_TEXT = re.compile(
    "|".join(
        f"(?:{pattern.pattern})"
        for pattern in (_NULL, _BOOL, _INT, _FLOAT, _INFINITE, _NAN, *(pattern for pattern, _ in _LOOK_ALIKES))
    )
)
"""All of the above; most values are none of them."""

_MODULE = re.compile(r"[A-Z]\w*(?:\([^()\n]*\))?")
QUOTE = "inside { } or [ ], quote the whole call"
_MODULES = re.compile(rf"(?: *, *{_MODULE.pattern}(?= *[,}}]))+")
"""Modules after a call and a comma, where a chain was meant."""


def parse(source: Source) -> tuple[Node, tuple[Diagnostic, ...]]:
    """The tree of one YAML document, and warnings (FC0008).

    An empty text is an empty mapping.

    Raises `ConfigError`: FC0002 to FC0007, all that can be found in one pass.
    """
    builder = _Builder(source)
    directives = re.findall(r"^%.*", source.text, re.MULTILINE)
    if len(directives) > 10:
        raise ConfigError(Diagnostic("FC0002", f"the document has {len(directives)} directives", source.place(0)))
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(source.text)
    try:
        with uncollected():
            while loader.check_event():
                builder.take(loader.get_event())
    except yaml.YAMLError as error:
        builder.syntax(error)
    finally:
        loader.dispose()
    builder.notes.diagnostics += builder.swallowed
    builder.notes.stop_on_errors()
    root = builder.root or Node({}, source.place(0))
    return root, tuple(builder.notes.diagnostics)


_IGNORED = object()
_MERGE = object()


@dataclass
class _Frame:
    """A collection that is still open."""

    start: Any
    items: Any
    count: int
    """Values built before this collection began."""
    height: int = 0
    key: Any = None
    """The key whose value comes next: a string, `_MERGE`, `_IGNORED`, or None where a key comes next."""
    key_place: Place | None = None
    key_end: int = 0
    """The index of the character after it."""
    merged: set[str] = field(default_factory=set)
    cut: int = 0
    """Parentheses that a cut call has left open."""
    is_key: bool = False
    repeats: bool = False
    """Whether a duplicate key in it is reported already."""


@dataclass
class _Anchored:
    node: Node | None
    """None as long as the collection is open."""
    size: int = 1
    height: int = 0


class _Builder:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.notes = Notes()
        self.root: Node | None = None
        self.frames: list[_Frame] = []
        self.anchors: dict[str, _Anchored] = {}
        self.count = 0
        self.documents = 0
        self.torn = False
        """Whether a piece of a call was reported, after which brackets do not match."""
        self.swallowed: list[Diagnostic] = []
        """List entries that became part of a value: mistakes if the rest parses."""

    # events

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self.scalar(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                place = self.place(event)
                self.stop("FC0002", "a second document starts here", place, "keep one document per file")
        elif isinstance(event, yaml.AliasEvent):
            self.alias(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self.open(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self.close(event)

    def scalar(self, event: Any) -> None:
        plain = event.implicit[0] and event.tag is None
        self.refuse_tag(event)
        if self.expects_key():
            self.take_key(event, plain)
            return
        self.grow(1, event)
        text, place = event.value, self.place(event)
        if plain and self.frames and self.is_cut(event, self.frames[-1]):
            plain = False
        if plain and " - " in text and event.start_mark.line != event.end_mark.line:
            self.refuse_swallowed(event)
        if plain and not text:
            self.refuse_without_value(event)
        node = self.node(self.resolved(text, place) if plain else text, place)
        if event.anchor:
            self.anchors[event.anchor] = _Anchored(node)
        self.add(node, 0)

    def alias(self, event: Any) -> None:
        known, place = self.anchors.get(event.anchor), self.place(event)
        if known is None:
            self.stop("FC0002", f"the alias `*{event.anchor}` has no anchor before it", place)
        if known.node is None:
            self.stop("FC0005", f"the alias `*{event.anchor}` contains itself", place)
        if len(self.frames) + known.height > MAX_DEPTH:
            self.stop("FC0005", f"nested deeper than {MAX_DEPTH} levels with this alias", place)
        self.grow(known.size, event)
        if self.expects_key():
            self.complex_key(place)
            return
        found = known.node
        self.add(self.node(found.value, place), known.height)

    def open(self, event: Any) -> None:
        self.refuse_tag(event)
        self.grow(1, event)
        if len(self.frames) >= MAX_DEPTH:
            self.stop("FC0006", f"nested deeper than {MAX_DEPTH} levels", self.place(event))
        is_key = self.expects_key()
        if is_key:
            self.complex_key(self.place(event))
        items: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        self.frames.append(_Frame(event, items, self.count - 1, is_key=is_key))
        if event.anchor:
            self.anchors[event.anchor] = _Anchored(None)

    def close(self, event: Any) -> None:
        frame = self.frames.pop()
        flow = frame.start.flow_style
        end = event.end_mark.index if flow else None
        node = self.node(frame.items, self.source.place(frame.start.start_mark.index, end))
        if frame.start.anchor:
            self.anchors[frame.start.anchor] = _Anchored(node, self.count - frame.count, frame.height)
        if not frame.is_key:
            self.add(node, frame.height)

    # building

    def node(self, value: Any, place: Place) -> Node:
        """A value in the innermost collection: of a key, or an entry of a list."""
        if not self.frames:
            return Node(value, place)
        frame = self.frames[-1]
        return Node(value, place, place if isinstance(frame.items, list) else frame.key_place or NOWHERE)

    def add(self, node: Node, height: int) -> None:
        """Add a finished value to the innermost collection."""
        if not self.frames:
            self.root = node
            return
        frame = self.frames[-1]
        frame.height = max(frame.height, height + 1)
        if isinstance(frame.items, list):
            frame.items.append(node)
            return
        key, frame.key = frame.key, None
        if key is _MERGE:
            self.merge(frame, node)
        elif key is not _IGNORED:
            frame.items[key] = node
            frame.merged.discard(key)

    def merge(self, frame: _Frame, node: Node) -> None:
        """`<<: *a` or `<<: [*a, *b]`: members that the mapping itself does not give; earlier ones win."""
        sources = node.value if isinstance(node.value, list) else [node]
        if not all(isinstance(source.value, dict) for source in sources):
            self.notes.error("FC0002", "`<<` takes a mapping or a list of mappings", node.place)
            return
        for source in sources:
            for key, child in source.value.items():
                if key not in frame.items:
                    frame.items[key] = child
                    frame.merged.add(key)

    def expects_key(self) -> bool:
        return bool(self.frames) and isinstance(self.frames[-1].items, dict) and self.frames[-1].key is None

    def take_key(self, event: Any, plain: bool) -> None:
        frame, place, key = self.frames[-1], self.place(event), event.value
        frame.key, frame.key_place, frame.key_end = _IGNORED, place, event.end_mark.index
        if event.anchor:
            self.anchors[event.anchor] = _Anchored(Node(key, place))
        if (plain and self.is_cut(event, frame)) or frame.cut > 0:
            return
        if plain and _NULL.fullmatch(key):
            advice = "write a name before the `:`" if not key else f'quote it: `"{key}"`'
            self.notes.error("FC0002", "empty key" if not key else f"`{key}` cannot be a key", place, advice=advice)
        elif plain and key == "<<":
            frame.key = _MERGE
        elif key in frame.items and key not in frame.merged:
            self.repeated(key, place, frame)
        else:
            frame.key = key

    def repeated(self, key: str, place: Place, frame: _Frame) -> None:
        """A duplicate key: reported once for each mapping, at the empty key in between where there is one."""
        if frame.repeats:
            return
        frame.repeats = True
        first, name, keys = frame.items[key].key, shortened(key), list(frame.items)
        label = Label("first defined here", first)
        empty = [other for other in keys[keys.index(key) + 1 :] if frame.items[other].value is None]
        if empty and not frame.start.flow_style:
            above = shortened(empty[-1])
            message = f"duplicate key `{name}`: `{above}` is empty, and the keys after it are at the same level"
            advice = f"indent `{above}` less, or indent what belongs to it"
            labels: tuple[Label, ...] = (label, Label("and again here", place))
            self.notes.error("FC0003", message, frame.items[empty[-1]].key, labels=labels, advice=advice)
            return
        advice = f"remove one `{name}`, or rename it"
        self.notes.error("FC0003", f"duplicate key `{name}`", place, labels=(label,), advice=advice)

    def complex_key(self, place: Place) -> None:
        if not any(frame.is_key for frame in self.frames):
            self.notes.error(
                "FC0002", "a key must be a plain name", place, advice="quote a key that holds `{`, `[` or `*`"
            )
        self.frames[-1].key = _IGNORED

    def grow(self, size: int, event: Any) -> None:
        self.count += size
        if self.count > MAX_VALUES:
            code = "FC0005" if isinstance(event, yaml.AliasEvent) else "FC0006"
            self.stop(code, f"more than {MAX_VALUES:,} values, aliases expanded", self.place(event))

    # mistakes

    def is_cut(self, event: Any, frame: _Frame) -> bool:
        """Whether a plain string is a piece of a call that a comma splits; reported once for each call."""
        if not frame.start.flow_style:
            return False
        balance = event.value.count("(") - event.value.count(")")
        if balance == 0:
            return False
        if balance > 0:
            self.report_cut(event)
        elif frame.cut == 0:
            self.report_unopened(event)
        frame.cut = max(0, frame.cut + balance)
        return True

    def refuse_without_value(self, event: Any) -> None:
        """A part of a name that a comma splits inside braces: `{image, mask: ...}` has the keys `image` and `mask`."""
        frame = self.frames[-1] if self.frames else None
        if self.torn or frame is None or not frame.start.flow_style or not isinstance(frame.key, str):
            return
        if ":" not in self.source.text[frame.key_end : event.start_mark.index]:
            message = f"`{shortened(frame.key)}` has no value: a comma separates the keys inside braces"
            advice = "write `KEY: VALUE`, or quote a key with a comma"
            self.notes.error("FC0007", message, frame.key_place or NOWHERE, advice=advice)

    def report_unopened(self, event: Any) -> None:
        """A `)` without its `(`: the end of a call, or written instead of another bracket."""
        self.torn = True
        start, frame = event.start_mark.index + event.value.index(")"), self.frames[-1]
        advice: Advice = (
            Suggestion("]", instead_of=")")
            if isinstance(frame.items, list)
            else "remove it, or write `(` before the arguments"
        )
        self.notes.error("FC0007", "unmatched `)`", self.source.place(start, start + 1), advice=advice)

    def report_cut(self, event: Any) -> None:
        self.torn = True
        start = event.start_mark.index
        call = self.whole_call(start)
        message = f"`{shortened(event.value)}` is only part of a call: a comma splits it inside braces or brackets"
        if call is None:
            self.notes.error("FC0007", message, self.place(event), advice=QUOTE)
            return
        quote = "'" if '"' in call else '"'
        in_mapping = isinstance(self.frames[-1].items, dict)
        rest = _MODULES.match(self.source.text, start + len(call)) if in_mapping else None
        length = len(call) + (len(rest.group()) if rest is not None else 0)
        chain = [call, *(_MODULE.findall(rest.group()) if rest is not None else ())]
        text = f"{quote}{' >> '.join(chain)}{quote}"
        place = self.source.place(start, start + length)
        is_tuple = call.startswith("(") and len(chain) == 1
        write, others = (f"[{call[1:-1]}]", (text,)) if is_tuple else (text, ())
        advice = Suggestion(write, at=place, others=others, otherwise=QUOTE)
        self.notes.error("FC0007", message, place, advice=advice)

    def whole_call(self, start: int) -> str | None:
        """The call that begins at `start`, up to a comma or bracket outside of its parentheses, in one line."""
        pairs, waiting = {"(": ")", "[": "]", "{": "}"}, []
        line = self.source.text[start : start + 1000].split("\n", 1)[0]
        for index, sign in enumerate(line):
            if sign in pairs:
                waiting.append(pairs[sign])
            elif sign in ",}])":
                if not waiting and sign != ")":
                    return line[:index].rstrip()
                if sign != "," and (not waiting or waiting.pop() != sign):
                    return None
        return None

    def refuse_swallowed(self, event: Any) -> None:
        """A list entry that continues the value above it, because it is indented deeper than the other entries."""
        start = event.start_mark.index
        entry = re.search(r"\n *(- +[^\n#]*)", self.source.text[start : event.end_mark.index])
        if entry is not None:
            text = entry[1].rstrip()
            place = self.source.place(start + entry.start(1), start + entry.start(1) + len(text))
            deeper = "is indented deeper than the entry above it, and is read as part of it"
            message = f"not valid YAML: `{shortened(text)}` {deeper}"
            self.swallowed.append(Diagnostic("FC0002", message, place, advice="indent it like the line above"))

    def refuse_tag(self, event: Any) -> None:
        if event.tag is None:
            return
        short = shortened(event.tag.replace("tag:yaml.org,2002:", "!!"))
        end = event.start_mark.index + len(short)
        advice = 'remove it; quote a string, as in `"012"`' if short in ("!!str", "!") else "remove it"
        place = self.source.place(event.start_mark.index, end)
        self.notes.error("FC0004", f"the YAML tag `{short}` is not allowed", place, advice=advice)

    def resolved(self, text: str, place: Place) -> Any:
        """The value of a plain scalar by the core schema."""
        if not _NOT_TEXT.fullmatch(text):
            return text
        if _NULL.fullmatch(text):
            return None
        if found := _BOOL.fullmatch(text):
            return found.group(1) is not None
        if _INT.fullmatch(text):
            if len(text) > _MAX_DIGITS:
                self.notes.error(
                    "FC0002", f"a number with {len(text):,} digits", place, advice="quote it, or shorten it"
                )
                return text
            return int(text, 0)
        if _FLOAT.fullmatch(text):
            return float(text)
        if found := _INFINITE.fullmatch(text):
            return float(f"{found.group(1)}inf")
        if _NAN.fullmatch(text):
            return float("nan")
        for pattern, meant in _LOOK_ALIKES:
            if pattern.fullmatch(text):
                other = f"write `{meant(text)}`, or quote it" if meant(text) else "quote it"
                self.notes.warn("FC0008", f"`{text}` is read as a string", place, advice=f'{other}: `"{text}"`')
                break
        return text

    def syntax(self, error: yaml.YAMLError) -> None:
        """A mistake at which parsing stops, unless a piece of a call before it is the cause."""
        if not self.torn:
            self.swallowed.clear()
            inside = any(frame.start.flow_style for frame in self.frames)
            self.notes.diagnostics.append(syntax_error(self.source, error, inside))

    def stop(self, code: str, message: str, place: Place, advice: str | None = None) -> NoReturn:
        self.notes.error(code, message, place, advice=advice)
        self.notes.stop_on_errors()
        raise AssertionError("an error was noted")

    def place(self, event: Any) -> Place:
        return self.source.place(event.start_mark.index, event.end_mark.index)
