"""TOML to the same data as `tomllib`, with places, and to the same document as YAML."""

from __future__ import annotations

import json
import tomllib
from datetime import date, time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowconf.report import ConfigError, Diagnostic
from flowconf.report.origins import Document
from flowconf.text.documents import read


def doc(text: str) -> Document:
    return read("x.toml", text, flow="flow")


def refusal(text: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(ConfigError) as caught:
        doc(text)
    return caught.value.diagnostics


SAMPLE = '''# a comment
title = "x"   # another
a.b.'c d' = [ 1,
  2, { e = 3.5, "f" = "g, h" }, [ true ] ]

[table]
text = """
[not a table]
key = 1
"""
when = 1979-05-27T07:32:00Z
raw = \'\'\'it's\'\'\'

[[items]]
n = 1
[items.sub]
m = 2
[[items]]
n = 3
'''


def plain(value: Any) -> Any:
    """What `tomllib` gives, with dates as the texts that they were in these tests."""
    if isinstance(value, dict):
        return {key: plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [plain(child) for child in value]
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, date | time) else value


def test_data_is_what_tomllib_gives() -> None:
    assert doc(SAMPLE).data == plain(tomllib.loads(SAMPLE))


def test_every_value_has_its_place() -> None:
    origins, lines = doc(SAMPLE).origins, SAMPLE.split("\n")

    def at(*path: str | int) -> tuple[int, int, str]:
        place = origins.value(path)
        return place.line, place.column, lines[place.line - 1][place.column - 1 :][: place.length]

    assert at("title") == (2, 9, '"x"')
    assert at("a", "b", "c d", 0) == (3, 15, "1")
    assert at("a", "b", "c d", 1) == (4, 3, "2")
    assert at("a", "b", "c d", 2) == (4, 6, '{ e = 3.5, "f" = "g, h" }')
    assert at("a", "b", "c d", 2, "f") == (4, 23, '"g, h"')
    assert at("a", "b", "c d", 3, 0) == (4, 35, "true")
    assert at("table", "when") == (11, 8, "1979-05-27T07:32:00Z")
    assert at("items", 0, "sub", "m") == (17, 5, "2")
    assert at("items", 1, "n") == (19, 5, "3")
    assert origins.key(("a", "b", "c d")).column == 5
    assert origins.key(("table", "raw")).line == 12


def test_remove_is_null_inside_a_flow_only() -> None:
    text = '[model.flow]\nresidual = "remove"\nstep = {tag = "remove"}\n[other]\nx = "remove"\n'
    assert doc(text).data == {
        "model": {"flow": {"residual": None, "step": {"tag": "remove"}}},
        "other": {"x": "remove"},
    }


@pytest.mark.parametrize(
    ("text", "code", "line", "column"),
    [
        ("a = 1\na = 2", "FC0003", 2, 1),
        ("[a]\n[b]\n[a]", "FC0003", 3, 1),
        ("a = 1\na.b = 2", "FC0003", 2, 7),
        ("a =", "FC0002", 1, 4),
        ("a = [1", "FC0002", 1, 7),
        ("a", "FC0002", 1, 2),
        ("a = 012", "FC0002", 1, 6),
        ("a" + ".a" * 1000 + " = 1", "FC0006", 1, 127),
        ("[a" + ".a" * 1000 + "]", "FC0006", 1, 128),
        ("a = " + "[" * 1000, "FC0006", 1, 69),
        ("a = " + "{a = " * 1000, "FC0006", 1, 321),
        ("a = [" + "1," * 60_001 + "]", "FC0006", 1, 120002),
        ("a = " + "9" * 5000, "FC0002", 1, 5005),
        ("a = 1\x00", "FC0001", 1, 6),
    ],
)
def test_bad_text_is_refused_with_its_place(text: str, code: str, line: int, column: int) -> None:
    one = refusal(text)[0]
    assert (one.code, one.place.line) == (code, line)
    assert abs(one.place.column - column) <= 2


def test_a_key_that_stands_twice_shows_its_first_place() -> None:
    (one,) = refusal("[m]\na = 1\nb = 2\na = 3\n")
    assert (one.place.line, one.labels[0].place.line) == (4, 2)
    assert "`m.a`" in one.message


KEYS = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cn", "Cs", "Zl", "Zp"]), max_size=4)
LEAVES = st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | KEYS
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=8)


def written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def inline(value: Any) -> str:
    """A value as TOML, with comments and line breaks where TOML allows them."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{written(key)} = {inline(child)}" for key, child in value.items()) + " }"
    if isinstance(value, list):
        return "[ # ]\n" + "".join(f"  {inline(child)} ,\n" for child in value) + "]"
    return written(value)


@given(st.dictionaries(KEYS, TREES))
def test_data_and_places_agree_with_tomllib(data: dict[str, Any]) -> None:
    text = "".join(f"{written(key)} = {inline(child)}\n" for key, child in data.items())
    document = doc(text)
    assert document.data == tomllib.loads(text) == data
    lines = text.split("\n")
    for path, node in document.origins.items():
        if path and not isinstance(node.value, dict | list):
            slice_ = lines[node.place.line - 1][node.place.column - 1 :][: node.place.length]
            assert tomllib.loads(f"v = {slice_}")["v"] == node.value


@given(st.dictionaries(KEYS, TREES))
def test_yaml_and_toml_give_the_same_data(data: dict[str, Any]) -> None:
    toml = "".join(f"{written(key)} = {inline(child)}\n" for key, child in data.items())
    assert doc(toml).data == read("x.yaml", written(data)).data


@given(st.text(alphabet="ab.=[]{},\"'#\n \t1_-:T\\", max_size=60))
def test_any_text_is_what_tomllib_says_or_a_diagnostic(text: str) -> None:
    try:
        expected = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        assert refusal(text)[0].code in ("FC0002", "FC0003")
    else:
        assert doc(text).data == plain(expected)
        assert {path for path, _ in doc(text).origins.items()} >= {(key,) for key in expected}
