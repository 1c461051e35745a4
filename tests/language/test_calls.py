"""Calls are parsed, never evaluated: what may stand in one, what may not, and where the mistake is shown."""

from __future__ import annotations

import builtins
import os
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowconf.language.arguments import Call, Hole, ListArgument, Literal
from flowconf.language.resolve.calls import CallParser
from flowconf.report import Place, Reporter

PLACE = Place("graph.yaml", 4, 9)
SCOPE = {
    name: Literal(value, name)
    for name, value in {"width": 128, "rate": 0.5, "kind": "tanh", "sizes": (1, 2), "deep": True}.items()
}


def parse(text, scope=SCOPE, place=PLACE):
    reporter = Reporter()
    found = CallParser(scope, reporter, "here").chain(text, place)
    assert (found is None) == bool(reporter.errors)
    return found, reporter.diagnostics


def one(text):
    found, problems = parse(text)
    assert problems == []
    assert len(found) == 1
    return found[0]


def values(call):
    return [getattr(argument, "value", argument) for argument in call.args]


ACCEPTED = {
    "GELU": [],
    "GELU()": [],
    " GELU ( ) ": [],
    "Linear(1, 2)": [1, 2],
    "Linear(width, 2)": [128, 2],
    "Linear(-1, +2)": [-1, 2],
    "Linear(width * 2 + 1, width // 3)": [257, 42],
    "Linear((width), 7 % 4)": [128, 3],
    "Linear(2 ** 3, -(1 + 1))": [8, -2],
    "Dropout(0.1)": [0.1],
    "Dropout(1e-3)": [0.001],
    "Dropout(rate / 2)": [0.25],
    "Dropout(1 - rate)": [0.5],
    "Linear(1_000, 0x10)": [1000, 16],
    "Linear(1, 2, true)": [1, 2, True],
    "Linear(1, 2, True)": [1, 2, True],
    "Linear(1, 2, false)": [1, 2, False],
    "Linear(1, 2, none)": [1, 2, None],
    "Linear(1, 2, None)": [1, 2, None],
    "Linear(1, 2, deep)": [1, 2, True],
    "GELU('tanh')": ["tanh"],
    'GELU("tanh")': ["tanh"],
    "GELU(kind)": ["tanh"],
    "Reshape(1, 2, 3)": [1, 2, 3],
    "Conv2d(1, 2, [3, 3])": [1, 2, (3, 3)],
    "Conv2d(1, 2, (3, 3))": [1, 2, (3, 3)],
    "Unflatten(1, [2, width])": [1, (2, 128)],
    "LayerNorm([2, [3]])": None,
    "LayerNorm([])": [()],
    "Unflatten(1, sizes)": [1, (1, 2)],
    "Linear(\n  1,\n  2,\n)": [1, 2],
}


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepted(text):
    call = one(text)
    if ACCEPTED[text] is not None:
        assert values(call) == ACCEPTED[text]


def test_keywords_holes_lists_and_nested_calls():
    call = one("Linear(_, out_features=width, bias=false)")
    assert isinstance(call.args[0], Hole)
    assert [(name, value.value) for name, value in call.kwargs] == [("out_features", 128), ("bias", False)]
    call = one("TransformerEncoder(TransformerEncoderLayer(8, 2), 3, norm=LayerNorm(8))")
    assert isinstance(call.args[0], Call)
    assert call.args[0].name == "TransformerEncoderLayer"
    assert dict(call.kwargs)["norm"] == Call("LayerNorm", (Literal(8, "8"),))


def test_what_was_written_is_kept_beside_the_value():
    call = one("Linear(width * 2, 10)")
    assert [argument.text for argument in call.args] == ["width * 2", "10"]
    assert str(call) == "Linear(width * 2, 10)"


