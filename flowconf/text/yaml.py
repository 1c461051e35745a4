"""YAML 1.2 (core schema) to nodes, straight from the parser's events.

PyYAML scans and parses; nothing of its composer, resolver or constructors is used. Building from events needs no
recursion, shares what an alias repeats, and stops at the first value too many, so that hostile text costs little.
Keys are always texts. Tags are refused. What another YAML version would read differently is text here, with a warning.
Independent mistakes are gathered and raised together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, cast

import yaml

from flowconf.diagnostics import ConfigError, Diagnostic, Fix, Label, Place
from flowconf.text import yaml_slips
from flowconf.text.origins import MAX_DEPTH, MAX_VALUES, Node
from flowconf.text.source import Notes, Source, shown

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"(true|True|TRUE)|false|False|FALSE")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"([-+]?)\.(?:inf|Inf|INF)")
_NAN = re.compile(r"\.(?:nan|NaN|NAN)")
_MAX_DIGITS = 300

_LOOK_ALIKES = (
    (re.compile(r"yes|Yes|YES|on|On|ON"), lambda text: "true"),
    (re.compile(r"no|No|NO|off|Off|OFF"), lambda text: "false"),
    (re.compile(r"None|none|nil|NIL"), lambda text: "null"),
    (re.compile(r"[-+]?inf"), lambda text: text.replace("inf", ".inf")),
    (re.compile(r"nan|NaN"), lambda text: ".nan"),
    (re.compile(r"[-+]?(?=[0-9_]*_)[0-9][0-9_]*"), lambda text: text.replace("_", "")),
    (re.compile(r"[-+]?0[0-9]+"), lambda text: str(int(text))),
    (re.compile(r"[0-9]+(?::[0-5]?[0-9])+"), lambda text: ""),
)
"""Texts that look like something else, and what was probably meant."""

_ADVICE = (
    ("\\t", "indent with spaces: YAML allows no tabs there"),
    ("mapping values are not allowed", "quote a value that holds `: `, and check the indentation"),
    ("did not find expected key", "check the indentation and that quotes are closed"),
    ("found unexpected end of stream", "close the quote"),
    ("could not find expected ':'", "write `key: value`"),
    ("cannot start any token", "quote a value that begins with this sign"),
)


_CONTENT = re.compile(r"\s*[^\s#]")
_PROBLEMS = (
    (r"\\t|tab character", "a tab stands in the indentation"),
    ("mapping values are not allowed", "a key or a `: ` cannot stand here"),
    ("did not find expected key", "a key cannot stand here"),
    ("expected <block end>|expected block end", "a key cannot stand here"),
    (r"expected ',' or '}'", "a comma or `}` is missing"),
    (r"expected ',' or '\]'", "a comma or `]` is missing"),
    ("unexpected end of stream", "a quote is not closed"),
    ("could not find expected ':'", "a line is neither a key with its value nor a value"),
    ("expected node content", "a value is missing"),
    ("cannot start any token", "a value cannot begin with this sign"),
)
"""What the parser complains of, in words."""


def parse(source: Source) -> tuple[Node, tuple[Diagnostic, ...]]:
    """The tree of one YAML document, and warnings (FC0008).

    An empty text is an empty mapping.

    Raises:
        ConfigError: FC0002 to FC0007, all that can be found in one pass.
    """
    builder = _Builder(source)
    directives = re.findall(r"^%.*", source.text, re.MULTILINE)
    if len(directives) > 10:
        raise ConfigError(Diagnostic("FC0002", f"the text has {len(directives)} directives", source.place(0)))
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(source.text)
    try:
        while loader.check_event():
            builder.take(loader.get_event())
    except yaml.YAMLError as error:
        builder.syntax(error)
    finally:
        loader.dispose()
    builder.notes.stop_on_errors()
    root = builder.root or Node({}, source.place(0))
    return root, tuple(builder.notes.diagnostics)


_IGNORED = object()
_MERGE = object()


@dataclass
class _Frame:
    """A collection whose end has not come yet."""

    start: Any
    items: Any
    count: int
    """Values built before this collection began."""
    height: int = 0
    key: Any = None
    """The key that waits for its value: a text, `_MERGE`, `_IGNORED`, or None where a key comes next."""
    key_place: Place | None = None
    merged: set[str] = field(default_factory=set)
    cut: int = 0
    """Parentheses that a cut call has left open."""
    is_key: bool = False


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
        """Whether a piece of a call was told of, after which brackets do not match."""

    # events

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                place = self.place(event)
                self.stop("FC0002", "a second document starts here", place, "keep one document in a file")
        elif isinstance(event, yaml.ScalarEvent):
            self.scalar(event)
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
        node = Node(self.resolved(text, place) if plain else text, place)
        if event.anchor:
            self.anchors[event.anchor] = _Anchored(node)
        self.add(node, 0)

    def alias(self, event: Any) -> None:
        known, place = self.anchors.get(event.anchor), self.place(event)
        if known is None:
            self.stop("FC0002", f"no anchor `&{event.anchor}` comes before this alias", place)
        if known.node is None:
            self.stop("FC0005", f"the alias `*{event.anchor}` contains itself", place)
        if len(self.frames) + known.height > MAX_DEPTH:
            self.stop("FC0005", f"this alias makes the text deeper than {MAX_DEPTH} levels", place)
        self.grow(known.size, event)
        if self.expects_key():
            self.complex_key(place)
            return
        found = known.node
        self.add(Node(found.value, place), known.height)

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
        node = Node(frame.items, self.source.place(frame.start.start_mark.index, end))
        if frame.start.anchor:
            self.anchors[frame.start.anchor] = _Anchored(node, self.count - frame.count, frame.height)
        if not frame.is_key:
            self.add(node, frame.height)

    # building

    def add(self, node: Node, height: int) -> None:
        """Puts a finished value where it belongs."""
        if not self.frames:
            self.root = node
            return
        frame = self.frames[-1]
        frame.height = max(frame.height, height + 1)
        if isinstance(frame.items, list):
            frame.items.append(Node(node.value, node.place, node.place))
            return
        key, frame.key = frame.key, None
        if key is _MERGE:
            self.merge(frame, node)
        elif key is not _IGNORED:
            assert frame.key_place is not None
            frame.items[key] = Node(node.value, node.place, frame.key_place)
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
        frame.key, frame.key_place = _IGNORED, place
        if event.anchor:
            self.anchors[event.anchor] = _Anchored(Node(key, place))
        if (plain and self.is_cut(event, frame)) or frame.cut > 0:
            return
        if plain and _NULL.fullmatch(key):
            advice = "write a name before the `:`" if not key else f'quote it: `"{key}"`'
            self.notes.error("FC0002", "a key is empty" if not key else f"`{key}` cannot be a key", place, help=advice)
        elif plain and key == "<<":
            frame.key = _MERGE
        elif key in frame.items and key not in frame.merged:
            name = shown(key)
            first = Label(f"`{name}` stands here first", frame.items[key].key)
            advice = f"remove one `{name}`, or rename it"
            self.notes.error("FC0003", f"the key `{name}` stands twice", place, labels=(first,), help=advice)
        else:
            frame.key = key

    def complex_key(self, place: Place) -> None:
        if not any(frame.is_key for frame in self.frames):
            self.notes.error(
                "FC0002", "a key must be a plain name", place, help="quote a key that holds `{`, `[` or `*`"
            )
        self.frames[-1].key = _IGNORED

    def grow(self, size: int, event: Any) -> None:
        self.count += size
        if self.count > MAX_VALUES:
            code = "FC0005" if isinstance(event, yaml.AliasEvent) else "FC0006"
            self.stop(code, f"more than {MAX_VALUES:,} values, aliases expanded", self.place(event))

    # mistakes

    def is_cut(self, event: Any, frame: _Frame) -> bool:
        """Whether a plain text is a piece of a call that a comma has cut; tells so once for each call."""
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

    def report_unopened(self, event: Any) -> None:
        """A `)` without its `(`: of a call whose beginning is lacking, or instead of another bracket."""
        self.torn = True
        start, frame = event.start_mark.index + event.value.index(")"), self.frames[-1]
        advice = "write `]`" if isinstance(frame.items, list) else "remove it, or write `(` in front of the arguments"
        self.notes.error("FC0007", "`)` closes nothing", self.source.place(start, start + 1), help=advice)

    def report_cut(self, event: Any) -> None:
        self.torn = True
        start = event.start_mark.index
        call = self.whole_call(start)
        message = f"`{shown(event.value)}` is a piece of a call: inside braces or brackets a comma cuts it"
        if call is None:
            advice = 'inside { } or [ ], quote the call: `"Linear(1, 2)"`'
            self.notes.error("FC0007", message, self.place(event), help=advice)
            return
        quote = "'" if '"' in call else '"'
        text = f"{quote}{call}{quote}"
        place = self.source.place(start, start + len(call))
        self.notes.error("FC0007", message, place, help=f"write `{text}`", fix=Fix(place, text))

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

    def refuse_tag(self, event: Any) -> None:
        if event.tag is None:
            return
        short = shown(event.tag.replace("tag:yaml.org,2002:", "!!"))
        end = event.start_mark.index + len(short)
        advice = 'remove it; quote a text, as in `"012"`' if short in ("!!str", "!") else "remove it"
        place = self.source.place(event.start_mark.index, end)
        self.notes.error("FC0004", f"the YAML tag `{short}` is refused", place, help=advice)

    def resolved(self, text: str, place: Place) -> Any:
        """The value of a plain text by the core schema."""
        if _NULL.fullmatch(text):
            return None
        if found := _BOOL.fullmatch(text):
            return found.group(1) is not None
        if _INT.fullmatch(text):
            if len(text) > _MAX_DIGITS:
                self.notes.error("FC0002", f"a number of {len(text):,} digits", place, help="quote it, or shorten it")
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
                self.notes.warn("FC0008", f"`{text}` is a text", place, help=f'{other}: `"{text}"`')
                break
        return text

    def syntax(self, error: yaml.YAMLError) -> None:
        """A mistake that ends the reading, in words; a call that was cut before it is its cause."""
        if self.torn:
            return
        problem = str(getattr(error, "problem", None) or error).replace("\n", " ")
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        place = self.source.place(mark.index if mark is not None else 0)
        if "\t" in problem or "tab character" in problem:
            place = replace(place, length=1)
        line = self.source.line(mark.index) if mark is not None else ""
        inside = any(frame.start.flow_style for frame in self.frames) or re.search(r"[\[{].*\$\{", line)
        if "${" in line and inside and "expected" in problem:
            advice: str | None = 'inside { } or [ ], quote a value that holds `${...}`: `"${width}"`'
        elif line.lstrip(" ").startswith("\t"):
            problem, place, advice = r"\t", replace(place, length=1), _ADVICE[0][1]
        elif "could not find expected ':'" in problem and (run_on := re.match(r"\s*(\w+):(\S.*)", line)):
            advice = f"write a space behind the colon: `{run_on[1]}: {run_on[2].rstrip()}`"
        else:
            advice = next((text for sign, text in _ADVICE if sign in repr(problem)), None)
        begun, labels = self.begun(error), cast(tuple[Label, ...], ())
        if begun is not None and begun.line < place.line:
            is_end = place.line > len(self.source.text.rstrip().splitlines())
            labels = () if is_end else (Label("it is still open here", place),)
            place = begun
        words = next((words for sign, words in _PROBLEMS if re.search(sign, problem)), problem)
        if mark is not None and "mapping values are not allowed" in problem:
            words, place, advice = self.line_above(mark) or (words, place, advice)
        if mark is not None and place.line == mark.line + 1:
            slip = yaml_slips.find(problem, line, mark.column)
            start = mark.index - mark.column + (slip.start if slip is not None else 0)
            if slip is not None:
                words, place, advice = slip.words, self.source.place(start, start + slip.length), slip.help
        self.notes.error("FC0002", f"not valid YAML: {words}", place, labels=labels, help=advice)

    def line_above(self, mark: Any) -> tuple[str, Place, str | None] | None:
        """What the line above has to do with a key that cannot stand in this one, where that is the whole mistake."""
        lines = self.source.text[: mark.index].splitlines()
        above = next((n for n in reversed(range(len(lines) - 1)) if _CONTENT.match(lines[n])), None)
        if above is None or re.search(r":\s", lines[-1]):
            return None
        before, here = lines[above].split(" #")[0].rstrip(), self.source.line(mark.index)
        old, new = (len(text) - len(text.lstrip(" ")) for text in (before, here))
        if new == old and ":" not in before and not before.lstrip().startswith("- "):
            start = self.source.offset(above + 1, old + 1)
            place = self.source.place(start, start + len(before) - old)
            return f"`{shown(before.strip())}` has no `: `", place, "write `key: value`"
        if new > old and re.search(r":\s+[^\s|>]", before):
            key, owner = here.split(":")[0].strip(), before.split(":")[0].strip()
            start = self.source.offset(mark.line + 1, new + 1)
            words = f"`{shown(key)}` is indented deeper than `{shown(owner)}`, which has a value"
            return words, self.source.place(start, start + len(key)), "indent it like the line above"
        return None

    def begun(self, error: yaml.YAMLError) -> Place | None:
        """Where the quote, bracket or key began whose end is missing: that is where the mistake is."""
        context, mark = str(getattr(error, "context", None)), getattr(error, "context_mark", None)
        if mark is None or not re.search("quoted scalar|flow |simple key", context):
            return None
        rest = self.source.line(mark.index)[mark.column :].split(" #")[0] if "simple key" in context else "x"
        return self.source.place(mark.index, mark.index + len(rest.rstrip()))

    def stop(self, code: str, message: str, place: Place, advice: str | None = None) -> NoReturn:
        self.notes.error(code, message, place, help=advice)
        self.notes.stop_on_errors()
        raise AssertionError("an error was noted")

    def place(self, event: Any) -> Place:
        return self.source.place(event.start_mark.index, event.end_mark.index)
