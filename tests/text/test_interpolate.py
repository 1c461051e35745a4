"""`${...}`: what it gives, what it cannot, and that it ends."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from flowconf.report import Diagnostic
from flowconf.text.compose import Composition

Compose = Callable[..., Composition]
Refuse = Callable[..., tuple[Diagnostic, ...]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${b}", 3),
        ("Linear(${b}, 4)", "Linear(3, 4)"),
        ("${m.n[1]}", 2),
        ("${m.n.1}", 2),
        ("${m}", {"n": [1, 2], "up": 3}),
        ("${m.n}", [1, 2]),
        ("${m.up}", 3),
        ("${chain}", 3),
        ("\\${b}", "${b}"),
        ("${oc.env:FLOWCONF_X}", "here"),
        ("${oc.env:FLOWCONF_NO,there}", "there"),
        ("${oc.select:zz,5}", 5),
        ("${oc.select:b,5}", 3),
        ("${oc.dict.keys:m}", ["n", "up"]),
        ('${oc.decode:"[1,2]"}', [1, 2]),
        ("${m.${which}}", [1, 2]),
        ("${none}", None),
    ],
)
def test_what_an_interpolation_gives(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, text: str, expected: object
) -> None:
    monkeypatch.setenv("FLOWCONF_X", "here")
    main = f"b: 3\nm: {{n: [1, 2], up: '${{..b}}'}}\nchain: ${{m.up}}\nwhich: n\nnone: null\nx: '{text}'\n"
    made = composed({"configs/main.yaml": main})
    assert made.document.data["x"] == expected
    assert made.document.origins.value(("x",)).line == 6


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("${bb}", "write `${b}`"),
        ("${m.k}", None),
        ("${n}", "write `${m.n}`"),
        ("${x}", None),
        ("${bad)", "write `${section.key}`"),
        ("${nope:1}", None),
        ("${oc.evn:HOME}", "write `oc.env`"),
        ("${oc.env:FLOWCONF_NO}", None),
        ("a${m}", None),
        ("${...b}", None),
        ("${" * 300, None),
        ("${oc.dict.keys:b}", None),
    ],
)
def test_what_cannot_be_resolved_has_its_place(refused: Refuse, text: str, advice: str | None) -> None:
    (one,) = refused({"configs/main.yaml": f"b: 3\nm: {{n: [1, 2]}}\nx: '{text}'\n"})
    assert (one.code, one.place.line, one.place.column, one.path) == ("FC0009", 3, 4, "x")
    assert advice is None or one.help == advice


def test_one_cause_is_reported_once(refused: Refuse) -> None:
    found = refused({"configs/main.yaml": "a: ${b}\nb: ${c}\nc: ${nope}\nd: ${zip}\n"})
    assert [(one.code, one.place.line) for one in found] == [("FC0009", 3), ("FC0009", 4)]


@pytest.mark.parametrize(
    "text", ["a: ${b}\nb: ${c}\nc: ${a}\n", "a: {x: '${b}'}\nb: {y: '${a}'}\n", "a: {x: '${a}'}\n"]
)
def test_a_circle_is_one_mistake(refused: Refuse, text: str) -> None:
    (one,) = refused({"configs/main.yaml": text})
    assert one.code == "FC0009"


def test_a_graph_named_through_an_interpolation_is_put_in_place(composed: Compose) -> None:
    texts = {
        "configs/main.yaml": "which: a\nmodel: {flow: {s: {graph: '${which}'}}}\n",
        "configs/graph/a.yaml": "flow: {x: 'Linear(${size}, 1)'}\n",
    }
    made = composed({**texts, "configs/main.yaml": texts["configs/main.yaml"] + "size: 3\n"})
    assert made.document.data["model"]["flow"]["s"] == {"graph": {"flow": {"x": "Linear(3, 1)"}}}


@pytest.mark.parametrize(
    "text",
    [
        "a0: x\n" + "".join(f"a{i}: ${{a{i - 1}}}${{a{i - 1}}}\n" for i in range(1, 60)),
        "a0: {x: 1}\n" + "".join(f"a{i}: {{x: '${{a{i - 1}}}', y: '${{a{i - 1}}}'}}\n" for i in range(1, 60)),
        "".join(f"a{i}: ${{a{i + 1}}}\n" for i in range(1000)),
        "".join(f"a{i}: ${{oc.select:a{i + 1}}}${{oc.select:a{i + 1}}}\n" for i in range(60)) + "a60: x",
        "a: 1\n" + "b: ['" + "${a}" * 20_000 + "']\n",
        "a: &a ['${b}', '${b}']\nb: ['${c}', '${c}']\nc: [" + "x, " * 19_000 + "]\n",
    ],
)
def test_interpolations_that_grow_end_soon(refused: Refuse, text: str) -> None:
    start = time.process_time()
    assert refused({"configs/main.yaml": text})[0].code == "FC0009"
    assert time.process_time() - start < 2.5
