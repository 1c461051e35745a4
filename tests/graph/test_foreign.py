"""Members from packages that a project lists: names, arguments, shapes, and what a constructor may not do."""

from __future__ import annotations

import copy
import pickle
import socket
import sys
from pathlib import Path

import pytest
import torch

import flowconf
from flowconf.cli.main import main
from flowconf.graph.exchange.eject import ejected
from flowconf.language import registry

PACKAGES = Path(__file__).parent.parent / "packages"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The current folder is a project that lists the package `shelf`."""
    monkeypatch.syspath_prepend(str(PACKAGES))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.flowconf]\npackages = ["shelf"]\n')
    return tmp_path


def write(text: str) -> str:
    Path("graph.yaml").write_text(text)
    return "graph.yaml"


def graph(step: str, inputs: str = "image: [B, 3, 16, 16]") -> str:
    return write(f"inputs: {{{inputs}}}\nflow:\n  a: {step}\n")


def reported(step: str, inputs: str = "image: [B, 3, 16, 16]") -> tuple[str, int, int, str, str]:
    """The code, line, column and message of the only mistake, and its advice."""
    (found,) = flowconf.check(graph(step, inputs))
    return found.code, found.place.line, found.place.column, found.message, found.help or ""


# what works


@pytest.mark.parametrize(
    ("step", "shape"),
    [
        ("shelf.Net(classes=3)", "[B, 3]"),
        ("shelf.nets.Net(4, 5)", "[B, 5]"),
        ("shelf.net(width=4, classes=7)", "[B, 7]"),
        ("{through: shelf.Pyramid(4), take: 1}", "[B, 8, 16, 16]"),
        ("{through: shelf.Pair, take: out}", "[B, 10]"),
        ("{through: shelf.Pair(shelf.Net(classes=2)), take: out}", "[B, 2]"),
    ],
)
def test_classes_and_factories_have_shapes(step, shape, project):
    assert flowconf.build(graph(step)).shapes["a"] == shape


def test_an_object_is_an_argument_of_the_class_that_is_annotated_with_it(project):
    step = "{through: 'shelf.Encoder(shelf.Settings(width=4, verbose=true))', using: mask, take: last}"
    built = flowconf.build(graph(step, "words: {shape: [B, T], dtype: int64}, mask: [B, T]"))
    assert built.shapes["a"] == "[B, T, 4]"
    assert built.module_at("a").settings.verbose is True
    words, mask = torch.arange(6).view(2, 3), torch.ones(2, 3)
    assert torch.equal(built(words, mask), built.module_at("a")(words, mask).last)


def test_a_parameter_of_the_document_is_an_argument(project):
    text = "params: {w: 4}\ninputs: {image: [B, 3, 8, 8]}\nflow: {a: 'shelf.Net(w, classes=2*w)'}\n"
    assert flowconf.build(write(text)).shapes["a"] == "[B, 8]"


@pytest.mark.parametrize("rows", [1, 3])
def test_the_output_is_that_of_the_package_to_the_bit(rows, project):
    built = flowconf.build(graph("{through: shelf.Net(4), frozen: true}"))
    import shelf

    plain = shelf.Net(4)
    plain.load_state_dict(built.module_at("a").state_dict())
    plain.eval()
    image = torch.randn(rows, 3, 16, 16)
    built.train()
    assert torch.equal(built(image), plain(image))
    assert torch.equal(built.a.layer1[1].running_mean, plain.layer1[1].running_mean)
    assert not any(parameter.requires_grad for parameter in built.parameters())


def test_a_constructor_may_compute_numbers(project):
    assert flowconf.build(graph("shelf.Rates(5)", "x: [B, 4]")).shapes["a"] == "[B, 5]"


def test_it_is_copied_pickled_exported_and_compiled(project):
    built = flowconf.build(graph("shelf.Net(4)")).eval()
    image = torch.randn(2, 3, 16, 16)
    for other in (
        copy.deepcopy(built),
        pickle.loads(pickle.dumps(built)),
        torch.export.export(built, (image,)).module(),
    ):
        assert torch.equal(other(image), built(image))


def test_ejected_code_imports_the_package_and_nothing_of_flowconf(project):
    built = flowconf.build(graph("{through: shelf.nets.Net(4), frozen: true}")).eval()
    text = ejected(built)
    assert "import shelf.nets\n" in text
    assert "shelf.nets.Net(4)" in text
    assert "import flowconf" not in text
    names = {"__name__": "ejected"}
    exec(text, names)
    other = names["Graph"]()
    other.load_state_dict(built.state_dict())
    image = torch.randn(2, 3, 16, 16)
    assert torch.equal(other.eval()(image), built(image))


def test_a_part_is_frozen_by_its_path(project):
    built = flowconf.build(graph("shelf.Net(4)"))
    built.freeze("a.layer1")
    assert built.is_frozen("a.layer1")
    built.train()
    assert not built.a.layer1[1].training
    assert built.a.layer2[1].training
    assert {name.split(".")[1] for name, p in built.named_parameters() if not p.requires_grad} == {"layer1"}


def test_the_structure_has_a_hash_and_a_summary(project):
    from flowconf.graph.weights.structural_hash import structural_hash

    one, same, other = (flowconf.build(graph(step)) for step in ("shelf.Net(4)", "shelf.Net(width=4)", "shelf.Net(5)"))
    assert structural_hash(one.plan) == structural_hash(same.plan) != structural_hash(other.plan)
    assert "shelf.Net(4)" in str(one.summary())


# what is refused


@pytest.mark.parametrize(
    ("step", "code", "column", "message", "advice"),
    [
        ("shelf.Nett(4)", "FC0132", 6, "`shelf` has no `Nett`", "shelf.Net"),
        ("shelf.nets.Nett(4)", "FC0132", 6, "`shelf.nets` has no `Nett`", "shelf.nets.Net"),
        ("shelf.shop.Net(4)", "FC0132", 6, "has no `shop`", ""),
        ("shelf.Net.load('x')", "FC0132", 6, "`load` is a method of `Net`", "checkpoint"),
        ("shelf.nets.os.system('x')", "FC0132", 6, "has no module `os`", ""),
        ("shelf.nets.nn.Linear(1, 2)", "FC0132", 6, "has no module `nn`", ""),
        ("shelf.nets.Tensor()", "FC0132", 6, "it is defined in `torch`", "list `torch`"),
        ("shelf.VERSION()", "FC0132", 6, "it is a `str`", ""),
        ("shelf.nets()", "FC0132", 6, "it is a module of Python", ""),
        ("shelf.remove('x')", "FC0132", 6, "has no return annotation that is a module", "register"),
        ("shelf.undeclared(3)", "FC0132", 6, "has no return annotation that is a module", "register"),
        ("shelf._private()", "FC0132", 6, "private", ""),
        ("shelf.Settings()", "FC0132", 6, "is only an argument of modules", ""),
        ("shelve.Backbone(4)", "FC0131", 6, "expected the name of a module", 'packages = ["shelve"]'),
        ("shelf.Net(widht=4)", "FC0133", 16, "has no argument `widht`", "width"),
        ("shelf.Net('four')", "FC0133", 16, "`width` of `shelf.Net` must be an integer", ""),
        ("shelf.Net(4, 5, 0.1, 6)", "FC0133", 27, "takes 3 arguments, got 4", ""),
        ("shelf.net(widht=4)", "FC0133", 16, "`shelf.net` has no argument `widht`", ""),
        ("shelf.net(weights='best')", "FC0133", 24, "would load weights in a constructor", "checkpoint"),
        ("shelf.Pair(shelf.Settings())", "FC0133", 17, "must be a `Net`, got a `shelf.Settings`", ""),
        ("shelf.Encoder(shelf.Other())", "FC0133", 20, "must be a `Settings`, got a `shelf.Other`", ""),
        ("shelf.Encoder(shelf.Settings(wdth=4))", "FC0133", 35, "has no argument `wdth`", "width"),
        ("Linear(shelf.Settings(), 3)", "FC0133", 13, "`in_features` of `Linear`", ""),
        ("shelf.Net(_)", "FC0204", 16, "`_` is not allowed for `width` of `shelf.Net`", ""),
    ],
)  # fmt: skip
def test_a_name_or_argument_is_refused_at_its_place(step, code, column, message, advice, project):
    found = reported(step)
    assert found[:3] == (code, 3, column), found
    assert message in found[3]
    assert advice in found[4]


def test_a_wrong_size_is_refused_where_it_is_called(project):
    code, line, column, message, _ = reported("shelf.Net(4)", "image: [B, 1, 16, 16]")
    assert (code, line, column) == ("FC0201", 3, 6)
    assert "to have 3 channels, but got 1" in message


@pytest.mark.parametrize("constructor", ["fetching", "careless"])
def test_a_constructor_does_not_reach_the_network(constructor, project):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        code, *_, message, advice = reported(f"shelf.{constructor}({server.getsockname()[1]})")
        assert code == "FC0202"
        assert "it would connect to the network" in message
        assert "checkpoint" in advice
        with pytest.raises(TimeoutError):
            server.accept()


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("mark"),)


@pytest.mark.parametrize(
    ("constructor", "tried"),
    [
        ("unpickling", "open a pickle"),
        ("spawning", "start a process"),
        ("threaded", "change files"),
        ("writing", "change files"),
    ],
)
def test_a_constructor_only_constructs(constructor, tried, project):
    given = "harmful" if constructor == "unpickling" else "mark"
    Path("harmful").write_bytes(pickle.dumps(Harmful()))
    code, *_, message, _ = reported(f"shelf.{constructor}('{given}')")
    assert code == "FC0202"
    assert f"it would {tried}" in message
    assert not Path("mark").exists()


def test_other_code_is_not_confined(project):
    flowconf.build(graph("shelf.Net(4)"))
    Path("mark").write_text("written")
    assert pickle.loads(pickle.dumps(Path("mark"))).read_text() == "written"


def test_a_parameter_of_the_name_of_a_package_is_refused(project):
    text = "params: {shelf: 4}\ninputs: {image: [B, 3, 8, 8]}\nflow: {a: shelf.Net(shelf)}\n"
    assert [found.code for found in flowconf.check(write(text))] == ["FC0126"]


def test_a_package_that_is_not_installed_says_so(project):
    Path("pyproject.toml").write_text('[tool.flowconf]\npackages = ["shelf", "nowhere_at_all"]\n')
    code, _, _, message, advice = reported("nowhere_at_all.Net()")
    assert code == "FC0132"
    assert message.endswith("the package `nowhere_at_all` is not installed")
    assert "pip install nowhere_at_all" in advice


@pytest.mark.parametrize("listed", ["'shelf'", "[3]", "['shelf; import os']", "['']"])
def test_the_list_of_packages_is_checked(listed, project):
    Path("pyproject.toml").write_text(f"[tool.flowconf]\npackages = {listed}\n")
    (found,) = flowconf.check(graph("GELU", "x: [B, 4]"))
    assert (found.code, found.place.line) == ("FC0123", 2)


# whose project it is


def test_a_config_cannot_add_a_package(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(PACKAGES))
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("shelf", None)
    (found,) = flowconf.check(graph("shelf.Net(4)"))
    assert found.code == "FC0131"
    assert "shelf" not in sys.modules


def test_a_package_of_a_project_elsewhere_is_not_imported(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(PACKAGES))
    folder = tmp_path / "downloaded"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "pyproject.toml").write_text('[tool.flowconf]\npackages = ["shelf"]\n')
    graph("shelf.Net(4)")
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "shelf"]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["check", "downloaded/graph.yaml"]) == 2
    said = "".join(capsys.readouterr())
    assert "`shelf` is not imported" in said
    assert "--trust" in said
    assert "shelf" not in sys.modules
    assert main(["check", "downloaded/graph.yaml", "--trust"]) == 0


# values inside


def test_a_value_inside_is_read_by_a_reference(project):
    text = (
        "inputs: {image: [B, 3, 16, 16]}\nflow:\n  a: shelf.Net(4)\n"
        "  deep: {from: a.layer1, through: 'Conv2d(_, 2, 1)'}\n"
        "outputs: {logits: a, deep: deep, first: a.layer1.0}\n"
    )
    built = flowconf.build(write(text)).eval()
    assert built.shapes["deep"] == "[B, 2, 16, 16]"
    image = torch.randn(2, 3, 16, 16)
    found = built(image)
    assert torch.equal(found["logits"], built.a(image))
    assert torch.equal(found["deep"], built.deep(built.a.layer1(image)))
    assert torch.equal(found["first"], built.a.layer1[0](image))
    assert torch.equal(torch.export.export(built, (image,)).module()(image)["deep"], found["deep"])


def test_elements_of_a_list_inside_have_numbers(project):
    """They are read, and taken apart by a step; what follows them does not run."""
    text = """