def test_arithmetic_keeps_its_meaning_when_printed():
    for text, value in {
        "(width + 1) * 2": 258, "width - (2 - 1)": 127, "2 ** (1 + 2)": 8, "-(width + 1)": -129, "(-2) ** 2": 4,
        "-2 ** 2": -4, "width // (2 * 4)": 16, "2 ** 3 ** 1": 8, "(2 ** 3) ** 1": 8, "- -3": 3, "10 - -3": 13,
    }.items():  # fmt: skip
        literal = one(f"Linear({text}, 1)").args[0]
        assert literal.value == value
        assert eval(literal.text, {"__builtins__": {}}, {"width": 128}) == value, literal.text


@settings(max_examples=200)
@given(
    st.recursive(
        st.one_of(st.integers(0, 9).map(str), st.sampled_from(["width", "rate", "0.5"])),
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from(["+", "-", "*", "//", "%", "/"]), inner).map(
                lambda t: f"({t[0]} {t[1]} {t[2]})"
            ),
            st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(lambda t: f"{t[0]} {t[1]} {t[2]}"),
            inner.map(lambda t: f"-({t})"),
        ),
        max_leaves=8,
    )
)
def test_arithmetic_is_pythons(text):
    scope = {"width": 128, "rate": 0.5}
    try:
        expected = eval(text, {"__builtins__": {}}, scope)
    except ZeroDivisionError:
        found, problems = parse(f"Identity({text})")
        assert found is None
        assert [d.code for d in problems] == ["FC0131"]
        return
    literal = one(f"Identity({text})").args[0]
    assert literal.value == expected
    assert eval(literal.text, {"__builtins__": {}}, scope) == expected


def test_chains():
    found, problems = parse("Linear(1, 2) >> GELU >> Linear(2, 1)")
    assert problems == []
    assert [call.name for call in found] == ["Linear", "GELU", "Linear"]
    assert found == parse("Linear(1,2)>>GELU()>>Linear(2,1)")[0]
    assert len(parse(" >> ".join(["Tanh"] * 900))[0]) == 900


# refused: code and column (the text begins at column 9)


