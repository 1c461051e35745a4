"""One HTML file from data, scripts and styles.

The scripts are modules of plain JavaScript in this folder. They become one script, in which each module is a function
with its own names, in the order of their imports.
The content security policy allows that script and style by their hashes, and nothing else, not even a request.
Data is JSON in an element that does not run; scripts write every text of it as text.
"""

from __future__ import annotations

import json
import math
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from functools import cache, partial
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

from flowconf.report import printable

HERE = files(__package__)
NOTHING_ELSE = "base-uri 'none'; form-action 'none'"
OF_RUNS = ("dagre.min.js", "uPlot.iife.min.js"), ("page.css", "vendor/uPlot.min.css", "report.css")
"""The libraries and styles of pages with curves."""
IMAGES = "img-src data:"
"""Images that are part of the page."""
COMMENT = re.compile(r"^ *(?://.*|/\*\*(?:.|\n)*?\*/)\n", re.MULTILINE)
IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./(\w+)\.js";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:function\*?|const|class) (\w+))", re.MULTILINE)


def graph_page(data: Mapping[str, Any]) -> str:
    """The page of a graph, from the data of `draw/data.py`."""
    return page(data, data["graph"].get("name") or "graph", "graph.showGraph", ("dagre.min.js",), ("page.css",))


def pair_page(before: Mapping[str, Any], after: Mapping[str, Any], names: tuple[str, str]) -> str:
    """The page of two graphs side by side, each from the data of `draw/data.py`, under their `names`."""
    data = {"before": _apart_from(after, before), "after": after, "names": names}
    return page(data, " → ".join(names), "pair.showPair", ("dagre.min.js",), ("page.css",))


def report_page(data: Mapping[str, Any]) -> str:
    """The page of one or more runs, from the data of `train/runs/report_data.py`."""
    runs = data["runs"]
    title = runs[0]["name"] if len(runs) == 1 else f"{len(runs)} runs"
    return page(data, title, "report.showReport", *OF_RUNS, allowed=IMAGES)


def watch_page() -> str:
    """The page of watched runs, without data: it asks its server for them."""
    return page({}, "flowconf watch", "watch.showWatched", *OF_RUNS, allowed=f"{IMAGES}; connect-src 'self'")


def page(
    data: Mapping[str, Any],
    title: str,
    show: str,
    libraries: tuple[str, ...],
    styles: tuple[str, ...],
    allowed: str = "",
) -> str:
    """A page that calls `show`, a function of a module, with `data` and the element to fill.

    `allowed` are directives of its content security policy beside those for its script and style.
    """
    module, name = show.split(".")
    calls = f'{module}_js.{name}(JSON.parse(document.getElementById("data").textContent), document.body);'
    script = "\n".join([*(library(name) for name in libraries), *modules(module), calls])
    style = "\n".join(map(text, styles))
    policy = f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; {NOTHING_ELSE}"
    policy += f"; {allowed}" if allowed else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(printable(title))}</title>
<style>{style}</style>
</head>
<body>
<script type="application/json" id="data">{embedded(data)}</script>
<script type="module">{script}</script>
</body>
</html>
"""


def _apart_from(after: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """`before` without what is the same in `after`: members that are `same`, and None for lines and sources."""
    known = {member["id"]: member for member in _members(after["graph"])}

    def shortened(member: Mapping[str, Any]) -> dict[str, Any]:
        if member == known.get(member["id"]):
            return {"id": member["id"], "same": True}
        if "inside" not in member:
            return dict(member)
        return {**member, "inside": {**member["inside"], "members": [*map(shortened, member["inside"]["members"])]}}

    tables = {
        table: {name: None if one == after[table].get(name) else one for name, one in before[table].items()}
        for table in ("lines", "source", "accounts")
    }
    return {**before, **tables, "graph": shortened(before["graph"])}


def _members(whole: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield whole
    for member in whole.get("inside", {}).get("members", ()):
        yield from _members(member)


def embedded(data: Mapping[str, Any]) -> str:
    """`data` as JSON in ASCII that no HTML parser takes for markup."""
    return plain_json(data).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def plain_json(data: Mapping[str, Any]) -> str:
    """`data` as JSON that a browser reads: a number that is not finite is null."""
    as_text = partial(json.dumps, separators=(",", ":"), default=str, allow_nan=False)
    try:
        return as_text(data)
    except ValueError:
        return as_text(_finite(data))


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(one) for key, one in value.items()}
        case list() | tuple():
            return [_finite(one) for one in value]
    return value


def in_frame(page: str) -> str:
    """A page as an element of another page, such as a cell of a notebook, in a sandbox."""
    style = "width: 100%; height: 620px; border: 1px solid #8884; border-radius: 6px"
    return f'<iframe sandbox="allow-scripts" style="{style}" srcdoc="{escape(page)}"></iframe>'


@cache
def modules(name: str) -> tuple[str, ...]:
    """A module and all that it imports, each once, those that it imports first."""
    return tuple(_scoped(one) for one in dict.fromkeys(_order(name)))


def _order(name: str) -> Iterator[str]:
    for _, imported in IMPORT.findall(text(f"{name}.js")):
        yield from _order(imported)
    yield name


def _scoped(name: str) -> str:
    """A module without its comments as an object of its exports, which is called like the file."""
    module = COMMENT.sub("", text(f"{name}.js"))
    body = EXPORT.sub("", IMPORT.sub(r"const \1 = \2_js;", module))
    return f"const {name}_js = (() => {{\n{body}return {{ {', '.join(EXPORT.findall(module))} }};\n}})();"


@cache
def library(name: str) -> str:
    """A vendored library with its licence."""
    licence = (HERE / "vendor" / f"{name.partition('.')[0]}.LICENSE.txt").read_text(encoding="utf-8")
    code = (HERE / "vendor" / name).read_text(encoding="utf-8")
    return f"/*\n{licence.strip()}\n*/\n{re.sub(r'^//# sourceMappingURL=.*$', '', code, flags=re.MULTILINE).strip()}"


@cache
def text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