inputs: {words: {shape: [B, T], dtype: int64}}
flow:
  a: {through: 'shelf.Encoder(shelf.Settings(depth=3))', take: last}
  read: {fork: Identity, from: a.layers.1, take: 0}
  logits: {from: read, through: 'Linear(_, 2)'}
outputs: {logits: logits, query: a.layers.0.query}
"""
    built = flowconf.build(write(text))
    words = torch.arange(6).view(2, 3)
    found, inner = built(words), built.module_at("a")
    first, _ = inner.layers[0](inner.embeddings(words))
    second, _ = inner.layers[1](first)
    assert torch.equal(found["query"], inner.layers[0].query(inner.embeddings(words)))
    assert torch.equal(found["logits"], built.module_at("logits")(second))
    (code, *_, message, advice) = reported(
        "{through: shelf.Encoder(shelf.Settings()), take: last}\n  b: {from: a.layers.2, through: Identity}",
        "words: {shape: [B, T], dtype: int64}",
    )
    assert (code, message) == ("FC0141", "`a` has no module `layers.2` inside")
    assert "`a.layers.1`" in advice


PHASES = """
model:
  inputs: {words: {shape: [B, 3], dtype: int64}}
  flow:
    a: {through: 'shelf.Encoder(shelf.Settings(depth=3))', take: last}
    logits: Mean(1) >> Linear(8, 4)
