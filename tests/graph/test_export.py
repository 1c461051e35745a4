"""Programs without Python: what they give on other sizes than they were traced with, and what is refused."""

from __future__ import annotations

import importlib.util

import pytest
import torch

import flowconf
from flowconf.cli.main import main
from flowconf.graph.exchange import export as module
from flowconf.graph.exchange.export import export

TOWER = {
    "inputs": {"image": ["B", 1, 8, 8], "bias": ["B", 16]},
    "flow": {
        "stem": "Conv2d(1, 4, 3, padding=1) >> BatchNorm2d(4) >> ReLU >> Flatten",
        "hidden": "Linear(256, 16)",
        "biased": {"through": "StateAdd", "using": {"state": "bias"}},
        "gate": {"gate": {"a": "Linear(16, 16)", "b": "Identity"}, "router": "SoftmaxRouter(16, 2)"},
        "think": {"loop": "Linear(16, 16) >> Tanh", "times": 3},
        "drop": "Dropout(0.5)",
        "pieces": {"map": "Linear(4, 4)", "slices": 4},
        "logits": {"through": "Linear(16, 3)", "frozen": True},
    },
    "outputs": {"logits": "logits", "hidden": "hidden"},
}
ATTENTION = {
    "inputs": {"x": ["B", "T", 16]},
    "flow": {"block": "TransformerEncoderLayer(16, 4, 32, batch_first=true)", "head": "Linear(16, 3)"},
}
needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in module.PACKAGES), reason="needs the extra `export`"
)


def trained(document):
    graph = flowconf.build(document)
    with torch.no_grad():
        for tensor in graph.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) * 0.1)
    return graph


def test_a_program_gives_what_the_graph_gives_for_every_batch(tmp_path):
    graph = trained(TOWER)
    said = export(graph, tmp_path / "tower.pt2")
    assert graph.training
    assert str(said).startswith(
        f"wrote {tmp_path / 'tower.pt2'}: dynamic sizes `B`; outputs on [2, 1, 8, 8], [2, 16] are"
    )
    program = torch.export.load(tmp_path / "tower.pt2")
    assert set(program.state_dict) == set(graph.state_dict())
    graph.eval()
    for batch in (1, 4, 17):
        given = torch.randn(batch, 1, 8, 8), torch.randn(batch, 16)
        mine, theirs = graph(*given), program.module()(*given)
        assert list(mine) == list(theirs)
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_every_symbol_stays_open(tmp_path):
    graph = trained(ATTENTION)
    assert export(graph, tmp_path / "a.pt2").open_sizes == ("B", "T")
    program = torch.export.load(tmp_path / "a.pt2").module()
    x = torch.randn(1, 23, 16)
    torch.testing.assert_close(program(x), graph.eval()(x))


HALVED = {
    "inputs": {"image": ["B", 1, "H", "W"]},
    "flow": {
        "down": "Conv2d(_, 4, 3, padding=1)",
        "pool": "MaxPool2d(4)",
        "up": "ConvTranspose2d(_, 4, 4, stride=4)",
        "joined": {"through": "Concat", "using": "down"},
    },
}


def test_a_size_that_must_be_a_multiple_stays_open_as_one(tmp_path):
    graph = trained(HALVED)
    said = export(graph, tmp_path / "unet.pt2")
    assert "dynamic sizes `B`, `4*H`, `4*W`; outputs on [2, 1, 24, 36]" in str(said)
    given = torch.randn(3, 1, 8, 20)
    torch.testing.assert_close(torch.export.load(tmp_path / "unet.pt2").module()(given), graph.eval()(given))
    assert export(graph, tmp_path / "unet.pt2", {"H": 8}).compared == ((2, 1, 8, 24),)
    with pytest.raises(flowconf.ConfigError, match=r"`H` must be a multiple of 4, got `9`") as caught:
        export(graph, tmp_path / "unet.pt2", {"H": 9, "W": 8})
    assert caught.value.diagnostics[0].help == "write `--size H=8`"


