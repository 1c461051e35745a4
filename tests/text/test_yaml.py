"""YAML 1.2 to data and places, and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowconf.report import ConfigError, Diagnostic
from flowconf.report.origins import Document
from flowconf.text.documents import read


def doc(text: str) -> Document:
    return read("x.yaml", text)


def mistakes(text: str) -> list[tuple[str, int, int]]:
    return [(one.code, one.place.line, one.place.column) for one in refusal(text)]


def refusal(text: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(ConfigError) as caught:
        doc(text)
    return caught.value.diagnostics


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("-12", -12),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e-3", 0.001),
        ("1E5", 1e5),
        (".5e3", 500.0),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("-.inf", -math.inf),
        ("2026-11-23", "2026-11-23"),
        ("'012'", "012"),
        ('"yes"', "yes"),
        ("Linear(784, width)", "Linear(784, width)"),
        ("0b11", "0b11"),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_a_scalar_has_its_value_of_the_core_schema(text: str, value: object) -> None:
    assert doc(f"x: {text}").data == {"x": value}
    assert not doc(f"x: {text}").warnings


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("012", "12"),
        ("1_000", "1000"),
        ("1:30", None),
        ("inf", ".inf"),
        ("nan", ".nan"),
    ],
)
def test_a_look_alike_is_a_text_with_a_warning(text: str, meant: str | None) -> None:
    document = doc(f"a: 1\nx: {text}\n")
    assert document.data["x"] == text
    (warning,) = document.warnings
    assert (warning.code, warning.severity) == ("FC0008", "warning")
    assert (warning.place.line, warning.place.column, warning.place.length) == (2, 4, len(text))
    assert warning.help is not None
    assert f'"{text}"' in warning.help
    assert meant is None or f"`{meant}`" in warning.help


def test_keys_are_always_texts() -> None:
    assert doc("on: 1\nyes: 2\n1: 3\n1.5: 4\ntrue: 5\n").data == {"on": 1, "yes": 2, "1": 3, "1.5": 4, "true": 5}


def test_every_key_and_value_has_its_place() -> None:
    document = doc("a: 1\nbb:\n  c: [10, {d: Linear}]\n  'e f': |\n    text\n")
    places = {
        path: (
            (node.key.line, node.key.column, node.key.length),
            (node.place.line, node.place.column, node.place.length),
        )
        for path, node in document.origins.items()
    }
    assert places[("a",)] == ((1, 1, 1), (1, 4, 1))
    assert places[("bb",)] == ((2, 1, 2), (3, 3, 20))
    assert places[("bb", "c")] == ((3, 3, 1), (3, 6, 17))
    assert places[("bb", "c", 0)][1] == (3, 7, 2)
    assert places[("bb", "c", 1)][1] == (3, 11, 11)
    assert places[("bb", "c", 1, "d")] == ((3, 12, 1), (3, 15, 6))
    assert places[("bb", "e f")] == ((4, 3, 5), (4, 10, 1))


def test_places_count_characters_and_lines_as_editors_do() -> None:
    document = doc("a: 'é\u2028😀'\r\nb: x\r\n")
    assert document.origins.value(("b",)).line == 2
    assert document.origins.value(("b",)).column == 4


def test_the_place_of_what_is_not_written_is_the_nearest_ancestors() -> None:
    origins = doc("a:\n  b: 1\n").origins
    assert origins.value(("a", "b", "c", 0)) == origins.value(("a", "b"))
    assert origins.key(("a", "x")) == origins.value(("a",))
    assert origins.below(("a",)).value(("b",)).line == 2
    assert origins.history(("a", "b")) == ()


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a: {through: Linear(1, 2), tag: r}", '"Linear(1, 2)"'),
        ("a: [Linear(1, 2), ReLU]", '"Linear(1, 2)"'),
        ("a: {b: Conv2d(1, 8, 3) >> ReLU, c: 1}", '"Conv2d(1, 8, 3) >> ReLU"'),
        ("a: {b: Foo([1, 2], {x: 1}), c: 1}", None),
        ('a: {b: Foo("x", 2), c: 1}', "'Foo(\"x\", 2)'"),
    ],
)
def test_a_call_cut_at_a_comma_is_refused_with_the_text_to_write(text: str, quoted: str | None) -> None:
    (one,) = [one for one in refusal(text) if one.code == "FC0007"]
    assert one.place.column == text.index("(") - len(text[: text.index("(")].split(" ")[-1].lstrip("[")) + 1
    if quoted is not None:
        assert one.fix is not None
        assert one.fix.text == quoted
        place = one.fix.place
        mended = text[: place.column - 1] + quoted + text[place.column - 1 + place.length :]
        assert doc(mended).data


def test_each_cut_call_is_reported_once() -> None:
    text = "{split: {a: Linear(128, 64), b: Linear(128, 64)}, merge: mean}"
    assert mistakes(text) == [("FC0007", 1, 13), ("FC0007", 1, 33)]


def test_calls_in_blocks_and_quotes_are_left_alone() -> None:
    text = 'a: Linear(1, 2) >> ReLU\nb: {c: "Linear(1, 2)", d: GELU(), e: Dropout(0.1)}\n'
    assert doc(text).data == {
        "a": "Linear(1, 2) >> ReLU",
        "b": {"c": "Linear(1, 2)", "d": "GELU()", "e": "Dropout(0.1)"},
    }


def test_independent_mistakes_come_together() -> None:
    text = "a: 1\na: 2\nb: !!str x\nc: [L(1, 2)]\n~: 1\nd: 012\n"
    assert mistakes(text) == [
        ("FC0003", 2, 1),
        ("FC0004", 3, 4),
        ("FC0007", 4, 5),
        ("FC0002", 5, 1),
        ("FC0008", 6, 4),
    ]


def test_a_duplicate_key_shows_its_first_place() -> None:
    (one,) = refusal("m:\n  a: 1\n  b: 2\n  a: 3\n")
    assert (one.place.line, one.labels[0].place.line) == (4, 2)


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("a: !!python/object/apply:os.system [x]", "FC0004", 1),
        ("a: !x b", "FC0004", 1),
        ("a: ! b", "FC0004", 1),
        ("a: !!binary aGk=", "FC0004", 1),
        ("a: &a [*a]", "FC0005", 1),
        ("a: *b", "FC0002", 1),
        ("a: 1\n---\nb: 2", "FC0002", 2),
        ("a:\n\tb: 1", "FC0002", 2),
        ("a: [1, 2", "FC0002", 1),
        ("a: 'x", "FC0002", 1),
        ("a: b: c", "FC0002", 1),
        ("? [a]\n: 1", "FC0002", 1),
        ("{a: 1}: 2", "FC0002", 1),
        (": 1", "FC0002", 1),
        ("<<: 3", "FC0002", 1),
        ("- a", "FC0123", 1),
        ("text", "FC0123", 1),
        ("a: \x01", "FC0002", 1),
        ("a: \x00", "FC0001", 1),
        ("a: \ud800", "FC0002", 1),
        (f"a: {'9' * 5000}", "FC0002", 1),
        (f"a: {'[' * 100}", "FC0006", 1),
        (f"a: [{'1, ' * 60_001}]", "FC0006", 1),
    ],
)
def test_bad_text_is_refused_with_its_place(text: str, code: str, line: int) -> None:
    assert (refusal(text)[0].code, refusal(text)[0].place.line) == (code, line)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a:\n\tb: 1", "spaces"),
        ("a: {b: ${width}}", "quote a value that holds `${...}`"),
        ("a: b: c", "quote"),
        ("a: !!str 012", "quote"),
    ],
)
def test_help_says_what_to_write(text: str, words: str) -> None:
    assert words in str(refusal(text)[0].help)


def test_an_alias_repeats_its_anchor_and_keeps_its_own_place() -> None:
    document = doc("a: &a\n  x: 1\nb: *a\nc:\n  <<: *a\n  y: 2\n")
    assert document.data == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}
    assert document.origins.value(("b",)).line == 3
    assert document.origins.value(("b", "x")).line == 2
    assert document.origins.value(("c", "x")).line == 2


def test_merge_keys_give_only_what_is_not_written() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\nd: {x: 3, <<: *a}\n"
    data = doc(text).data
    assert data["c"] == {"x": 3, "y": 1, "z": 2}
    assert data["d"] == {"x": 3, "y": 1}


def test_an_alias_bomb_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 60)]
    assert refusal("\n".join(lines))[0].code == "FC0005"


def test_aliases_cannot_go_deeper_than_text_may() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 100)]
    assert refusal("\n".join(lines))[0].code == "FC0005"


def test_an_empty_text_is_an_empty_mapping() -> None:
    assert doc("").data == {}
    assert doc("# only a comment\n").data == {}
    assert doc("---\na: 1\n...\n").data == {"a": 1}


TEXTS = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cn", "Cs", "Zl", "Zp"]), max_size=6)
LEAVES = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
TREES = st.recursive(LEAVES | TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=8)


@given(st.dictionaries(TEXTS, TREES))
def test_json_reads_as_the_same_data(data: dict[str, Any]) -> None:
    assert doc(json.dumps(data, ensure_ascii=False)).data == data
    assert doc(json.dumps(data, ensure_ascii=False, indent=2)).data == data


@given(st.text(alphabet="ab:-[]{},&*!|>'\"# \n\t?%@`~<()$", max_size=60))
def test_any_text_is_data_or_a_diagnostic(text: str) -> None:
    lines = text.split("\n")
    try:
        places = [node.place for path, node in doc(text).origins.items() if path]
    except ConfigError as error:
        places = [one.place for one in error.diagnostics]
    for place in places:
        assert 1 <= place.line <= len(lines)
        assert 1 <= place.column <= len(lines[place.line - 1]) + 1
