"""The one merge: unions, steps, removals, order and history."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowconf.report import Place
from flowconf.report.origins import Node, Origins, from_plain
from flowconf.text.merge import merge, nested
from tests.text.conftest import RULES


def merged(*layers: Any) -> Node:
    """Layers over each other; the n-th was written in a file called n."""
    node: Node | None = None
    for number, layer in enumerate(layers):
        node = merge(node, from_plain(layer, Place(str(number), 1, 1)), RULES)
    assert node is not None
    return node


def flow(**steps: Any) -> dict[str, Any]:
    return {"model": {"flow": steps}}


def steps(node: Node) -> Any:
    return node.plain()["model"]["flow"]


@pytest.mark.parametrize(
    ("old", "new", "result"),
    [
        ("A", "B", "B"),
        ("A", {"also": "B"}, {"also": "B"}),
        ("A", {"frozen": True}, {"through": "A", "frozen": True}),
        ("A", None, None),
        (None, "A", "A"),
        (None, {"frozen": True}, {"frozen": True}),
        ("A", "???", "A"),
        ({"also": "A", "tag": "t"}, {"through": "B"}, {"through": "B"}),
        ({"also": "A", "tag": "t"}, {"also": "B"}, {"also": "B", "tag": "t"}),
        ({"also": "A", "tag": "t"}, {"tag": "u"}, {"also": "A", "tag": "u"}),
        ({"also": "A", "tag": "t"}, "B", "B"),
        ({"through": "A", "frozen": True, "from": "x"}, "B", {"through": "B", "frozen": True, "from": "x"}),
        ({"through": {"flow": {"x": "A"}}, "frozen": True}, "B", {"through": "B", "frozen": True}),
        ({"through": "A", "frozen": True}, "???", {"through": "A", "frozen": True}),
        ({"split": {"a": {"through": "A", "frozen": True}}}, {"split": {"a": "B"}},
         {"split": {"a": {"through": "B", "frozen": True}}}),
        ({"also": "A", "tag": "t"}, {"tag": None}, {"also": "A", "tag": None}),
        ({"split": {"a": "A", "b": "B"}}, {"split": {"a": "C"}}, {"split": {"a": "C", "b": "B"}}),
        (
            {"split": {"a": "A", "b": "B"}},
            {"split": {"a": {"frozen": True}}},
            {"split": {"a": {"through": "A", "frozen": True}, "b": "B"}},
        ),
        ({"loop": {"flow": {"x": "A"}}}, {"loop": {"flow": {"x": {"tag": "t"}}}},
         {"loop": {"flow": {"x": {"through": "A", "tag": "t"}}}}),
        ({"loop": {"flow": {"x": "A"}}}, {"loop": {"graph": "g"}}, {"loop": {"graph": "g"}}),
        ({"loop": {"flow": {"x": "A"}}, "times": 3}, {"loop": "B"}, {"loop": "B", "times": 3}),
        ({"map": {"graph": {"flow": {"x": "A"}}, "label": "l"}}, {"map": {"graph": "other"}},
         {"map": {"graph": "other", "label": "l"}}),
        ({"through": "A", "with": {"loop": 1}}, {"with": {"map": 2}}, {"through": "A", "with": {"loop": 1, "map": 2}}),
        ({"also": "A", "using": ["a", "b"]}, {"using": ["c"]}, {"also": "A", "using": ["c"]}),
    ],
)  # fmt: skip
def test_a_step_over_a_step(old: Any, new: Any, result: Any) -> None:
    assert steps(merged(flow(s=old), flow(s=new)))["s"] == result


@pytest.mark.parametrize(
    ("old", "new", "result"),
    [
        ({"epoch": 3}, {"step": 5}, {"step": 5}),
        ({"epoch": 3}, {"epoch": 4}, {"epoch": 4}),
        ({"epoch": 3}, {"epoch": None, "step": 5}, {"epoch": None, "step": 5}),
        ({"epoch": 3}, {"step": None}, {"epoch": 3, "step": None}),
        ({"epoch": 3}, {"step": 5, "other": 1}, {"step": 5, "other": 1}),
        ({"epoch": 3, "other": 1}, {"other": 2}, {"epoch": 3, "other": 2}),
        ({"epoch": {"by": 1}}, {"epoch": {"of": 2}}, {"epoch": {"by": 1, "of": 2}}),
        ({"epoch": 3}, {"step": 5, "fraction": 1}, {"step": 5, "fraction": 1}),
        (3, {"step": 5}, {"step": 5}),
    ],
)
def test_one_alternative_replaces_another(old: Any, new: Any, result: Any) -> None:
    choices = {"phases.*.until": frozenset({"epoch", "step", "fraction"}), "**.follows": frozenset({"epoch", "step"})}
    rules = replace(RULES, choices=choices)
    for above in (("phases", "warm", "until"), ("model", "flow", "a", "follows")):
        layers = (nested(above, from_plain(each, Place("f", 1, 1))) for each in (old, new))
        assert merge(*layers, rules).at(above).plain() == result
    elsewhere = (
        nested(("phases", "until"), from_plain(each, Place("f", 1, 1))) for each in ({"epoch": 3}, {"step": 5})
    )
    assert merge(*elsewhere, rules).at(("phases", "until")).plain() == {"epoch": 3, "step": 5}


def test_outside_of_a_flow_verbs_mean_nothing() -> None:
    assert merged({"data": {"loop": 1}}, {"data": {"map": 2}}).plain() == {"data": {"loop": 1, "map": 2}}
    assert merged({"data": "A"}, {"data": {"frozen": 1}}).plain() == {"data": {"frozen": 1}}


def test_members_keep_their_place_and_new_ones_come_last() -> None:
    first = flow(a="A", b={"also": "B"}, c="C")
    second = flow(d="D", b=None)
    third = flow(b={"through": "E"}, a={"frozen": True})
    assert list(steps(merged(first, second, third))) == ["a", "b", "c", "d"]
    assert steps(merged(first, second, third))["b"] == {"through": "E"}


def test_origins_and_history_tell_who_said_what() -> None:
    origins = Origins(merged(flow(a="A", b={"also": "B", "tag": "t"}), flow(b=None), flow(b="C", a={"tag": "x"})))

    def file(*path: str) -> str | None:
        return origins.value(("model", "flow", *path)).file

    def history(*path: str) -> list[str | None]:
        return [place.file for place in origins.history(("model", "flow", *path))]

    assert (file("b"), history("b")) == ("2", ["0", "1"])
    assert (file("a"), file("a", "through"), file("a", "tag")) == ("0", "0", "2")
    assert history("a") == []


LEAVES = st.integers(0, 3) | st.sampled_from(["A", "B"]) | st.none()


def mappings(inner: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(["flow", "graph", "loop", "a", "b", "frozen"]), inner, max_size=4)


TREES = mappings(st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=2) | mappings(inner), max_leaves=12))


@given(TREES)
def test_merging_nothing_or_the_same_changes_nothing(data: dict[str, Any]) -> None:
    assert merged(data, {}).plain() == merged({}, data).plain() == merged(data, data).plain() == data


@given(TREES, TREES)
def test_every_value_comes_from_a_layer_that_has_it(low: dict[str, Any], high: dict[str, Any]) -> None:
    node = merged(low, high)
    for path, found in Origins(node).items():
        if not isinstance(found.value, dict | list) and "through" not in path:
            source = from_plain([low, high][int(str(found.place.file))], Place()).at(path)
            assert source is not None
            assert source.value == found.value


@given(TREES, TREES)
def test_merging_leaves_its_layers_alone(low: dict[str, Any], high: dict[str, Any]) -> None:
    below, above = from_plain(low, Place("0")), from_plain(high, Place("1"))
    merge(below, above, RULES)
    assert (below.plain(), above.plain()) == (low, high)