@needs_onnx
@pytest.mark.slow
def test_an_onnx_model_has_multiples_of_sizes_under_their_names_and_prints_no_warnings(tmp_path, capfd):
    import onnx

    export(trained(HALVED), tmp_path / "unet.onnx")
    model = onnx.load(tmp_path / "unet.onnx").graph
    (out,) = model.output
    assert [dim.dim_param or dim.dim_value for dim in out.type.tensor_type.shape.dim] == ["B", 8, "4*H", "4*W"]
    assert capfd.readouterr().err == ""


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("document", [TOWER, ATTENTION], ids=["tower", "attention"])
def test_onnx_gives_what_the_graph_gives_for_every_batch(tmp_path, document):
    import onnxruntime

    graph = trained(document)
    assert export(graph, tmp_path / "a.onnx").difference < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    assert names == list(graph.inputs)
    sizes = {"B": 6, "T": 9}
    given = [torch.randn([sizes.get(size, size) for size in shape]) for shape in document["inputs"].values()]
    mine = graph.eval()(*given)
    theirs = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)})
    mine = list(mine.values()) if isinstance(mine, dict) else [mine]
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, torch.as_tensor(b), rtol=1e-4, atol=1e-5)


def test_a_part_of_the_tree(tmp_path):
    inner = {"inputs": {"y": ["B", 4]}, "flow": {"a": "Linear(4, 2)"}}
    graph = flowconf.build({"inputs": {"x": ["B", 4]}, "flow": {"inner": {"graph": inner}}})
    export(graph.subgraph("inner"), tmp_path / "inner.pt2")
    x = torch.randn(5, 4)
    assert torch.equal(torch.export.load(tmp_path / "inner.pt2").module()(x), graph.subgraph("inner")(x))


REFUSED = {
    "inputs": {"x": ["B", 4]},
    "flow": {
        "fine": "Linear(4, 4)",
        "pick": {"switch": {"a": "Linear(4, 4)", "b": "Identity"}, "router": "ArgmaxSelector(4, 2)"},
        "deep": {"graph": {"flow": {"halt": {"loop": "Linear(4, 4)", "until": "LearnedHalt(4)", "max": 3}}}},
        "again": {"through": "StateAdd", "using": {"state": "last"}},
        "last": "Linear(4, 4)",
    },
}


