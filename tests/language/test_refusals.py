"""Everything section 2 of the design refuses: the code, the line and the column, and nothing reported twice."""

from __future__ import annotations

import numpy
import pytest
from torch import nn

from flowconf import ConfigError, check, plan

# name: (text, the mistakes as `code line:column`)
REFUSED = {
    "an unknown key of the document": ("flwo: {}\nflow:\n  a: GELU\n", ["FC0121 1:1"]),
    "an unknown key beside a misspelt one": ("inptus: {x: [B]}\nflow:\n  a: GELU\n", ["FC0121 1:1"]),
    "an empty flow": ("flow: {}\n", ["FC0123 1:7"]),
    "a flow that is a list": ("flow:\n  - GELU\n", ["FC0123 2:3"]),
    "an unknown key of a step": ("flow:\n  a:\n    through: GELU\n    form: x\n", ["FC0121 4:5"]),
    "two verbs": ("flow:\n  a:\n    through: GELU\n    also: Tanh\n", ["FC0124 4:5"]),
    "no verb": ("flow:\n  a:\n    tag: b\n", ["FC0124 2:3"]),
    "an empty step": ("flow:\n  a: {}\n", ["FC0124 2:3"]),
    "a misspelt verb": ("flow:\n  a:\n    trough: GELU\n", ["FC0121 3:5"]),
    "a step that is a number": ("flow:\n  a: 3\n", ["FC0123 2:6"]),
    "a step that is a list": ("flow:\n  a: [GELU]\n", ["FC0123 2:6"]),
    "an unknown module": ("flow:\n  a: Linaer(1, 2)\n", ["FC0132 2:6"]),
    "an unknown argument": ("flow:\n  a: Linear(1, 2, basi=true)\n", ["FC0133 2:19"]),
    "a missing argument": ("flow:\n  a: Linear(1)\n", ["FC0133 2:6"]),
    "a key of another verb": ("flow:\n  a:\n    through: GELU\n    times: 3\n", ["FC0125 4:5"]),
    "merge without split": ("flow:\n  a:\n    through: GELU\n    merge: add\n", ["FC0125 4:5"]),
    "skip without also": ("flow:\n  a:\n    fork: GELU\n    skip: Tanh\n", ["FC0125 4:5"]),
    "over without map or loop": ("flow:\n  a:\n    through: GELU\n    over: x\n", ["FC0125 4:5"]),
    "a loop over slices and so often": ("flow:\n  a:\n    loop: GELU\n    times: 2\n    over: x\n", ["FC0122 5:5"]),
    "a dim without slices": ("flow:\n  a:\n    loop: GELU\n    times: 2\n    dim: 2\n", ["FC0125 5:5"]),
    "with without graph": ("flow:\n  a:\n    through: GELU\n    with: {w: 1}\n", ["FC0125 4:5"]),
    "dim of a merge that has none": (
        "flow:\n  a:\n    split: {l: GELU, r: Tanh}\n    merge: add\n    dim: 1\n", ["FC0125 5:5"],
    ),
    "max of a counted loop": ("flow:\n  a:\n    loop: GELU\n    times: 2\n    max: 3\n", ["FC0125 5:5"]),
    "slices with dim": ("flow:\n  a:\n    map: GELU\n    slices: 2\n    dim: 1\n", ["FC0125 5:5"]),
    "a split without merge": ("flow:\n  a:\n    split: {l: GELU, r: Tanh}\n", ["FC0122 2:3"]),
    "an unknown merge": ("flow:\n  a:\n    split: {l: GELU, r: Tanh}\n    merge: sum\n", ["FC0132 4:12"]),
    "one branch": ("flow:\n  a:\n    split: {l: GELU}\n    merge: add\n", ["FC0145 3:5"]),
    "no branch": ("flow:\n  a:\n    split: {}\n    merge: add\n", ["FC0145 3:5"]),
    "a loop without times": ("flow:\n  a:\n    loop: GELU\n", ["FC0122 2:3"]),
    "times of nothing": ("flow:\n  a:\n    loop: GELU\n    times: 0\n", ["FC0123 4:12"]),
    "a reference to nothing": ("flow:\n  a:\n    from: zz\n    through: GELU\n", ["FC0141 3:11"]),
    "a reference to nothing in using": (
        "flow:\n  a:\n    through: StateAdd\n    using: {state: zz}\n", ["FC0141 4:20"],
    ),
    "a reference to nothing in a list": (
        "flow:\n  a:\n    through: StateAdd\n    using: [zz]\n", ["FC0141 4:13"],
    ),
    "a reference to nothing in outputs": ("flow:\n  a: GELU\noutputs: {y: zz}\n", ["FC0141 3:14"]),
    "a reference into a module": ("flow:\n  a: GELU\n  b:\n    from: a.inner\n    through: Tanh\n", ["FC0141 4:11"]),
    "a reference into an input": (
        "inputs: {x: [B]}\nflow:\n  b:\n    from: x.inner\n    through: Tanh\n", ["FC0141 4:11"],
    ),
    "a reference to a branch that is not there": (
        "flow:\n  a:\n    split: {l: GELU, r: Tanh}\n    merge: add\n  b:\n    from: a.m\n    through: GELU\n",
        ["FC0141 6:11"],
    ),
    "an index of what has one value": (
        "flow:\n  a: GELU\n  b:\n    from: a[0]\n    through: GELU\n", ["FC0141 4:11"],
    ),
    "an index that is none": (
        "flow:\n  a:\n    loop: GELU\n    times: 2\n  b:\n    from: a[one]\n    through: GELU\n", ["FC0141 6:11"],
    ),
    "an index past the end": (
        "flow:\n  a:\n    loop: GELU\n    times: 2\n  b:\n    from: a[2]\n    through: GELU\n", ["FC0141 6:11"],
    ),
    "a reference that no argument takes": (
        "inputs: {x: [B], y: [B]}\nflow:\n  a:\n    through: GELU\n    using: y\n", ["FC0143 5:12"],
    ),
    "a reference under a wrong argument": (
        "inputs: {x: [B], y: [B]}\nflow:\n  a:\n    through: StateAdd\n    using: {stat: y}\n", ["FC0143 5:13"],
    ),
    "a reference that no input of a graph takes": (
        "inputs: {x: [B], y: [B]}\nflow:\n  a:\n    graph:\n      inputs: {x: [B]}\n"
        "      flow:\n        i: GELU\n    using: y\n",
        ["FC0143 8:12"],
    ),
    "an argument that nothing fills": ("flow:\n  a: StateAdd\n", ["FC0147 2:6"]),
    "an input of a graph that nothing fills": (
        "flow:\n  a:\n    graph:\n      inputs: {x: [B], y: [B]}\n      flow:\n        i: GELU\n", ["FC0147 2:3"],
    ),
    "a name twice: a tag": ("flow:\n  a: GELU\n  b:\n    through: Tanh\n    tag: a\n", ["FC0142 5:10"]),
    "a name twice: an input": ("inputs: {a: [B]}\nflow:\n  a: GELU\n", ["FC0142 3:3"]),
    "a name twice: two labels": (
        "flow:\n  a:\n    graph: {flow: {i: GELU}}\n    label: same\n"
        "  b:\n    graph: {flow: {i: GELU}}\n    label: same\n",
        ["FC0142 7:12"],
    ),
    "a name twice: a label and a step": (
        "flow:\n  a: GELU\n  b:\n    graph: {flow: {i: GELU}}\n    label: a\n", ["FC0142 5:12"],
    ),
    "a key twice": ("flow:\n  a: GELU\n  a: Tanh\n", ["FC0003 3:3"]),
    "an unknown reuse": ("flow:\n  a: GELU\n  b:\n    reuse: zz\n", ["FC0141 4:12"]),
    "a reuse of an input": ("inputs: {x: [B]}\nflow:\n  b:\n    reuse: x\n", ["FC0141 4:12"]),
    "a reuse of a later step": ("flow:\n  b:\n    reuse: c\n  c: GELU\n", ["FC0141 3:12"]),
    "a reuse of itself": ("flow:\n  b:\n    reuse: b\n", ["FC0141 3:12"]),
    "a wrong frozen": ("flow:\n  a:\n    through: GELU\n    frozen: maybe\n", ["FC0123 4:13"]),
    "a wrong checkpoint key": (
        "flow:\n  a:\n    through: GELU\n    checkpoint: {pth: w.pt}\n", ["FC0121 4:18"],
    ),
    "a checkpoint of nothing": ("flow:\n  a:\n    through: GELU\n    checkpoint: {at: b}\n", ["FC0122 4:5"]),
    "a checkpoint of two sources": (
        "flow:\n  a:\n    through: GELU\n    checkpoint: {path: w.pt, config: c.yaml}\n", ["FC0122 4:30"],
    ),
    "a checkpoint mode that is none": (
        "flow:\n  a:\n    through: GELU\n    checkpoint: {path: w.pt, missing: warning}\n", ["FC0123 4:39"],
    ),
    "an unknown way to start": (
        "flow:\n  a:\n    through: Linear(1, 2)\n    init: {weight: normle(1)}\n", ["FC0133 4:20"],
    ),
    "an unknown dtype": ("inputs: {x: {shape: [B], dtype: int46}}\nflow:\n  a: GELU\n", ["FC0123 1:33"]),
    "a size below one": ("inputs: {x: [B, 0]}\nflow:\n  a: GELU\n", ["FC0123 1:17"]),
    "a size of an unknown parameter": ("inputs: {x: [B, width]}\nflow:\n  a: GELU\n", ["FC0134 1:17"]),
    "an input that is a number": ("inputs: {x: 3}\nflow:\n  a: GELU\n", ["FC0123 1:13"]),
    "no input": ("inputs: {}\nflow:\n  a: GELU\n", ["FC0123 1:9"]),
    "a bad label": ("label: a-b\nflow:\n  a: GELU\n", ["FC0123 1:8"]),
    "a bad step name": ("flow:\n  a-b: GELU\n", ["FC0126 2:3"]),
    "a step name with a dot": ("flow:\n  a.b: GELU\n", ["FC0126 2:3"]),
    "a step name that is a number": ("flow:\n  1a: GELU\n", ["FC0126 2:3"]),
    "a bad branch name": ("flow:\n  a:\n    split: {l-l: GELU, r: Tanh}\n    merge: add\n", ["FC0126 3:13"]),
    "a bad tag": ("flow:\n  a:\n    through: GELU\n    tag: b c\n", ["FC0123 4:10"]),
    "a keyword": ("flow:\n  class: GELU\n", ["FC0126 2:3"]),
    "an attribute of modules": ("flow:\n  forward: GELU\n", ["FC0126 2:3"]),
    "a tag that is an attribute": ("flow:\n  a:\n    through: GELU\n    tag: parameters\n", ["FC0126 4:10"]),
    "a parameter that is a module": ("params: {GELU: 3}\nflow:\n  a: GELU\n", ["FC0126 1:10"]),
    "a graph that does not exist": ("flow:\n  a:\n    graph: nowhere\n", ["FC0105 3:12"]),
    "a graph file that does not exist": ("flow:\n  a:\n    graph: nowhere.yaml\n", ["FC0105 3:12"]),
    "a mistake in an inline body": (
        "flow:\n  a:\n    loop:\n      flow:\n        i: Linaer(1)\n    times: 2\n", ["FC0132 5:12"],
    ),
    "a mistake in a branch": (
        "flow:\n  a:\n    split:\n      l: GELU\n      r:\n        flow:\n          i: Linaer(1)\n    merge: add\n",
        ["FC0132 7:14"],
    ),
    "a body of no kind": ("flow:\n  a:\n    through: {lfow: {i: GELU}}\n", ["FC0121 3:15"]),
    "a chain member": ("flow:\n  a: GELU >> Linaer(1, 2) >> Tanh\n", ["FC0132 2:14"]),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, mistakes):
    text, expected = REFUSED[name]
    assert mistakes(text) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_check_says_the_same_and_a_dict_is_refused_too(name, written):
    import yaml

    text, expected = REFUSED[name]
    found = check(written(text))
    assert [f"{d.code} {d.place.line}:{d.place.column}" for d in found] == expected
    if "FC0003" in expected[0]:
        return
    with pytest.raises(ConfigError) as raised:
        plan(yaml.safe_load(text))
    assert [d.code for d in raised.value.diagnostics] == [line.split()[0] for line in expected]


