"""Names that modules offer without being imported, and functions that make modules: known, checked, then loaded."""

from __future__ import annotations

import importlib
import pickle
import sys
import textwrap

import pytest
import torch

from flowconf import ConfigError, build
from flowconf.graph.weights.structural_hash import structural_hash
from flowconf.language import registry
from flowconf.language.projects import import_project
from flowconf.language.registry import modules
from flowconf.report import Place
from tests.language.conftest import project


def offering(folder, *, offers="flowconf.offer(losses='proj_losses')", **files):
    project(
        folder,
        '[tool.flowconf]\nmodules = ["proj_offers"]\n',
        proj_offers=f"import flowconf\n{offers}\n",
        **files,
    )


LOSSES = """
    import proj_losses_were_imported

    __all__ = ["apart"]

    def apart(input, target, *, by: float = 1.0):
        return (input - target).abs() * by

    def not_offered(input): ...
"""


def test_offered_names_are_known_before_their_module_is_imported(tmp_path, clean_imports):
    offering(tmp_path, proj_losses=LOSSES)
    import_project(tmp_path)
    assert "apart" in registry.losses
    assert "not_offered" not in registry.losses
    assert registry.losses.signature("apart").names == ["input", "target", "by"]
    assert "proj_losses" not in sys.modules
    with pytest.raises(ModuleNotFoundError, match="proj_losses_were_imported"):
        registry.losses.load("apart")


def test_what_flowconf_itself_offers_comes_by_the_same_call():
    for table in registry.TABLES.values():
        assert table.names()
        assert not table.registered
    assert "guide" not in registry.losses
    assert "Glimpse" not in modules
    importlib.import_module("flowconf.fbrl.offers")
    assert "guide" in registry.losses
    assert "Glimpse" in modules


@pytest.mark.parametrize("table", ["optimizers", "schedules", "loggers", "datasets", "metrics", "modules"])
def test_every_table_takes_offers(tmp_path, clean_imports, table):
    offering(tmp_path, offers=f"flowconf.offer({table}=['proj_mine'])", proj_mine="def mine(given): ...\n")
    import_project(tmp_path)
    assert registry.TABLES[table].names()[-1] == "mine"


def test_names_can_be_left_out_of_an_offer(tmp_path, clean_imports):
    text = "def one(): ...\ndef two(): ...\ndef two_more(): ...\n"
    offering(tmp_path, offers="flowconf.offer(losses='proj_mine', without=['two*'])", proj_mine=text)
    import_project(tmp_path)
    assert registry.losses.names()[-1] == "one"


def test_the_offer_of_a_module_that_is_not_there_is_refused_where_the_project_lists_it(tmp_path, clean_imports):
    offering(tmp_path)
    with pytest.raises(ConfigError) as raised:
        import_project(tmp_path)
    (reported,) = raised.value.diagnostics
    assert (reported.code, reported.place.line, reported.place.column) == ("FC0132", 2, 12)
    assert "`proj_losses`" in reported.message


@pytest.mark.parametrize(("name", "message"), [("mse", "taken by `flowconf."), ("range", "is not allowed")])
def test_an_offered_name_that_is_taken_is_refused_where_it_is_defined(tmp_path, clean_imports, name, message):
    offering(tmp_path, proj_losses=f"import os\n\ndef {name}(input, target): ...\n")
    import_project(tmp_path)
    for _ in range(2):  # it stays refused
        with pytest.raises(ConfigError) as raised:
            registry.losses.names()
        (reported,) = raised.value.diagnostics
        assert (reported.code, reported.place) == ("FC0126", Place(str(tmp_path / "proj_losses.py"), 3, 5, len(name)))
        assert message in reported.message


def test_a_module_may_offer_what_it_registers(tmp_path, clean_imports):
    text = "import flowconf\n\n@flowconf.register_loss\ndef both(input): ...\n"
    offering(tmp_path, proj_losses=text)
    import_project(tmp_path)
    assert "both" in registry.losses
    importlib.import_module("proj_losses")
    assert registry.losses.names().count("both") == 1


# functions that make modules

FACTORIES = """
    import flowconf
    from torch import nn

    class Gated(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.inner = nn.Linear(width, width)

        def forward(self, x, gate):
            return self.inner(x) * gate

    def block(width: int, *, depth: int = 2) -> nn.Module:
        return nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)))

    def gated(width: int) -> Gated:
        return Gated(width)

    def number(width: int):
        return width
"""
REGISTERED = """
    for made in (block, gated, number):
        flowconf.register(made)
"""


@pytest.fixture(params=["registered", "offered"])
def factories(request, tmp_path, clean_imports):
    """A project whose functions make modules: known by their objects, or by their source."""
    if request.param == "registered":
        text = textwrap.dedent(FACTORIES) + textwrap.dedent(REGISTERED)
        project(tmp_path, '[tool.flowconf]\nmodules = ["proj_registered"]\n', proj_registered=text)
    else:
        offering(tmp_path, offers="flowconf.offer(modules='proj_made', without=['Gated'])", proj_made=FACTORIES)
    import_project(tmp_path)


FLOW = {
    "inputs": {"x": ["B", 8]},
    "flow": {
        "a": {"also": "block(8, depth=3) >> GELU", "repeat": 2},
        "b": {"through": "gated(8)", "using": {"gate": "x"}},
    },
}


@pytest.mark.usefixtures("factories")
def test_a_function_may_make_a_module():
    graph = build(FLOW)
    x = torch.randn(2, 8)
    assert graph(x).shape == (2, 8)
    assert graph.module_at("a.0")[0][2].in_features == 8
    assert torch.equal(pickle.loads(pickle.dumps(graph))(x), graph(x))
    other = build({**FLOW, "flow": {**FLOW["flow"], "b": {"through": "gated(width=8)", "using": {"gate": "x"}}}})
    assert structural_hash(graph.plan) == structural_hash(other.plan)


@pytest.mark.usefixtures("factories")
@pytest.mark.parametrize(
    ("call", "code", "message"),
    [
        ("block(8, deep=3)", "FC0133", "`block` has no argument `deep`"),
        ("block(8, 3)", "FC0133", "`block` takes 1 argument, got 2"),
        ("block()", "FC0133", "`block` requires `width`"),
        ("block(8, depth='a')", "FC0133", "`depth` of `block` must be an integer, got the string `a`"),
        ("gated(8)", "FC0147", "`gated` requires the argument `gate`"),
        ("block(9)", "FC0201", "`c`: `block(9)` cannot be applied to [B, 8]: [B, 8] and [9, 9] cannot be multiplied"),
        ("number(3)", "FC0202", "a step requires a module, but `number` returned a `int`"),
    ],
)
def test_calls_of_such_functions_are_checked(call, code, message):
    with pytest.raises(ConfigError) as raised:
        build({**FLOW, "flow": {**FLOW["flow"], "c": call}})
    (reported,) = raised.value.diagnostics
    assert (reported.code, reported.message) == (code, message)
