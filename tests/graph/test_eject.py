"""A graph as a file of its own: the same numbers, names and gradients, and no flowconf in it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_model
from torch import nn

import flowconf
from flowconf.graph.exchange.eject import eject

VERBS = {
    "label": "verbs",
    "params": {"width": 4, "turns": 3},
    "inputs": {"x": ["B", 8]},
    "flow": {
        "gate": {"gate": {"a": "Linear(8, width)", "b": "Linear(8, width)"}, "router": "SoftmaxRouter(8, 2)"},
        "chosen": {"switch": {"a": "Linear(4, 4)", "b": "Tanh"}, "router": "ArgmaxSelector(4, 2)"},
        "until": {"loop": "Linear(4, 4) >> Tanh", "until": "ThresholdHalt(0.9)", "max": "turns"},
        "memory_of": {"through": "StateAdd", "using": {"state": "later"}},
        "later": "Linear(4, 4)",
        "blocks": {"also": "Linear(4, 4) >> GELU", "skip": "Linear(4, 4)", "repeat": 3},
        "heads": {"split": {"a": "Linear(4, 2)", "b": "Linear(4, 2)"}, "merge": "stack"},
        "each": {"map": "Linear(2, 3)", "batched": True},
    },
}


def read_back(file: Path) -> ModuleType:
    """Import a written file, with flowconf out of its reach."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def gradients(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor | None]:
    torch.manual_seed(1)
    output = module(x)
    values = output.values() if isinstance(output, dict) else [output]
    sum(value.square().sum() for value in values).backward()
    return [parameter.grad for parameter in module.parameters()]


@pytest.mark.parametrize("rows", [1, 5])
def test_the_file_computes_what_the_graph_computes(tmp_path: Path, rows: int) -> None:
    graph = flowconf.build(VERBS)
    eject(graph, tmp_path / "verbs.py")
    twin = read_back(tmp_path / "verbs.py").Verbs()
    load_model(twin, tmp_path / "verbs.safetensors")
    x = torch.randn(rows, 8)

    assert list(twin.state_dict()) == list(graph.state_dict())
    assert torch.equal(graph(x), twin(x))
    assert torch.equal(graph(x), twin(x))  # the second call remembers the first
    graph.reset_state()
    twin.between_calls.clear()
    for mine, theirs in zip(gradients(graph, x), gradients(twin, x), strict=True):
        assert (mine is None and theirs is None) or torch.equal(mine, theirs)


def test_the_flagship_leaves_the_house(tmp_path: Path) -> None:
    graph = flowconf.build("configs/fbrl_word.yaml", weights=False)
    eject(graph, tmp_path / "word.py")
    text = (tmp_path / "word.py").read_text()
    twin = read_back(tmp_path / "word.py").Word()
    load_model(twin, tmp_path / "word.safetensors")
    image = torch.rand(2, 1, 32, 96)

    assert "import flowconf" not in text
    assert "from flowconf" not in text
    assert all(torch.equal(value, twin(image)[name]) for name, value in graph(image).items())
    assert not any(parameter.requires_grad for parameter in twin.letter.parameters())
    assert not twin.train().letter.training
    assert twin.scan.training


def test_the_file_runs_by_itself(tmp_path: Path) -> None:
    eject(flowconf.build("configs/graph/fbrl/letter.yaml"), tmp_path / "letter.py")
    script = (
        "import sys; sys.modules['flowconf'] = None; import runpy; runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "letter.py")], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "GRUCell" in done.stdout


def test_a_module_from_outside_cannot_be_ejected(tmp_path: Path) -> None:
    graph = flowconf.build({"inputs": {"x": ["B", 2]}, "flow": {"mine": nn.Linear(2, 2)}})
    with pytest.raises(flowconf.ConfigError, match="from outside its document"):
        eject(graph, tmp_path / "mine.py")


def test_without_weights_only_the_file_is_written(tmp_path: Path) -> None:
    assert eject(flowconf.build("configs/graph/fbrl/letter.yaml"), tmp_path / "letter.py", weights=False) is None
    assert [file.name for file in tmp_path.iterdir()] == ["letter.py"]


NET = {
    "params": {"width": 8},
    "inputs": {"x": ["B", 4]},
    "flow": {"one": "Linear(4, width) >> GELU", "two": "Linear(_, 3)"},
}
PAIR = {
    "inputs": {"image": ["B", 4]},
    "flow": {
        "teacher": {"fork": {"graph": NET, "with": {"width": 32}}, "frozen": True},
        "student": {"graph": NET, "with": {"width": 5}},
        "lent": {"through": {"flow": {"wide": "Linear(3, 5)", "again": {"reuse": "student.two"}}}},
    },
}  # fmt: skip


def test_a_graph_inside_of_another_one_leaves_alone(tmp_path: Path) -> None:
    graph = flowconf.build(PAIR)
    eject(graph.subgraph("student"), tmp_path / "student.py")
    text = (tmp_path / "student.py").read_text()
    assert "32" not in text
    assert text.count("class ") == 1
    (made,) = [one for one in vars(read_back(tmp_path / "student.py")).values() if isinstance(one, type)]
    twin, x = made(), torch.randn(2, 4)
    load_model(twin, tmp_path / "student.safetensors")
    assert torch.equal(twin(x), graph.subgraph("student")(x))
    with pytest.raises(flowconf.ConfigError, match="of the graph around it"):
        eject(graph.subgraph("lent"), tmp_path / "lent.py")


def test_every_graph_of_the_flagship_leaves_alone(tmp_path: Path) -> None:
    graph = flowconf.build("configs/fbrl_word.yaml", weights=False)
    inner = [(path, part) for path, part in graph.named_modules() if path and isinstance(part, flowconf.Graph)]
    assert len(inner) > 2
    for number, (path, part) in enumerate(inner):
        if path == "letter.read":  # shares modules with `letter`
            continue
        file = tmp_path / f"part_{number}.py"
        eject(part, file)
        *_, made = [
            one for one in vars(read_back(file)).values() if isinstance(one, type) and one.__module__ == file.stem
        ]
        load_model(made(), file.with_suffix(".safetensors"))


def test_a_part_is_named_after_itself_although_an_equal_graph_comes_first(tmp_path: Path) -> None:
    part = {"graph": {"flow": {"a": "Linear(2, 2)"}}}
    graph = flowconf.build({"inputs": {"x": ["B", 2]}, "flow": {"left": part, "right": part}})
    for name in ("left", "right"):
        eject(graph.subgraph(name), tmp_path / f"{name}.py", weights=False)
        text = (tmp_path / f"{name}.py").read_text()
        assert f'class {name.title()}(nn.Module):\n    """Part `{name}` of the surrounding graph."""' in text


@pytest.mark.parametrize("name", ["model.py", "model.safetensors"])
def test_files_of_others_are_not_replaced_and_those_of_eject_are(tmp_path: Path, name: str) -> None:
    graph = flowconf.build({"inputs": {"x": ["B", 2]}, "flow": {"a": "Linear(2, 2)"}})
    (tmp_path / name).write_text("mine = 1\n")
    with pytest.raises(flowconf.ConfigError, match=rf"FC0602.*{name}` exists, and was not written by `eject`"):
        eject(graph, tmp_path / "model.py")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(name, "mine = 1\n")]
    (tmp_path / name).unlink()
    assert eject(graph, tmp_path / "model.py") == eject(graph, tmp_path / "model.py") == tmp_path / "model.safetensors"