data: {name: listed}
loss: {label: {fn: cross_entropy, input: logits, target: label}}
trainer: {epochs: 1, devices: cpu}
phases: {first: {when: {fraction: 0.5}, freeze: [%s]}}
"""


@pytest.mark.parametrize("path", ["a.layers.0", "a.layers", "a.layers.*.query", "a.layers.2.key.bias", "a.layers.7"])
def test_elements_of_a_list_inside_are_frozen_by_phases(path, project, monkeypatch):
    fields = {"words": ((3,), torch.int64, 11), "label": ((), torch.int64, 4)}
    listed = flowconf.provides(*fields, shapes=lambda **others: fields)(lambda: None)
    monkeypatch.setitem(registry.datasets.registered, "listed", listed)
    found = flowconf.check(write(PHASES % path))
    if path != "a.layers.7":
        assert found == []
        return
    (wrong,) = found
    assert (wrong.code, wrong.message) == ("FC0405", "`a.layers.7` selects no parameters, so this has no effect")
    assert (wrong.place.line, wrong.place.column) == (10, 50)


def test_only_a_value_inside_cuts_the_module_there(project):
    text = "inputs: {image: [B, 3, 16, 16]}\nflow:\n  a: shelf.Net(4)\noutputs: {y: a.layer1}\n"
    built = flowconf.build(write(text)).eval()
    ran = []
    built.a.layer2.register_forward_hook(lambda *_: ran.append("layer2"))
    image = torch.randn(2, 3, 16, 16)
    assert torch.equal(built(image), built.a.layer1(image))
    assert ran == []
    names = {"__name__": "ejected"}
    text = ejected(built)
    assert "flowconf" not in text.replace("written by flowconf", "")
    exec(text, names)
    other = names["Graph"]()
    other.load_state_dict(built.state_dict())
    assert torch.equal(other.eval()(image), built(image))


def test_views_and_observation_see_inside(project):
    built = flowconf.build(graph("shelf.Net(4)")).eval()
    image = torch.randn(2, 3, 16, 16)
    seen = built.view(["a.layer2", "a.layer1.1"])(image)
    assert torch.equal(seen["a.layer2"], built.a.layer2(built.a.act(built.a.layer1(image))))
    with built.observe("a.layer1") as values:
        assert torch.equal(built(image), built.a(image))
    assert torch.equal(values["a.layer1"], built.a.layer1(image))
    with pytest.raises(flowconf.PathError, match="has no module `layr1` inside"):
        built.view(["a.layr1"])


def test_a_value_inside_of_a_mounted_graph_and_of_a_loop(project):
    text = (
        "inputs: {x: [B, 4]}\nflow:\n"
        "  part: {graph: {inputs: {x: [B, 4]}, flow: {r: shelf.Rates(4)}}}\n"
        "  again: {loop: shelf.Rates(4), times: 3}\n"
        "outputs: {y: again, inner: part.r.layers, last: again.layers}\n"
    )
    built = flowconf.build(write(text)).eval()
    x = torch.randn(2, 4)
    found = built(x)
    assert torch.equal(found["inner"], built.part.r(x))
    assert torch.equal(found["last"], found["y"])
    with built.observe("again.layers") as seen:
        built(x)
    assert len(seen["again.layers"]) == 3


@pytest.mark.parametrize(
    ("reference", "message", "advice"),
    [
        ("a.layr1", "`a` has no module `layr1` inside", "write `a.layer1`"),
        ("a.act", "`a.act` runs 2 times, and has no single value", ""),
        ("a.spare", "`a.spare` does not run, and has no single value", ""),
        ("a.changed", "`a.changed` is changed in place by what follows it, and has no single value", ""),
    ],
)
def test_a_module_without_a_single_value_is_refused(reference, message, advice, project):
    text = f"inputs: {{image: [B, 3, 8, 8]}}\nflow:\n  a: shelf.Net(4)\noutputs: {{y: {reference}}}\n"
    (found,) = flowconf.check(write(text))
    assert (found.code, found.place.line, found.place.column) == ("FC0141", 4, 14)
    assert found.message == message
    assert advice in (found.help or "")


@pytest.mark.parametrize(
    ("step", "advice"),
    [
        (
            "shelf.Pair",
            "write `take: out` in `a`, or select it in another step: `{from: a, fork: Identity, take: out}`",
        ),
        (
            "{through: shelf.Pair, take: image}",
            "remove `take: image` from `a`, and select each part in another step, such as "
            "`{from: a, fork: Identity, take: out}`",
        ),
        ("{through: shelf.Pair, take: out}", "write `a`, which takes `out`"),
    ],
)
def test_a_part_of_an_output_is_selected_with_take(step, advice, project):
    text = f"inputs: {{image: [B, 3, 16, 16]}}\nflow:\n  a: {step}\noutputs: {{y: a.out}}\n"
    (found,) = flowconf.check(write(text))
    assert (found.code, found.help) == ("FC0141", advice)


# adapters inside


ENCODER = "inputs: {words: {shape: [B, T], dtype: int64}}\nflow:\n"


def adapters_of(graph):
    return [name.removesuffix(".lora") for name, _ in graph.named_modules() if name.endswith(".lora")]


def test_modules_inside_are_adapted(project):
    step = "  a: {through: shelf.Encoder(shelf.Settings()), adapt: {'**.query': {name: lora, rank: 2}}, take: last}\n"
    built = flowconf.build(write(ENCODER + step)).eval()
    assert adapters_of(built) == ["a.layers.0.query", "a.layers.1.query"]
    trained = {name for name, one in built.named_parameters() if one.requires_grad}
    assert trained == {name for name, _ in built.named_parameters() if ".lora." in name}
    words = torch.arange(6).view(2, 3)
    plain = flowconf.build(write(ENCODER + "  a: {through: shelf.Encoder(shelf.Settings()), take: last}\n")).eval()
    plain.load_state_dict({name: one for name, one in built.state_dict().items() if ".lora." not in name})
    assert torch.equal(built(words), plain(words))
    names = {"__name__": "ejected"}
    exec(ejected(built), names)
    other = names["Graph"]()
    other.load_state_dict(built.state_dict())
    assert torch.equal(other.eval()(words), built(words))


def test_modules_inside_of_members_of_a_graph_are_adapted(project):
    step = (
        "  g:\n    graph:\n      inputs: {words: {shape: [B, T], dtype: int64}}\n      flow:\n"
        "        enc: {through: shelf.Encoder(shelf.Settings(depth=1)), take: last}\n        out: Linear(_, 2)\n"
        "    adapt: {'enc.**.value': {name: lora, rank: 2}, out: {name: lora, rank: 2}}\n"
    )
    built = flowconf.build(write(ENCODER + step))
    assert adapters_of(built) == ["g.enc.layers.0.value", "g.out"]


@pytest.mark.parametrize(
    ("selector", "message", "advice"),
    [
        ("**.qery", "`**.qery` selects no module of `a`", 'write `"**.query"`'),
        ("embeddings", "`embeddings` selects nothing that `lora` can adapt", "adapters extend linear maps"),
    ],
)
def test_a_selector_that_adapts_nothing_inside_is_refused(selector, message, advice, project):
    adapt = f"adapt: {{'{selector}': {{name: lora, rank: 2}}}}"
    step = f"  a: {{through: shelf.Encoder(shelf.Settings()), {adapt}, take: last}}\n"
    (found,) = flowconf.check(write(ENCODER + step))
    assert (found.code, found.place.line, found.message) == ("FC0405", 3, message)
    assert advice in (found.help or "")