def test_a_cycle_of_graph_files(written, tmp_path):
    written("flow:\n  a:\n    graph: graph/b.yaml\n", "graph/a.yaml")
    written("flow:\n  b:\n    graph: graph/a.yaml\n", "graph/b.yaml")
    main = written("flow:\n  m:\n    graph: graph/a.yaml\n", "main.yaml")
    with pytest.raises(ConfigError) as raised:
        plan(main)
    assert {d.code for d in raised.value.diagnostics} <= {"FC0106", "FC0105"}


def test_a_mistake_in_a_mounted_file_has_its_place_there(written):
    written("inputs: {x: [B, 6]}\nflow:\n  a: Linaer(6, 2)\n", "graph/part.yaml")
    main = written("inputs: {x: [B, 6]}\nflow:\n  g:\n    graph: part\n", "main.yaml")
    with pytest.raises(ConfigError) as raised:
        plan(main)
    (found,) = raised.value.diagnostics
    assert found.place.file.endswith("graph/part.yaml")
    assert (found.place.line, found.place.column) == (3, 6)


def test_a_mistake_in_a_file_mounted_twice_is_reported_once(written):
    written("inputs: {x: [B, 6]}\nflow:\n  a: Linaer(6, 2)\n", "graph/part.yaml")
    main = written("inputs: {x: [B, 6]}\nflow:\n  g: {graph: part}\n  h: {graph: part}\n", "main.yaml")
    with pytest.raises(ConfigError) as raised:
        plan(main)
    assert [d.code for d in raised.value.diagnostics] == ["FC0132"]


