"""`flowconf list`: every name of the registry, those of a project included, with arguments and a line about it."""

from __future__ import annotations

import json
import sys

import pytest

from flowconf.cli.main import main
from flowconf.cli.names import TableName
from flowconf.language import registry
from flowconf.language.catalogue import SHELVES
from flowconf.language.signatures import first_sentence

OWN = '''
import flowconf

@flowconf.register_loss
def own_loss(predicted, target, *, power: float = 2.0):
    """Distance to a power. More about it."""
'''


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry.losses, "registered", {})
    (tmp_path / "pyproject.toml").write_text('[tool.flowconf]\nmodules = ["listed_losses"]\n')
    (tmp_path / "listed_losses.py").write_text(OWN)
    yield tmp_path
    sys.modules.pop("listed_losses", None)


def printed(capsys, *words: str) -> str:
    assert main(["list", *words]) == 0
    return capsys.readouterr().out


def test_the_command_knows_every_table():
    tables = [value for value in vars(registry).values() if isinstance(value, registry.Table)]
    assert [shelf.table for shelf in SHELVES.values()] == tables
    assert list(SHELVES) == list(TableName)


@pytest.mark.parametrize("name", SHELVES)
def test_every_name_of_a_table_is_listed_once(name, capsys):
    lines = printed(capsys, name).splitlines()
    names = [line.partition("(")[0] for line in lines if not line.startswith(" ") and "(" in line]
    assert sorted(names) == sorted(set(SHELVES[name].table.names()))


@pytest.mark.parametrize("name", [name for name in SHELVES if name != "modules"])
def test_every_name_of_ours_says_what_it_is(name):
    ours = [entry for entry in SHELVES[name].entries() if entry.module.startswith("flowconf.")]
    assert [entry.name for entry in ours if not entry.summary] == []


def test_the_names_of_torch_say_what_they_are():
    silent = {entry.name for entry in SHELVES["modules"].entries() if not entry.summary}
    assert silent <= {"CrossMapLRN2d", "NLLLoss2d", "RNNCellBase"}


def test_an_entry_shows_arguments_and_a_sentence(capsys):
    entry = "cosine(*, start: Factor = 1.0, final: Factor = 0.0)\n    Half a cosine from `start` to `final`."
    assert entry in printed(capsys, "schedules")
    assert "Linear(in_features: int, out_features: int, bias: bool = True, device=None, dtype=None)\n" in printed(
        capsys, "modules"
    )


def test_ranges_are_explained_where_they_are_used(capsys):
    assert printed(capsys, "data").endswith("\nShare: a number of at least 0 and below 1\n")


def test_what_the_trainer_passes_is_left_out():
    for name, argument in {"optimizers": "params", "schedules": "progress", "losses": "reduction"}.items():
        assert all(argument not in entry.call for entry in SHELVES[name].entries())


def test_without_a_table_they_are_counted(capsys):
    lines = printed(capsys).partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in lines] == list(SHELVES)
    assert int(lines[0].split()[1]) == len(registry.modules.names())


@pytest.mark.usefixtures("project")
def test_the_names_of_a_project_are_listed(capsys):
    assert "own_loss(predicted, target, *, power: float = 2.0)\n    Distance to a power.\n" in printed(capsys, "losses")


@pytest.mark.usefixtures("project")
def test_json_is_one_object_a_line(capsys):
    entries = [json.loads(line) for line in printed(capsys, "--format", "json").splitlines()]
    # Those of augmentations are in the list where torchvision is installed.
    assert {entry["table"] for entry in entries} | {"augmentations"} == set(SHELVES)
    (own,) = [entry for entry in entries if entry["name"] == "own_loss"]
    assert own["module"] == "listed_losses"
    assert own["parameters"][2] == {
        "name": "power", "kind": "keyword", "required": False, "type": "float", "default": "2.0"
    }  # fmt: skip


def test_an_unknown_table_is_refused_with_the_known_ones(capsys):
    assert main(["list", "lossses"]) == 2
    assert "'losses'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("", ""),
        ("One line.", "One line."),
        ("One sentence, e.g. this. Another one.", "One sentence, e.g. this."),
        ("Over\n    two lines. More.", "Over two lines."),
        ("Adds :math:`x^T` to ``y``, a :class:`~torch.Tensor`. More.", "Adds `x^T` to `y`, a `torch.Tensor`."),
        ("__init__(a,b=1)\n\nWhat it does.", "What it does."),
        ("Measures the loss:\n\n.. math:: x", "Measures the loss"),
    ],
)
def test_the_first_sentence_of_a_docstring(docstring, sentence):
    assert first_sentence(docstring) == sentence
