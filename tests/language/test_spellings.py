"""Two spellings, one Plan; parameters and their scope; the order of a flow's members."""

from __future__ import annotations

import pytest

from flowconf import ConfigError, plan
from flowconf.language.plan import Mount

X = {"x": ["B", 6]}


def of(flow, **more):
    return plan({"inputs": X, "flow": flow, **more})


def codes(document):
    with pytest.raises(ConfigError) as raised:
        plan(document)
    return [d.code for d in raised.value.diagnostics]


EQUAL = [
    ({"a": "Linear(6, 6)"}, {"a": {"through": "Linear(6, 6)"}}),
    ({"a": "GELU"}, {"a": "GELU()"}),
    ({"a": "Linear(6,6)>>GELU"}, {"a": {"through": " Linear( 6, 6 )  >>  GELU() "}}),
    ({"a": "Linear(6, 6, bias=true)"}, {"a": "Linear(6, 6, bias=True)"}),
    ({"a": "Linear(6, 6)", "b": None}, {"a": "Linear(6, 6)"}),
    (
        {"a": {"split": {"l": "GELU", "r": "Tanh", "none": None}, "merge": "add"}},
        {"a": {"split": {"l": "GELU", "r": "Tanh"}, "merge": "add"}},
    ),
    ({"a": "GELU", "b": "Tanh"}, {"a": "GELU", "b": {"from": "a", "through": "Tanh"}}),
    ({"a": {"loop": "GELU", "times": 3}}, {"a": {"times": 3, "loop": "GELU"}}),
    ({"a": {"map": "GELU"}}, {"a": {"map": "GELU", "over": "x", "dim": 1, "batched": False}}),
    ({"a": {"through": "GELU", "using": []}}, {"a": {"through": "GELU"}}),
    (
        {"k": {"fork": "GELU"}, "a": {"through": "Concat", "using": {"other": "k"}}},
        {"k": {"fork": "GELU"}, "a": {"through": "Concat", "using": {"other": "k"}, "from": "x"}},
    ),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal_spellings(one, other):
    assert of(one) == of(other)


def test_a_list_of_one_reference_is_that_reference():
    flow = {"state": {"fork": "GELU"}, "a": {"through": "StateAdd"}}
    spellings = ["state", ["state"], {"state": "state"}]
    plans = [of({**flow, "a": {**flow["a"], "using": using}}) for using in spellings]
    assert plans[0] == plans[1] == plans[2]


def test_yaml_toml_and_the_dict(tmp_path):
    document = {
        "label": "net",
        "params": {"width": 6, "how": "tanh"},
        "inputs": {"x": ["B", "width"], "t": {"shape": ["B"], "dtype": "int64"}},
        "flow": {
            "a": "Linear(width, width) >> GELU(how)",
            "b": {"also": {"flow": {"i": "Linear(width, 6)", "j": {"from": "a", "through": "GELU"}}}, "frozen": True},
            "c": {"split": {"l": "GELU", "r": "Tanh"}, "merge": "cat", "dim": 1},
        },
        "outputs": {"c": "c", "l": "c.l"},
    }
    (tmp_path / "g.yaml").write_text(
        "label: net\n"
        "params: {width: 6, how: tanh}\n"
        "inputs: {x: [B, width], t: {shape: [B], dtype: int64}}\n"
        "flow:\n"
        "  a: Linear(width, width) >> GELU(how)\n"
        "  b:\n    also:\n      flow:\n        i: Linear(width, 6)\n"
        "        j:\n          from: a\n          through: GELU\n"
        "    frozen: true\n"
        "  c:\n    split: {l: GELU, r: Tanh}\n    merge: cat\n    dim: 1\n"
        "outputs: {c: c, l: c.l}\n"
    )
    (tmp_path / "t.toml").write_text(
        'label = "net"\n'
        'params = {width = 6, how = "tanh"}\n'
        "[inputs]\n"
        'x = ["B", "width"]\n'
        't = {shape = ["B"], dtype = "int64"}\n'
        "[flow]\n"
        'a = "Linear(width, width) >> GELU(how)"\n'
        "[flow.b]\nfrozen = true\n"
        '[flow.b.also.flow]\ni = "Linear(width, 6)"\nj = {from = "a", through = "GELU"}\n'
        '[flow.c]\nsplit = {l = "GELU", r = "Tanh"}\nmerge = "cat"\ndim = 1\n'
        '[outputs]\nc = "c"\nl = "c.l"\n'
    )
    from_dict = plan(document)
    assert plan(tmp_path / "g.yaml") == from_dict
    assert plan(tmp_path / "t.toml") == from_dict


def test_a_plan_is_a_value():
    one, other = of({"a": "Linear(6, 6)"}), of({"a": "Linear(6, 6)"})
    assert one == other
    assert one.step("a") == other.step("a")
    with pytest.raises(AttributeError):
        one.label = "other"


def test_the_document_is_not_changed():
    document = {"inputs": {"x": ["B", 6]}, "flow": {"a": "GELU", "b": {"loop": {"flow": {"c": "Tanh"}}, "times": 2}}}
    import copy

    before = copy.deepcopy(document)
    plan(document)
    assert document == before


# parameters


def inner(found, name="g"):
    module = found.step(name).body.module
    assert isinstance(module, Mount)
    return module.graph


def test_parameters_may_be_numbers_texts_lists_and_truths():
    params = {"n": 3, "r": 0.5, "k": "tanh", "s": [2, 3], "b": False}
    found = of({"a": "Linear(n, 2 * n, b)", "d": "Dropout(r)", "g": "GELU(k)", "u": "Unflatten(1, s)"}, params=params)
    assert [argument.value for argument in found.step("a").body.module.args] == [3, 6, False]
    assert found.step("u").body.module.args[1].value == (2, 3)


def test_with_sets_a_parameter_of_the_mounted_graph():
    part = {"params": {"w": 4}, "flow": {"a": "Linear(6, w)"}}
    found = of({"g": {"graph": part, "with": {"w": 5}}, "h": {"from": "x", "graph": part}})
    assert inner(found).step("a").body.module.args[1].value == 5
    assert inner(found, "h").step("a").body.module.args[1].value == 4


def test_with_may_be_said_in_terms_of_the_parents_parameters():
    part = {"params": {"w": 4}, "flow": {"a": "Linear(6, w)"}}
    found = of({"g": {"graph": part, "with": {"w": "width * 2"}}}, params={"width": 3})
    assert inner(found).step("a").body.module.args[1].value == 6


def test_with_for_a_parameter_that_does_not_exist(mistakes):
    assert mistakes("""
        inputs: {x: [B, 6]}
        flow:
          g:
            graph:
              params: {width: 4}
              flow:
                a: Linear(6, width)
            with: {widht: 5}
        """) == ["FC0134 8:12"]


def test_an_inline_body_sees_the_parameters_around_it_and_may_hide_them():
    body = {"flow": {"a": "Linear(6, w)"}}
    found = of({"g": {"through": body}}, params={"w": 4})
    assert inner(found).step("a").body.module.args[1].value == 4
    found = of({"g": {"through": {"params": {"w": 7}, **body}}}, params={"w": 4})
    assert inner(found).step("a").body.module.args[1].value == 7
    two = {"flow": {"in_": {"loop": {"flow": {"a": "Linear(6, w * 6 - 18)"}}, "times": "w"}}}
    assert of({"g": {"through": two}}, params={"w": 4}).step("g")


def test_a_symbol_is_no_parameter(mistakes):
    assert mistakes("""
        inputs: {x: [B, 6]}
        flow:
          a: Linear(6, B)
        """) == ["FC0134 3:16"]


def test_counts_take_parameters_and_arithmetic():
    flow = {"l": {"loop": "GELU", "times": "n * 2"}, "r": {"through": "GELU", "repeat": "n"}}
    found = of(flow, params={"n": 2})
    assert (found.step("l").times.value, found.step("r").repeat.value) == (4, 2)


@pytest.mark.parametrize("value", [0, -1, 1.5, "n - 2", "'two'", True, 1000000, "n / 2", [2]])
@pytest.mark.parametrize("key", ["times", "repeat"])
def test_counts_are_whole_and_at_least_one(key, value):
    step = {"loop": "GELU", "times": 2} | {key: value}
    assert codes({"flow": {"l": step}, "params": {"n": 2}}) == ["FC0123"]


# order


def order(flow):
    return [step.name for step in of(flow).steps]


def test_after_and_before_place_a_member():
    base = {"a": "GELU", "b": "GELU", "c": "GELU"}
    assert order({**base, "n": {"through": "Tanh", "after": "a"}}) == ["a", "n", "b", "c"]
    assert order({**base, "n": {"through": "Tanh", "before": "a"}}) == ["n", "a", "b", "c"]
    assert order({**base, "n": {"through": "Tanh", "before": "c"}}) == ["a", "b", "n", "c"]
    assert order({"n": {"through": "Tanh", "after": "c"}, **base}) == ["a", "b", "c", "n"]
    assert of({**base, "n": {"through": "Tanh", "after": "a"}}).step("b").stream.member == "n"


def test_members_after_the_same_one_keep_their_order():
    base = {"a": "GELU", "b": "GELU"}
    flow = {**base, "m": {"through": "Tanh", "after": "a"}, "n": {"through": "Tanh", "after": "a"}}
    assert order(flow) == ["a", "m", "n", "b"]
    flow = {**base, "m": {"through": "Tanh", "before": "b"}, "n": {"through": "Tanh", "before": "b"}}
    assert order(flow) == ["a", "m", "n", "b"]


def test_members_may_hang_on_placed_members():
    base = {"a": "GELU", "b": "GELU"}
    flow = {**base, "n": {"through": "Tanh", "after": "m"}, "m": {"through": "Tanh", "after": "a"}}
    assert order(flow) == ["a", "m", "n", "b"]


def test_placement_mistakes(mistakes):
    assert mistakes("""
        flow:
          a: GELU
          m:
            through: Tanh
            after: n
          n:
            through: Tanh
            after: m
        """) in (["FC0144 5:12"], ["FC0144 8:12"])
    assert mistakes("""
        flow:
          a: GELU
          m:
            through: Tanh
            after: zz
        """) == ["FC0144 5:12"]
    assert mistakes("""
        flow:
          a: GELU
          b: GELU
          m:
            through: Tanh
            after: a
            before: b
        """) == ["FC0144 7:5"]
    assert mistakes("""
        flow:
          a: GELU
          m:
            through: Tanh
            after: m
        """) == ["FC0144 5:12"]


def test_placing_beside_a_member_that_was_removed(mistakes):
    assert mistakes("""
        flow:
          a: GELU
          gone: null
          m:
            through: Tanh
            after: gone
        """) == ["FC0144 6:12"]


# null


@pytest.mark.parametrize(
    "reader",
    [
        {"from": "gone", "through": "GELU"},
        {"through": "StateAdd", "using": {"state": "gone"}},
        {"map": "GELU", "over": "gone"},
        {"reuse": "gone"},
        {"through": {"flow": {"i": {"from": "gone", "through": "GELU"}}}},
    ],
)
def test_a_null_member_is_never_written(reader):
    with_null = {"inputs": X, "flow": {"gone": None, "a": "GELU", "b": reader}}
    never = {"inputs": X, "flow": {"a": "GELU", "b": reader}}
    assert codes(with_null) == codes(never) == ["FC0141"]


def test_the_name_of_a_null_member_is_free():
    flow = {"gone": None, "a": {"through": "GELU", "tag": "gone"}, "b": {"from": "gone", "through": "Tanh"}}
    assert of(flow) == of({name: step for name, step in flow.items() if step is not None})


def test_a_flow_of_nothing_but_nulls_is_no_flow():
    assert codes({"flow": {"a": None}}) == codes({"flow": {}})


@pytest.mark.parametrize("name", ["kind", "source", "type", "half", "float", "inputs", "shapes", "train", "load"])
def test_a_parameter_is_no_attribute_of_the_graph(name):
    """Parameters are names in calls; only members of a flow stand beside what a module has."""
    found = of({"a": f"Linear(6, {name})"}, params={name: 4})
    assert found.step("a").body.module.args[1].value == 4