TRAINING = """
model:
  inputs: {x: [B, 6]}
  flow: {a: "Linear(6, 2)"}
data: {name: digits}
loss: {a: {fn: cross_entropy, input: a, target: label}}
"""


@pytest.mark.parametrize("within", ["{main}", "model:\n{indented}data: {{name: digits}}\nloss: {loss}\n"])
@pytest.mark.parametrize("mount", ["g: {{graph: part.yaml}}", "g:\n    map: {{graph: part.yaml}}"])
def test_a_training_config_in_the_place_of_a_graph_is_reported_once(within, mount, written):
    written(TRAINING, "part.yaml")
    main = f"inputs: {{x: [B, 6]}}\nflow:\n  {mount.format()}\n"
    indented = "".join(f"  {line}\n" for line in main.splitlines())
    loss = "{a: {fn: cross_entropy, input: g, target: label}}"
    (found,) = check(written(within.format(main=main, indented=indented, loss=loss), "main.yaml"))
    assert found.code == "FC0121"
    assert found.message == "expected a graph, got the training config `part.yaml`"
    assert found.place.file.endswith("main.yaml")


@pytest.mark.parametrize(
    ("file", "name", "advice"),
    [
        ("part.yaml", "part.yaml", "move the graph itself to `graph/NAME.yaml`"),
        ("graph/part.yaml", "part", "mount it in the config's own defaults: `- graph@...: part`"),
    ],
)
def test_a_mounted_graph_with_a_defaults_list_is_refused_with_what_to_do(file, name, advice, written):
    written("defaults: [_self_]\nflow: {a: GELU}\n", file)
    (found,) = check(written(f"inputs: {{x: [B, 6]}}\nflow:\n  g: {{graph: {name}}}\n", "main.yaml"))
    assert found.code == "FC0104"
    assert found.help.startswith(advice)


