"""Names that a member cannot have, and the closed table of names that a call can use."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys

import pytest
import torch
from torch import nn

import flowconf
from flowconf import ConfigError, build, check, plan
from flowconf.graph.graph import Graph
from flowconf.language import registry, signatures
from flowconf.language.projects import import_project
from flowconf.language.registry import GRAMMAR_WORDS, modules
from flowconf.language.resolve import reserved_names
from tests.language.conftest import project

# names


def public(cls):
    return {name for name in dir(cls) if not name.startswith("_")}


def test_the_attributes_of_modules_are_those_of_the_installed_torch():
    assert public(nn.Module) <= set(reserved_names.MODULE_ATTRIBUTES)
    assert {name for name in vars(nn.Module()) if not name.startswith("_")} <= set(reserved_names.MODULE_ATTRIBUTES)


def test_the_attributes_of_graphs_are_those_of_graph():
    own = public(Graph) - public(nn.Module)
    assert own <= set(reserved_names.GRAPH_ATTRIBUTES)


@pytest.mark.parametrize(
    "name",
    sorted({*reserved_names.MODULE_ATTRIBUTES, *reserved_names.GRAPH_ATTRIBUTES, "class", "None", "lambda", "__x"}),
)
def test_refused_as_a_step_name(name):
    with pytest.raises(ConfigError) as raised:
        plan({"flow": {name: "GELU"}})
    assert [d.code for d in raised.value.diagnostics] == ["FC0126"]


@pytest.mark.parametrize("where", ["tag", "label", "input", "param"])
def test_python_words_are_refused_everywhere(where):
    word = "lambda"
    documents = {
        "tag": {"flow": {"a": {"through": "GELU", "tag": word}}},
        "label": {"flow": {"a": {"graph": {"flow": {"i": "GELU"}}, "label": word}}},
        "input": {"inputs": {word: ["B"]}, "flow": {"a": "GELU"}},
        "param": {"params": {word: 3}, "flow": {"a": "GELU"}},
    }
    with pytest.raises(ConfigError) as raised:
        plan(documents[where])
    assert {d.code for d in raised.value.diagnostics} == {"FC0126"}


@pytest.mark.parametrize(
    "name",
    ["a", "A", "_hidden", "match", "type_", "Linear", "x", "h0", "case", "print", "len", "super", "value", "item"],
)
def test_ordinary_names_work(name):
    if reserved_names.refusal(name):
        pytest.skip("refused")
    graph = build({"inputs": {"inp": ["B", 3]}, "flow": {name: "Linear(3, 3)", "last": {"also": "Linear(3, 3)"}}})
    x = torch.randn(2, 3)
    first = graph.module_at(name)(x)
    assert torch.equal(graph(x), first + graph.last(first))


@pytest.mark.parametrize(
    "name", ["super", "len", "range", "print", "torch", "nn", "self", "zip", "Classifier", "think", "l", "inp", "x"]
)
def test_parameters_of_any_name_work_or_are_refused(name):
    body = {"flow": {"own": f"Linear({name}, 3)", "again": {"reuse": "think"}}}
    document = {
        "label": "classifier",
        "params": {name: 3},
        "inputs": {"inp": ["B", name]},
        "flow": {"think": f"Linear({name}, 3)", "l": {"loop": body, "times": name}},
    }
    if refused := {d.code for d in check(document)}:
        assert refused <= {"FC0126", "FC0142"}
        return
    graph = build(document)
    x = torch.randn(2, 3)
    expected = graph.think(x)
    for _ in range(3):
        expected = graph.think(graph.module_at("l.own")(expected))
    assert torch.equal(graph(x), expected)


@pytest.mark.parametrize(
    "name",
    ["lambda", "keys", "items", "values", "pop", "clear", "update", "forward", "train", "body", "skip", "merge", "a"],
)
def test_branches_of_any_name_work_or_are_refused(name):
    document = {
        "inputs": {"inp": ["B", 3]},
        "flow": {"s": {"split": {name: "Linear(3, 3)", "other": "Linear(3, 3)"}, "merge": "mul"}},
    }
    if refused := {d.code for d in check(document)}:
        assert refused == {"FC0126"}
        return
    graph = build(document)
    x = torch.randn(2, 3)
    assert torch.equal(graph(x), graph.module_at(f"s.{name}")(x) * graph.module_at("s.other")(x))


def test_a_branch_called_like_the_module_that_merges(table):
    class Sum(nn.Module):
        def forward(self, parts):
            return sum(parts)

    table.register(Sum)
    step = {"split": {"merge": "Linear(3, 3)", "other": "Linear(3, 3)"}, "merge": "Sum"}
    document = {"inputs": {"inp": ["B", 3]}, "flow": {"s": step}}
    if refused := {d.code for d in check(document)}:
        assert refused <= {"FC0126", "FC0142"}
        return
    graph = build(document)
    x = torch.randn(2, 3)
    linears = [m for m in graph.modules() if isinstance(m, nn.Linear)]
    assert torch.equal(graph(x), sum(m(x) for m in linears))
    assert len(linears) == 2


# the table


def test_every_module_class_of_torch_nn_is_there_and_nothing_else_of_it():
    classes = {
        name
        for name, cls in vars(nn).items()
        if inspect.isclass(cls) and issubclass(cls, nn.Module) and not name.startswith("Lazy")
    }
    containers = {"Module", "Container", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict", "DataParallel"}
    known = set(modules.names())
    assert classes - containers <= known
    torch_names = {name for name in known if modules.locations.get(name, "").startswith("torch")}
    for name in torch_names:
        assert issubclass(getattr(nn, name), nn.Module), name
    assert not containers & known


def test_each_name_loads_the_class_of_that_name():
    for name in modules.names():
        cls = modules.load(name)
        assert issubclass(cls, nn.Module)
        assert cls.__name__ == name


def callable_names(method):
    return [p.name for p in inspect.signature(method).parameters.values()][1:]


def torch_names():
    return sorted(name for name in modules.locations if modules.locations[name].startswith("torch"))


def shape_of(signature):
    return [(p.name, p.kind, p.required) for p in signature.parameters]


@pytest.mark.parametrize("name", torch_names())
def test_signatures_read_from_source_are_those_of_inspect(name):
    cls = getattr(nn, name)
    read, live = modules.class_source(name), signatures.of_class(cls)
    for mine, theirs in ((read.init, live.init), (read.forward, live.forward)):
        if not theirs.names and (theirs.open or theirs.variadic):
            continue  # `*args`: an overload, or an abstract base
        assert shape_of(mine) == shape_of(theirs)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_overloaded_constructors_keep_their_argument_names(name):
    found = modules.class_source(name).init
    assert {"input_size", "hidden_size", "num_layers", "batch_first"} <= set(found.names)
    assert found.missing(0, set())[:2] == ["input_size", "hidden_size"]


@pytest.mark.parametrize("name", sorted(set(modules.names()) - set(torch_names())))
def test_signatures_of_own_blocks(name):
    cls = modules.load(name)
    read, live = modules.class_source(name), signatures.of_class(cls)
    assert shape_of(read.forward) == shape_of(live.forward)
    if "__init__" in vars(cls):
        assert shape_of(read.init) == shape_of(live.init)


def test_an_annotation_that_cannot_be_evaluated_is_no_error():
    class Odd(nn.Identity):
        def forward(self, x) -> "1 +":  # noqa: F722
            return x

    assert signatures.of_class(Odd).forward.names == ["x"]


# registering


def test_register_makes_a_class_callable_by_its_name(table):
    @flowconf.register
    class Halve(nn.Module):
        def __init__(self, by=2):
            super().__init__()
            self.by = by

        def forward(self, x):
            return x / self.by

    assert Halve.__name__ == "Halve"
    x = torch.randn(2, 3)
    assert torch.equal(build({"flow": {"a": "Halve(by=4)"}})(x), x / 4)
    with pytest.raises(ConfigError) as raised:
        plan({"flow": {"a": "Halve(bi=4)"}})
    assert raised.value.diagnostics[0].code == "FC0133"
    assert raised.value.diagnostics[0].help == "available arguments: `by`"


def test_register_under_another_name(table):
    @flowconf.register(name="Twice")
    class Something(nn.Module):
        def forward(self, x):
            return x * 2

    assert "Twice" in table
    assert "Something" not in table
    assert torch.equal(build({"flow": {"a": "Twice"}})(torch.ones(2)), torch.full((2,), 2.0))


def test_a_name_is_given_once(table):
    flowconf.register(type("Mine", (nn.Module,), {}))

    class Mine(nn.Module):
        pass

    for cls in (Mine, type("Linear", (nn.Module,), {}), type("Concat", (nn.Module,), {})):
        with pytest.raises(ConfigError) as raised:
            flowconf.register(cls)
        assert raised.value.diagnostics[0].code == "FC0126"
        assert cls.__name__ in str(raised.value)


def test_registering_the_same_class_again_is_no_mistake(table):
    """A notebook cell runs twice, a module is reloaded."""
    for _ in range(2):
        made = {}
        exec("class Again:\n    def forward(self, x):\n        return x\n", {"__name__": "cell"}, made)
        flowconf.register(made["Again"])


@pytest.mark.parametrize("word", sorted(GRAMMAR_WORDS))
def test_words_of_the_override_grammar_cannot_be_registered(table, word):
    with pytest.raises(ConfigError):
        flowconf.register(type(word, (nn.Module,), {}))


@pytest.mark.parametrize("name", ["a b", "1a", "a-b", "a.b", "class", "true", "none", "_"])
def test_names_that_no_call_can_say_cannot_be_registered(table, name):
    with pytest.raises(ConfigError):
        flowconf.register(type("Fine", (nn.Module,), {}), name=name)


def test_the_words_of_the_grammar_are_those_of_hydra():
    from hydra._internal.grammar import functions
    from hydra.core.override_parser.overrides_parser import create_functions

    assert functions
    assert set(create_functions().functions) <= set(GRAMMAR_WORDS)


# projects


def test_modules_of_the_project_are_registered(tmp_path, table, clean_imports):
    project(
        tmp_path,
        """
        [tool.flowconf]
        modules = ["proj_blocks"]
        """,
        proj_blocks="""
        import flowconf
        from torch import nn

        @flowconf.register
        class ProjectBlock(nn.Module):
            def forward(self, x):
                return x + 1
        """,
    )
    config = tmp_path / "configs" / "g.yaml"
    config.parent.mkdir()
    config.write_text("flow:\n  a: ProjectBlock\n")
    assert build(config)(torch.zeros(1)).item() == 1


def test_a_config_can_never_add_a_name(tmp_path, written):
    for text in ("modules: [os]\nflow:\n  a: GELU\n", "flow:\n  a: os.system\n", "flow:\n  a: {_target_: os.system}\n"):
        with pytest.raises(ConfigError):
            plan(written(text))


@pytest.mark.parametrize(
    ("text", "files", "code"),
    [
        ('[tool.flowconf]\nmodules = ["proj_missing"]\n', {}, "FC0132"),
        ('[tool.flowconf]\nmodules = ["proj_broken"]\n', {"proj_broken": "1 / 0\n"}, "FC0132"),
        ('[tool.flowconf]\nmodules = "proj_a"\n', {}, "FC0123"),
        ("[tool.flowconf]\nmodules = [3]\n", {}, "FC0123"),
        ("[tool.flowconf\n", {}, "FC0002"),
    ],
)
def test_a_broken_project_is_reported(tmp_path, clean_imports, text, files, code):
    project(tmp_path, text, **files)
    with pytest.raises(ConfigError) as raised:
        import_project(tmp_path)
    assert raised.value.diagnostics[0].code == code
    assert raised.value.diagnostics[0].place.file == str(tmp_path / "pyproject.toml")


@pytest.mark.parametrize("text", ["", "[project]\nname = 'x'\n", "[tool]\nother = 1\n", "[tool.flowconf]\n"])
def test_a_project_that_says_nothing_is_fine(tmp_path, text):
    project(tmp_path, text)
    import_project(tmp_path)


@pytest.mark.parametrize("text", ["tool = 3\n", "[tool]\nflowconf = 3\n"])
def test_a_project_of_odd_types_is_reported(tmp_path, text):
    project(tmp_path, text)
    with pytest.raises(ConfigError):
        import_project(tmp_path)


def test_an_installed_package_offers_modules_by_entry_point(tmp_path, table, clean_imports, monkeypatch):
    folder = tmp_path / "proj_offer-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: proj_offer\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[flowconf.modules]\noffer = proj_offer\n")
    (tmp_path / "proj_offer.py").write_text(
        "import flowconf\nfrom torch import nn\n@flowconf.register\nclass Offered(nn.Identity):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import_project(tmp_path)
    assert "Offered" in modules


# layers


def test_the_language_needs_no_torch(tmp_path):
    file = tmp_path / "g.yaml"
    file.write_text("inputs: {x: [B, 3]}\nflow:\n  a: Linear(3, 3) >> GELU\n  b:\n    also: LSTM(3, 3)\n    take: 0\n")
    code = (
        "import sys\nimport flowconf\nfrom flowconf.language import registry, schema, config\n"
        "from flowconf.language.resolve import calls, resolver\n"
        f"flowconf.plan({str(file)!r})\n"
        "registry.modules.class_source('Conv2d'); registry.losses.names(); registry.datasets.names()\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_no_table_offers_a_private_name():
    for table in (
        registry.modules,
        registry.losses,
        registry.metrics,
        registry.optimizers,
        registry.schedules,
        registry.datasets,
    ):
        for name in table.names():
            assert name.isidentifier()
            assert not name.startswith("_")
            assert callable(table.load(name)), name


def test_the_source_of_every_table_parses():
    for source in {home for table in registry.TABLES.values() for home in table.locations.values()}:
        file = signatures._file(source)
        assert file is not None, source
        ast.parse(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("table", [registry.losses, registry.metrics])
def test_a_class_is_neither_a_loss_nor_a_metric(table):
    with pytest.raises(ConfigError, match=f"a {table.kind} is a function of tensors, got the class `Identity`"):
        table.register(nn.Identity)


def test_a_function_of_values_is_no_module(monkeypatch):
    def swish(x):
        return x * x.sigmoid()

    monkeypatch.setitem(registry.modules.registered, "swish", swish)
    (found,) = check({"flow": {"a": "swish"}})
    assert found.help is not None
    assert "register a class with `forward`" in found.help