REFUSED = {
    # not a call at all
    "": ("FC0131", None),
    "   ": ("FC0131", None),
    "Linear(1, 2": ("FC0131", None),
    "Linear(1, 2))": ("FC0131", None),
    "Linear 1": ("FC0131", None),
    "12": ("FC0131", 9),
    "'Linear'": ("FC0131", 9),
    "[Linear(1, 2)]": ("FC0131", 9),
    "Linear(1, 2); GELU": ("FC0131", None),
    "x = Linear(1, 2)": ("FC0131", None),
    "import os": ("FC0131", None),
    "Linear(1, 2)\nGELU": ("FC0131", None),
    # code
    "__import__('os')": ("FC0132", 9),
    "__import__('os').system('true')": ("FC0131", 9),
    "eval('1')": ("FC0132", 9),
    "Linear(__import__('os'), 2)": ("FC0132", 16),
    "Linear(open('x'), 2)": ("FC0132", 16),
    "Linear.__init__(1, 2)": ("FC0131", 9),
    "nn.Linear(1, 2)": ("FC0131", 9),
    "torch.nn.Linear(1, 2)": ("FC0131", 9),
    "Linear(width.real, 2)": ("FC0131", 16),
    "Linear(sizes[0], 2)": ("FC0131", 16),
    "Linear(1, 2)(3)": ("FC0131", 9),
    "(lambda: 1)()": ("FC0131", 9),
    "lambda: 1": ("FC0131", 9),
    "Linear(lambda: 1, 2)": ("FC0131", 16),
    "Linear([i for i in [1]], 2)": ("FC0131", 16),
    "Linear((i for i in [1]), 2)": ("FC0131", 16),
    "Linear({1: 2}, 2)": ("FC0131", 16),
    "Linear({1, 2}, 2)": ("FC0131", 16),
    "GELU(f'tanh')": ("FC0131", 14),
    "GELU(f'{width}')": ("FC0131", 14),
    "Linear((a := 3), 2)": ("FC0131", None),
    "Linear(1 if deep else 2, 2)": ("FC0131", 16),
    "Linear(1 < 2, 2)": ("FC0131", 16),
    "Linear(not deep, 2)": ("FC0131", 16),
    "Linear(deep and 1, 2)": ("FC0131", 16),
    "Linear(~1, 2)": ("FC0131", 16),
    "Linear(1 | 2, 2)": ("FC0131", 16),
    "Linear(1 << 2, 2)": ("FC0131", 16),
    "Linear(1 @ 2, 2)": ("FC0131", 16),
    "Linear(b'x', 2)": ("FC0131", 16),
    "Linear(1j, 2)": ("FC0131", 16),
    "Linear(..., 2)": ("FC0131", 16),
    "Linear(*sizes)": ("FC0131", 16),
    "Linear(**sizes)": ("FC0131", None),
    "Linear(1, 2, [*sizes])": ("FC0131", None),
    "await GELU": ("FC0131", None),
    "yield": ("FC0131", None),
    "GELU >> 3": ("FC0131", 17),
    "GELU << Tanh": ("FC0131", 9),
    "GELU + Tanh": ("FC0131", 9),
    "GELU > Tanh": ("FC0131", 9),
    "Linear(GELU + 1, 2)": ("FC0131", 16),
    # numbers
    "Linear('a' * 3, 2)": ("FC0131", 16),
    "Linear(true + 1, 2)": ("FC0131", 16),
    "Linear([1] * 3, 2)": ("FC0131", 16),
    "Linear(1 / 0, 2)": ("FC0131", 16),
    "Linear(1 % 0, 2)": ("FC0131", 16),
    "Linear(9 ** 9 ** 9, 2)": ("FC0131", None),
    "Linear(10 ** 30, 2)": ("FC0131", 16),
    "Linear(1000000 ** 64, 2)": ("FC0131", 16),
    "Linear(99999999999999999999999, 2)": ("FC0131", 16),
    "Linear(1e999, 2)": ("FC0131", 16),
    "Linear((-8) ** 0.5, 2)": ("FC0131", 16),
    "Linear(0 ** -1, 2)": ("FC0131", 16),
    # names and arguments
    "Linaer(1, 2)": ("FC0132", 9),
    "GELU >> Linaer(1, 2)": ("FC0132", 17),
    "linear(1, 2)": ("FC0132", 9),
    "Module": ("FC0132", 9),
    "ModuleList": ("FC0132", 9),
    "LazyLinear(3)": ("FC0132", 9),
    "width": ("FC0132", 9),
    "Linear(wdith, 2)": ("FC0134", 16),
    "Linear(1, other * 2)": ("FC0134", 19),
    "Linear(1)": ("FC0133", 9),
    "Linear": ("FC0133", 9),
    "Linear(1, 2, 3, 4, 5, 6, 7)": ("FC0133", None),
    "Linear(1, 2, basi=true)": ("FC0133", 22),
    "Linear(1, in_features=2)": ("FC0133", 19),
    "Linear(1, 2, bias=true, bias=false)": ("FC0133", 33),
    "TransformerEncoder(TransformerEncoderLayer(8), 3)": ("FC0133", 28),
}


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text):
    code, column = REFUSED[text]
    found, problems = parse(text)
    assert found is None
    assert [d.code for d in problems] == [code]
    assert problems[0].place.file == "graph.yaml"
    assert problems[0].place.line == 4
    if column is not None:
        assert problems[0].place.column == column, problems[0]