def test_sections_in_the_place_of_the_graph_belong_at_the_top_level(written):
    written("inputs: {x: [B, 6]}\nflow: {a: 'Linear(6, 2)'}\n", "graph/part.yaml")
    text = "defaults: [graph/part@model, _self_]\nmodel: {model: {flow: {a: GELU}}}\n"
    text += "data: {name: digits}\nloss: {a: {fn: value, input: a}}\n"
    found = check(written(text, "main.yaml"))
    assert [d.message for d in found if "training config" in d.message] == []


# one cause, one diagnostic; all causes at once


def test_all_mistakes_come_at_once(mistakes):
    assert mistakes("""
        inputs: {x: [B, 6], y: [B, 0]}
        flow:
          a: Linaer(6, 6)
          b:
            through: GELU
            frozn: true
          c:
            from: zz
            through: Tanh
        """) in (["FC0121 6:5"], ["FC0123 1:28", "FC0132 3:6", "FC0121 6:5", "FC0141 8:11"])
    assert mistakes("""
        inputs: {x: [B, 6], y: [B, 0]}
        flow:
          a: Linaer(6, 6)
          b: Linear(1)
          c:
            from: zz
            through: Tanh
          d:
            through: StateAdd
            using: {stat: y}
        """) == ["FC0123 1:28", "FC0132 3:6", "FC0133 4:6", "FC0141 6:11", "FC0143 10:13"]