def test_what_no_program_can_hold_is_reported_all_at_once(tmp_path):
    with pytest.raises(flowconf.ConfigError) as problem:
        export(flowconf.build(REFUSED), tmp_path / "a.pt2")
    reported = problem.value.diagnostics
    assert {d.code for d in reported} == {"FC0208"}
    assert [(d.path, d.message.partition(": ")[2]) for d in reported] == [
        ("pick", "the selected branches depend on the data"),
        ("deep.halt", "the number of iterations depends on the data"),
        ("again", "it keeps `last` between calls, but a program has no state"),
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_cannot_stay_open_is_named_and_can_be_closed(tmp_path):
    document = {"inputs": {"x": ["B", "T", 8]}, "flow": {"read": {"through": "GRU(8, 4, batch_first=true)", "take": 0}}}
    graph = flowconf.build(document)
    with pytest.raises(flowconf.ConfigError, match=r"the size `T` cannot be dynamic(.|\n)*--size T="):
        export(graph, tmp_path / "a.pt2")
    assert export(graph, tmp_path / "a.pt2", {"T": 6}).open_sizes == ("B",)
    x = torch.randn(9, 6, 8)
    assert torch.equal(torch.export.load(tmp_path / "a.pt2").module()(x), graph.eval()(x))


def test_a_size_with_an_offset_can_be_closed(tmp_path):
    down, up = "Conv1d(3, 4, 3, stride=2)", "ConvTranspose1d(4, 3, 3, stride=2)"
    flow = {"down": down, "up": up, "sum": {"through": "StateAdd", "using": {"state": "x"}}}
    graph = flowconf.build({"inputs": {"x": ["B", 3, "T"]}, "flow": flow})
    with pytest.raises(flowconf.ConfigError, match=r"FC0208") as caught:
        export(graph, tmp_path / "program.pt2")
    assert "`--size T=3`" in str(caught.value.diagnostics[0].help)
    assert export(graph, tmp_path / "program.pt2", {"T": 3}).open_sizes == ("B",)


def test_what_torch_cannot_trace_is_reported_with_its_step(tmp_path, table):
    class Peeks(torch.nn.Module):
        def forward(self, x):
            return x if float(x.sum()) > 0 else -x

    table.register(Peeks)
    graph = flowconf.build({"inputs": {"x": ["B", 4]}, "flow": {"a": "Linear(4, 4)", "b": "Peeks"}}, origin="here.py")
    with pytest.raises(flowconf.ConfigError, match="`b` cannot be exported: ") as problem:
        export(graph, tmp_path / "a.pt2")
    assert problem.value.diagnostics[0].place.file == "here.py"


def test_a_program_that_differs_is_not_written(tmp_path, table):
    class Counts(torch.nn.Module):
        def forward(self, x):
            self.calls = getattr(self, "calls", 0) + 1
            return x + self.calls

    table.register(Counts)
    graph = flowconf.build({"inputs": {"x": ["B", 4]}, "flow": {"b": "Counts"}})
    with pytest.raises(flowconf.RunError, match="nothing was written"):
        export(graph, tmp_path / "a.pt2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "sizes", "words"),
    [("a.txt", {}, "must end in"), ("a.pt2", {"C": 3}, "unknown size `C`")],
)
def test_other_refusals(tmp_path, file, sizes, words):
    with pytest.raises(flowconf.ConfigError, match=words):
        export(flowconf.build({"inputs": {"x": ["B", 4]}, "flow": {"a": "ReLU"}}), tmp_path / file, sizes)


def test_inputs_need_shapes(tmp_path):
    with pytest.raises(flowconf.ConfigError, match="the input `x` has no shape"):
        export(flowconf.build({"flow": {"a": "ReLU"}}), tmp_path / "a.pt2")


def test_onnx_without_its_packages_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PACKAGES", ("onnx_that_is_nowhere",))
    with pytest.raises(flowconf.MachineError, match=r"pip install \"flowconf\[export\]\"") as problem:
        export(flowconf.build({"inputs": {"x": ["B", 4]}, "flow": {"a": "ReLU"}}), tmp_path / "a.onnx")
    assert problem.value.diagnostics[0].code == "FC0601"


CONFIG = """\
label: small
inputs: {x: [B, 4]}
flow:
  stem: Linear(4, 8)
  head:
    graph:
      inputs: {h: [B, 8]}
      flow: {out: "Linear(8, 2)"}
"""


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "graph.yaml").write_text(CONFIG, encoding="utf-8")
    assert main(["export", "graph.yaml", "-o", "a.pt2"]) == 0
    out = capsys.readouterr().out
    assert out == (
        "the weights are initial values; use --weights for trained ones\n"
        "wrote a.pt2: dynamic sizes `B`; outputs on [2, 4] are equal to the graph\n"
    )
    graph = flowconf.build("graph.yaml")
    graph.save("w.safetensors")
    assert main(["export", "graph.yaml", "-o", "head.pt2", "--at", "head", "--weights", "w.safetensors"]) == 0
    x = torch.randn(3, 8)
    assert torch.equal(torch.export.load("head.pt2").module()(x), graph.subgraph("head")(x))
    assert main(["export", "graph.yaml", "--at", "stem"]) == 2
    assert "not a graph" in capsys.readouterr().err
    assert main(["export", "graph.yaml", "--size", "B=x"]) == 2


OUTPUTS = {
    "inputs": {"x": ["B", 4]},
    "outputs": {"size": "a", "colour": "b"},
    "flow": {"h": "Linear(4, 8)", "a": "Linear(8, 2)", "b": {"from": "h", "through": "Linear(8, 3)"}},
}


def test_a_program_names_its_outputs_as_the_graph_does(tmp_path):
    export(flowconf.build(OUTPUTS), tmp_path / "named.pt2")
    program = torch.export.load(tmp_path / "named.pt2")
    assert program.graph_signature.user_outputs == ("size", "colour")
    assert list(program.module()(torch.ones(3, 4))) == ["size", "colour"]


def test_names_of_outputs_that_other_values_of_the_program_have(tmp_path):
    flow = {"h": "Linear(4, 4)", "a": "Linear(4, 4)", "b": {"from": "h", "through": "Linear(4, 4)"}}
    document = {"inputs": {"x": ["B", 4]}, "outputs": {"linear": "a", "x": "b"}, "flow": flow}
    export(flowconf.build(document), tmp_path / "named.pt2")
    assert torch.export.load(tmp_path / "named.pt2").graph_signature.user_outputs == ("linear", "x_")


def test_an_onnx_model_names_its_outputs_and_open_sizes_as_the_graph_does(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    export(flowconf.build(OUTPUTS), tmp_path / "named.onnx")
    graph = onnx.load(tmp_path / "named.onnx").graph
    values = {value.name: value.type.tensor_type.shape.dim for value in (*graph.input, *graph.output)}
    shapes = {name: [dim.dim_param or dim.dim_value for dim in dims] for name, dims in values.items()}
    assert shapes == {"x": ["B", 4], "size": ["B", 2], "colour": ["B", 3]}
