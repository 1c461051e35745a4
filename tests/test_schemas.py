"""The JSON Schemas: fresh, true of every shipped config, and as strict as the language about keys."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import jsonschema
import pytest
import yaml
from referencing import Registry
from referencing.jsonschema import DRAFT7

from flowconf.cli.main import main
from flowconf.language import projects, registry
from flowconf.language.json_schema import schemas
from flowconf.language.schema import MODIFIERS, VERBS

ROOT = Path(__file__).parent.parent
COMMITTED = {file.name: json.loads(file.read_text(encoding="utf-8")) for file in (ROOT / "schemas").glob("*.json")}
SHIPPED = sorted((ROOT / "configs").rglob("*.yaml"))
MODELINE = re.compile(r"^# yaml-language-server: \$schema=(\S+)$", re.MULTILINE)


BESIDE = Registry().with_resources((name, DRAFT7.create_resource(schema)) for name, schema in COMMITTED.items())
"""Each schema under the name by which the others in its folder refer to it."""


def validator(name: str) -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(COMMITTED[name], registry=BESIDE)


def valid(kind: str, text: str) -> bool:
    return validator(f"{kind}.schema.json").is_valid(yaml.safe_load(text))


PINNED = re.search(r"^torch==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.skipif(version("torch").partition("+")[0] != PINNED[1], reason="they list the modules of another torch")
def test_the_committed_schemas_are_fresh():
    projects.import_project(ROOT)
    assert schemas() == COMMITTED, "run `flowconf schema`"


@pytest.mark.parametrize("name", COMMITTED)
def test_they_are_draft_7(name):
    jsonschema.Draft7Validator.check_schema(COMMITTED[name])


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_shipped_config_names_its_schema_and_fits_it(file):
    text = file.read_text(encoding="utf-8")
    found = MODELINE.findall("\n".join(text.splitlines()[:2]))
    assert len(found) == 1, "the first lines name the schema for editors"
    schema = (file.parent / found[0]).resolve()
    folder = file.relative_to(ROOT / "configs").parts[0]
    kind = {"graph": "graph", "pivot": "pivot", "data": "pivot"}.get(folder, "config")
    assert schema == ROOT / "schemas" / f"{kind}.schema.json"
    validator(schema.name).validate(yaml.safe_load(text))


def test_every_key_has_a_description():
    for schema in COMMITTED.values():
        owners = {"": schema, **schema["definitions"]}
        silent = [
            f"{owner}.{key}"
            for owner, one in owners.items()
            for key, value in one.get("properties", {}).items()
            if not value.get("description")
        ]
        assert silent == []


def test_steps_have_every_verb_and_modifier():
    definitions = COMMITTED["graph.schema.json"]["definitions"]
    for verb in VERBS:
        step = definitions[verb.capitalize()]
        assert step["required"][0] == verb
        assert set(MODIFIERS) <= set(step["properties"])


def test_registered_names_are_offered():
    definitions = COMMITTED["config.schema.json"]["definitions"]
    assert {"Linear", "GRUCell", "Glimpse"} <= set(definitions["Name in modules"]["examples"])
    assert {"cross_entropy", "guide"} <= set(definitions["Name in losses"]["examples"])


GRAPH = "flow:\n  a: Linear(4, 2)\n  b: {}\n"
CONFIG = "model: {{flow: {{a: ReLU}}}}\ndata: {{name: digits}}\nloss: {{l: {{fn: mse, input: a, target: b}}}}\n{}\n"


@pytest.mark.parametrize(
    "step",
    [
        "null",
        "ReLU",
        "{through: ReLU, frozen: true, after: a}",
        "{map: ReLU, over: a, dim: '${dim}'}",
        "{loop: {flow: {c: ReLU}}, until: ReLU, max: 3}",
        "{split: {x: ReLU, y: {graph: g, with: {width: 4}}}, merge: add}",
        "{graph: {inputs: {x: [B, 4]}, flow: {c: ReLU}}, checkpoint: {path: a.pt}}",
        "{through: ReLU, init: {weight: {scale: 0.1}, bias: 0, other: [1, 2]}, using: [a, b], repeat: width}",
    ],
)
def test_steps_that_fit(step):
    assert valid("graph", GRAPH.format(step))


@pytest.mark.parametrize(
    "step",
    [
        "3",
        "{thruogh: ReLU}",
        "{through: ReLU, also: ReLU}",
        "{through: ReLU, times: 3}",
        "{frozen: true}",
        "{split: {x: ReLU, y: ReLU}}",
        "{through: ReLU, frozen: yes please}",
        "{through: ReLU, checkpoint: {pth: a.pt}}",
        "{loop: {flwo: {c: ReLU}}, times: 3}",
    ],
)
def test_steps_that_do_not_fit(step):
    assert not valid("graph", GRAPH.format(step))


@pytest.mark.parametrize(
    ("more", "fits"),
    [
        ("seed: 1", True),
        ("seed: ${other}", True),
        ("seed: one", False),
        ("metrics: {a: null}", True),
        ("optimizer: {name: sgd, momentum: 0.9, groups: {a: {lr: 1.0e-3}, b: null}}", True),
        ("trainer: {epochs: 3}", True),
        ("trainer: {epoch: 3}", False),
        ("defaults: [_self_, {optimizer: adamw}, {override pivot: null}]", True),
        ("defaults: {optimizer: adamw}", False),
        ("hydra: {sweeper: {max_batch_size: 3}}", True),
        ("hydra: {job_logging: {}}", False),
        ("moedl: {}", False),
    ],
)
def test_configs(more, fits):
    assert valid("config", CONFIG.format(more)) == fits


def test_sections_may_come_from_the_defaults_list():
    assert not valid("config", "seed: 1")
    assert valid("config", "defaults: [base, _self_]\nseed: 1")


def test_so_may_parts_of_sections():
    parts = "model: {params: {width: 4}, flow: {a: {map: {frozen: true}}}}\nloss: {label: {weight: 2}}"
    assert not valid("config", parts)
    assert valid("config", f"defaults: [base, _self_]\n{parts}")
    assert not valid("config", "defaults: [base, _self_]\nmodel: {parms: {width: 4}}")


@pytest.mark.parametrize(
    ("pivot", "fits"),
    [
        ("{}", True),
        ("model: {flow: {a: null, b: {frozen: false}, c: {times: 3}, d: {graph: {flow: {e: {after: f}}}}}}", True),
        ("loss: {a: null, b: {weight: 2}}", True),
        ("trainer: {steps: null}", True),
        ("model: {flwo: {}}", False),
        ("model: {flow: {a: {frozn: true}}}", False),
        ("loss: {a: {wieght: 2}}", False),
    ],
)
def test_pivots(pivot, fits):
    assert valid("pivot", pivot) == fits


def test_the_command_writes_them_with_the_names_of_the_project(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry.losses, "registered", {})
    (tmp_path / "pyproject.toml").write_text('[tool.flowconf]\nmodules = ["my_own_losses"]\n', encoding="utf-8")
    code = "import flowconf\n\n@flowconf.register_loss\ndef my_own(x, y):\n    return x - y\n"
    (tmp_path / "my_own_losses.py").write_text(code, encoding="utf-8")
    assert main(["schema", "-o", "here"]) == 0
    assert sorted(capsys.readouterr().out.split()) == [f"here/{name}" for name in sorted(COMMITTED)]
    written = json.loads((tmp_path / "here" / "config.schema.json").read_text(encoding="utf-8"))
    assert "my_own" in written["definitions"]["Name in losses"]["examples"]