def test_what_depends_on_a_broken_member_is_silent(mistakes):
    assert mistakes("""
        inputs: {x: [B, 6]}
        flow:
          a:
            through:
              flow:
                i: Linaer(6, 6)
          b:
            from: a.i
            through: GELU
          c:
            reuse: a.i
          d:
            through: StateAdd
            using: {state: a.nope}
        outputs: {y: a.i, z: d}
        """) == ["FC0132 6:12"]


def test_a_lacking_name_is_one_mistake_however_often_it_is_read(mistakes):
    assert mistakes("""
        flow:
          a: GELU
          b:
            from: aa
            through: GELU
          c:
            from: aa
            through: GELU
        """) == ["FC0141 4:11"]


def test_help_says_what_to_write(written):
    texts = {
        "flow:\n  hidden: GELU\n  b:\n    from: hiden\n    through: GELU\n": "write `hidden`",
        "flow:\n  a:\n    trough: GELU\n": "write `through`",
        "flow:\n  a:\n    split: {l: GELU, r: Tanh}\n    merge: maen\n": "write `mean`",
        "inputs: {x: {shape: [B], dtype: int46}}\nflow:\n  a: GELU\n": "write `int64`",
        "flow:\n  a:\n    through: GELU\n    after: b\n  bb: GELU\n": "write `bb`",
    }
    for text, advice in texts.items():
        with pytest.raises(ConfigError) as raised:
            plan(written(text))
        assert raised.value.diagnostics[0].help == advice, text


def test_an_origin_names_the_place_of_a_dict():
    with pytest.raises(ConfigError) as raised:
        plan({"flow": {"a": "Linaer(1, 2)"}}, origin="notebook cell 3")
    assert raised.value.diagnostics[0].place.file == "notebook cell 3"
    assert "notebook cell 3" in str(raised.value)
    assert raised.value.diagnostics[0].path


def test_two_mistakes_in_a_dict_are_two_diagnostics():
    for origin in (None, "cell"):
        with pytest.raises(ConfigError) as raised:
            plan({"flow": {"a": "Linaer(1, 2)", "b": "Lniear(1, 2)"}}, origin=origin)
        assert len(raised.value.diagnostics) == 2


def test_a_class_of_modules_in_a_dict_is_refused_with_its_call():
    with pytest.raises(ConfigError, match="got the class `ReLU`") as raised:
        plan({"flow": {"a": nn.ReLU}})
    assert raised.value.diagnostics[0].help == 'write `"ReLU()"`'


def test_numbers_of_numpy_in_a_dict_are_numbers():
    given = {"width": numpy.int64(3), "share": numpy.float32(0.5)}
    graph = plan({"params": given, "inputs": {"x": ["B", 4]}, "flow": {"a": "Linear(4, width) >> Dropout(share)"}})
    assert [(value.value, type(value.value)) for _, value in graph.params] == [(3, int), (0.5, float)]


@pytest.mark.parametrize(
    "junk", [None, 3, "text", [], {"flow": None}, {"flow": {3: "GELU"}}, {1: 2}, {"flow": {"a": object()}}]
)
def test_junk_is_refused_with_a_diagnostic(junk):
    with pytest.raises((ConfigError, TypeError)) as raised:
        plan(junk if isinstance(junk, dict) else {"flow": junk})
    assert isinstance(raised.value, ConfigError)


def test_a_document_that_contains_itself_is_refused():
    document = {"flow": {}}
    document["flow"]["a"] = {"graph": document}
    with pytest.raises(ConfigError) as raised:
        plan(document)
    assert {d.code for d in raised.value.diagnostics} <= {"FC0005", "FC0006"}


def test_a_document_without_flow():
    with pytest.raises(ConfigError) as raised:
        plan({"label": "a"})
    assert [d.code for d in raised.value.diagnostics] == ["FC0122"]


def test_a_file_without_flow_or_model_is_one_mistake(mistakes):
    assert mistakes("params: {a: 1}\n") == ["FC0122 1:1"]
