"""The copies of a repeated graph by path: one of them, or all, in groups, updates and phases."""

from __future__ import annotations

import pytest

import flowconf
from flowconf.cli.main import main
from tests.train.conftest import TINY

COPIES = TINY.replace(
    "    hidden: ReLU\n", '    block: {repeat: 2, graph: {flow: {lin: "Linear(16, 16)", norm: "LayerNorm(16)"}}}\n'
)
SETTINGS = {
    "groups": "optimizer.groups={%s: {lr: 0}}",
    "updates": "loss.label.updates=[%s]",
    "phases": "+phases={a: {until: {epoch: 1}, freeze: [%s]}, b: {}}",
}


def weights(folder):
    graph = flowconf.load_run(folder, last=True)
    return {name: parameter.detach() for name, parameter in graph.named_parameters()}


@pytest.mark.parametrize("path", ["block", "block.0", "block.norm", "block.1.norm", "block.0.lin"])
@pytest.mark.parametrize("kind", SETTINGS)
def test_what_a_path_names_is_what_is_trained_otherwise(folder, path, kind, capsys):
    word = SETTINGS[kind] % path
    assert main(["check", folder.write(COPIES), word]) == 0, capsys.readouterr().out
    words = [word, "trainer.epochs=1", "seed=3", "optimizer.weight_decay=0"]
    before = dict(flowconf.build(folder.write(COPIES)).named_parameters())
    run = folder.train(*words, text=COPIES)
    after, start = weights(run.folder), initial(folder)
    moved = {name for name in before if not after[name].equal(start[name])}
    named = {name for name in before if within(name, path)}
    assert moved == (named if kind == "updates" else set(before) - named)


def initial(folder):
    """The weights that training begins with."""
    run = folder.train("trainer.epochs=1", "seed=3", "optimizer={name: sgd, lr: 0}", text=COPIES)
    return weights(run.folder)


def within(name, path):
    """Whether a parameter is below a path, in which a copy's number may be left out."""
    numbered = name.removeprefix("block.").split(".")[0] if name.startswith("block.") else ""
    return f"{name}.".startswith(f"{path}.") or name.replace(f"block.{numbered}.", "block.").startswith(f"{path}.")


def test_a_path_without_a_number_stands_for_all_copies(folder):
    graph = flowconf.build(folder.write(COPIES))
    assert [name for name, _ in graph.named_parameters_at("block.norm")] == [
        f"block.{copy}.norm.{name}" for copy in (0, 1) for name in ("weight", "bias")
    ]
    assert len(graph.parameters_at("block.1")) == 4
    graph.freeze("block.norm")
    assert graph.is_frozen("block.norm")
    assert graph.is_frozen("block.1.norm")
    assert not graph.is_frozen("block.1")
    graph.thaw("block.0.norm")
    assert not graph.is_frozen("block.norm")
    assert graph.is_frozen("block.1.norm")


def test_a_copy_that_is_not_there_is_refused(folder, capsys):
    for word in SETTINGS.values():
        assert main(["check", folder.write(COPIES), word % "block.2"]) == 2
        assert "block.2" in capsys.readouterr().out