HOSTILE = {
    "parentheses": "(" * 5000 + "1" + ")" * 5000,
    "lists": "Linear(" + "[" * 5000 + "]" * 5000 + ", 2)",
    "some lists": "Linear(" + "[" * 150 + "]" * 150 + ", 2)",
    "calls": "Sequential(" * 2000 + ")" * 2000,
    "some calls": "Sequential(" * 95 + ")" * 95,
    "signs": "Linear(" + "-" * 9000 + "1, 2)",
    "some signs": "Linear(" + "-" * 1200 + "1, 2)",
    "sums": "Linear(" + "+".join(["1"] * 9000) + ", 2)",
    "some sums": "Linear(" + "+".join(["1"] * 1500) + ", 2)",
    "powers": "Linear(" + "**".join(["1"] * 3000) + ", 2)",
    "digits": "Linear(" + "9" * 6000 + ", 2)",
    "many digits": "Linear(" + "9" * 19000 + ", 2)",
    "long": "Linear(1, 2) >> " * 3000 + "GELU",
    "long name": "L" * 19000,
    "nul": "Linear(1, \0 2)",
    "surrogate": "Linear('\ud800', 2)",
    "bidi": "Linear(1, 2)\u202e",
    "lambdas": "lambda: " * 3000 + "1",
    "attributes": "a" + ".a" * 5000,
    "subscripts": "a" + "[0]" * 5000,
    "comparisons": "Linear(" + "1<" * 4000 + "1, 2)",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_are_refused_or_read_in_no_time(name):
    found, problems = parse(HOSTILE[name])
    if found is None:
        assert all(d.code in ("FC0131", "FC0132", "FC0133") for d in problems)
        assert len(problems[0].message) < 400
        assert len(problems[0].help or "") < 1000


def test_a_long_chain_within_the_limit():
    found, problems = parse(" >> ".join(["GELU"] * 2400))
    assert found is None or len(found) == 2400
    assert found is not None or problems[0].code == "FC0131"


@pytest.mark.parametrize(
    "text", ["GELU('\\d')", "Linear(1if 1else 2, 2)", "GELU('\\400')", "Linear(0_1, 2)", "Linear(1is 2, 2)"]
)
def test_no_warning_of_the_parser_escapes(text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse(text)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        parse(text)
    assert seen == []


@settings(max_examples=300)
@given(st.text(max_size=30) | st.text("Linear(GELU) >>,=*_1.'[]-+width", max_size=40))
def test_any_text_is_a_call_or_a_mistake(text):
    found, problems = parse(text)
    assert (found is None) == bool(problems)


def test_nothing_is_evaluated(monkeypatch):
    def fails(*_, **__):
        raise AssertionError("called")

    parse("Linear(1, 2)")  # signatures are read from files the first time
    for name in ("eval", "exec"):
        monkeypatch.setattr(builtins, name, fails)
    monkeypatch.setattr(os, "system", fails)
    for text in REFUSED:
        parse(text)


def test_all_mistakes_of_one_call_come_at_once():
    _, problems = parse("Linear(wdith, 2, basi=other)")
    assert {(d.code, d.place.column) for d in problems} >= {("FC0134", 16), ("FC0134", 31)}


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("Linaer(1, 2)", "write `Linear`"),
        ("Linear(wdith, 2)", "write `width`"),
        ("Linear(1, 2, basi=true)", "write `bias`"),
        ("LazyLinear(3)", "write `Linear(_, ...)`: `_` is inferred from the shape of the input"),
        (
            "Linear(1)",
            "write `Linear(in_features, out_features)`, or `Linear(_, 1)` to infer `in_features` from the input",
        ),
    ],
)
def test_what_to_write_instead(text, advice):
    _, problems = parse(text)
    assert problems[0].help == advice


def test_columns_count_characters_not_bytes():
    _, problems = parse("GELU('äöü') >> Linaer(1, 2)")
    assert problems[0].place.column == 9 + len("GELU('äöü') >> ")
    assert problems[0].place.length == len("Linaer")


def test_quoted_texts_in_yaml_shift_the_column_by_the_quote():
    place = Place("graph.yaml", 4, 9, length=len("'Linaer(1, 2)'"))
    _, problems = parse("Linaer(1, 2)", place=place)
    assert problems[0].place.column == 10


def test_sequences_of_calls():
    assert isinstance(one("Sequential([GELU, Tanh])").args[0], ListArgument)
