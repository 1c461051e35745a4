"""Composition: defaults lists, pivots, packages, graphs by name, interpolations, and where everything came from."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flowconf.report import ConfigError, Diagnostic
from flowconf.text.compose import Composition, compose
from flowconf.text.merge import MergeRules

Compose = Callable[..., Composition]
Refuse = Callable[..., tuple[Diagnostic, ...]]

DIGITS = {
    "configs/main.yaml": """
        defaults:
          - _self_
          - optimizer: adamw
          - pivot: null
        model:
          flow:
            stem: Linear(784, 128)
            hidden: GELU
            residual:
              also: Linear(128, 128)
              tag: res
            logits: Linear(128, 10)
        seed: 0
        """,
    "configs/optimizer/adamw.yaml": "name: adamw\nlr: 0.001\n",
    "configs/optimizer/sgd.yaml": "name: sgd\nlr: 0.1\n",
    "configs/pivot/no_residual.yaml": "# @package _global_\nmodel:\n  flow:\n    residual: null\n",
    "configs/pivot/other.yaml": "# @package _global_\nmodel:\n  flow:\n    residual: {through: GELU}\n",
    "configs/pivot/narrow.toml": "# @package _global_\n[model.flow]\nresidual = 'remove'\nstem = {frozen = true}\n",
}


def test_the_main_file_leads_the_order_and_groups_follow(composed: Compose) -> None:
    made = composed(DIGITS)
    assert list(made.document.data) == ["model", "seed", "optimizer"]
    assert list(made.document.data["model"]["flow"]) == ["stem", "hidden", "residual", "logits"]
    assert made.document.data["optimizer"] == {"name": "adamw", "lr": 0.001}
    assert made.choices == {"optimizer": "adamw", "pivot": None}
    assert made.overrides == ()
    assert Path(made.file).name == "main.yaml"


@pytest.mark.parametrize(
    ("words", "residual", "choice"),
    [
        (["pivot=no_residual"], None, "no_residual"),
        (["pivot=other"], {"through": "GELU"}, "other"),
        (["pivot=narrow"], None, "narrow"),
        (["pivot=[no_residual,other]"], {"through": "GELU"}, ["no_residual", "other"]),
        (["pivot=[other,no_residual]"], None, ["other", "no_residual"]),
        (["pivot=null"], {"also": "Linear(128, 128)", "tag": "res"}, None),
        (["pivot=other", "pivot=no_residual"], None, "no_residual"),
        (["pivot=no_residual", "model.flow.residual=ReLU"], "ReLU", "no_residual"),
        (["pivot=no_residual", "~model.flow.residual"], None, "no_residual"),
    ],
)
def test_a_pivot_removes_or_replaces_in_place(
    composed: Compose, words: list[str], residual: object, choice: object
) -> None:
    made = composed(DIGITS, *words)
    assert made.document.data["model"]["flow"]["residual"] == residual
    assert list(made.document.data["model"]["flow"]) == ["stem", "hidden", "residual", "logits"]
    assert made.choices["pivot"] == choice


def test_origins_lead_to_the_file_that_spoke_last(composed: Compose) -> None:
    origins = composed(DIGITS, "pivot=no_residual", "optimizer=sgd", "seed=3").document.origins
    place = origins.value(("model", "flow", "residual"))
    assert (Path(str(place.file)).name, place.line, place.column) == ("no_residual.yaml", 4, 15)
    assert [Path(str(one.file)).name for one in origins.history(("model", "flow", "residual"))] == ["main.yaml"]
    assert Path(str(origins.value(("optimizer", "lr")).file)).name == "sgd.yaml"
    assert origins.value(("seed",)).word == "seed=3"


def test_the_origin_of_every_value_is_where_it_is_written(composed: Compose) -> None:
    made = composed(DIGITS, "pivot=other")
    for path, node in made.document.origins.items():
        if isinstance(node.value, str):
            line = Path(str(node.place.file)).read_text().split("\n")[node.place.line - 1]
            assert line[node.place.column - 1 :][: node.place.length] == node.value, path


@pytest.mark.parametrize(
    ("words", "code", "advice"),
    [
        (["pivot=no_residul"], "FC0101", "write `no_residual`"),
        (["optimizer=zzz"], "FC0101", None),
        (["pivott=other"], "FC0101", "write `pivot=other`"),
        (["+pivot=other"], "FC0104", "write `pivot=other`"),
        (["pivot@x=other"], "FC0101", "write `pivot=other`"),
        (["optimiser=sgd"], "FC0102", "write `optimizer=sgd`"),
        (["schedule/fast=x"], "FC0101", None),
        (["hydra/launcher=nope"], "FC0101", None),
        (["pivot=other,no_residual"], "FC0103", None),
        (["hydra.callbacks.x._target_=os.system"], "FC0108", "available keys: `searchpath`, `sweeper`, `launcher`"),
    ],
)
def test_a_wrong_choice_names_its_word(refused: Refuse, words: list[str], code: str, advice: str | None) -> None:
    (one,) = refused(DIGITS, *words)
    assert (one.code, one.place.word) == (code, words[-1])
    assert advice is None or one.help == advice


def changed(old: str, new: str) -> dict[str, str]:
    return {**DIGITS, "configs/main.yaml": DIGITS["configs/main.yaml"].replace(old, new)}


@pytest.mark.parametrize(
    ("old", "new", "code", "line", "column", "advice"),
    [
        ("optimizer: adamw", "optimizer: adamww", "FC0101", 4, 16, "write `adamw`"),
        ("optimizer: adamw", "optimiser: adamw", "FC0101", 4, 5, "write `optimizer`"),
        ("optimizer: adamw", "wrod", "FC0101", 4, 5, None),
        ("- optimizer: adamw", "- optimizer: adamw\n          - optimizer: sgd", "FC0104", 5, 5, None),
        ("- optimizer: adamw", "- optimizer: ???", "FC0104", 4, 5, None),
        ("- _self_\n", "- pivot: other\n          - _self_\n", "FC0104", 4, 5, None),
        ("- _self_\n          ", "", "FC0104", 3, 5, None),
        ("- _self_", "- 3", "FC0104", 3, 5, None),
        ("- pivot: null", "- {a: b, c: d}", "FC0104", 5, 5, None),
        ("- pivot: null", "- overide pivot: x", "FC0104", 5, 5, "write `override`"),
        ("- pivot: null", "- override pvot: x", "FC0101", 5, 5, "write `pivot`"),
        ("- pivot: null", "- pivot: [1]", "FC0104", 5, 13, "quote it"),
        ("seed: 0", "hydra: {callbacks: {x: {_target_: os.system}}}", "FC0108", 14, 9, None),
        ("seed: 0", "hydra: {sweeper: {x: '${oc.decode:x}'}}", "FC0108", 14, 19, None),
        ("seed: 0", "hydra: {searchpath: [nowhere]}", "FC0104", 14, 22, None),
        ("seed: 0", "seed: ???", "FC0122", 14, 7, "write `seed=...`"),
    ],
)
def test_a_wrong_line_names_its_place(
    refused: Refuse, old: str, new: str, code: str, line: int, column: int, advice: str | None
) -> None:
    one = refused(changed(old, new))[0]
    assert (one.code, one.place.line, one.place.column) == (code, line, column)
    assert advice is None or one.help == advice


def test_a_main_file_needs_no_defaults(composed: Compose) -> None:
    assert composed({"configs/main.yaml": "a: 1\n"}).document.data == {"a": 1}
    assert composed({"configs/main.yaml": ""}).document.data == {}


def test_a_config_extends_another(composed: Compose) -> None:
    texts = {
        **DIGITS,
        "configs/word.yaml": DIGITS["configs/main.yaml"],
        "configs/main.yaml": "defaults: [word, override pivot: other, _self_]\nseed: 5\n",
    }
    made = composed(texts)
    assert made.document.data["model"]["flow"]["residual"] == {"through": "GELU"}
    assert made.document.data["seed"] == 5
    assert made.choices["pivot"] == "other"


def test_groups_are_found_up_to_the_config_root(composed: Compose) -> None:
    texts = {**DIGITS, "configs/deep/er/main.yaml": DIGITS["configs/main.yaml"]}
    assert composed(texts, "pivot=other", main="configs/deep/er/main.yaml").choices["pivot"] == "other"


def test_without_a_config_root_only_the_own_folder_counts(tmp_path: Path, rules: MergeRules) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/pivot").mkdir()
    (tmp_path / "a/pivot/x.yaml").write_text("a: 1")
    (tmp_path / "a/b/main.yaml").write_text("defaults: [_self_, {pivot: x}]")
    with pytest.raises(ConfigError, match="no config group `pivot`"):
        compose(tmp_path / "a/b/main.yaml", [], rules)


def test_toml_and_yaml_configs_mix(composed: Compose) -> None:
    main = (
        'defaults = ["_self_", {optimizer = "sgd"}, {pivot = "other"}]\n[model.flow]\nresidual = "ReLU"\na = "GELU"\n'
    )
    made = composed({**DIGITS, "configs/main.toml": main}, main="configs/main.toml")
    assert made.document.data["model"]["flow"] == {"residual": {"through": "GELU"}, "a": "GELU"}


def test_two_files_of_one_name_are_refused(refused: Refuse) -> None:
    (one,) = refused({**DIGITS, "configs/optimizer/adamw.toml": "lr = 1"})
    assert one.code == "FC0104"
    assert "`adamw.yaml` and `adamw.toml`" in one.message


def test_mistakes_in_a_group_have_their_own_file(refused: Refuse) -> None:
    (one,) = refused({**DIGITS, "configs/optimizer/adamw.yaml": "lr: 1\nlr: 2\n"})
    assert (one.code, Path(str(one.place.file)).name, one.place.line) == ("FC0003", "adamw.yaml", 2)


LETTERS = {
    "configs/main.yaml": """
        defaults:
          - _self_
          - graph@model.flow.letter.graph: letter
        model:
          flow:
            stem: ReLU
            letter: {frozen: true}
        """,
    "configs/graph/letter.yaml": "flow: {act: ReLU}\n",
    "configs/graph/letter_v2.yaml": "defaults: [letter, _self_]\nflow: {act: GELU}\n",
}


def test_a_group_is_mounted_by_its_package(composed: Compose) -> None:
    made = composed(LETTERS)
    path = ("model", "flow", "letter", "graph")
    assert made.document.data["model"]["flow"]["letter"] == {"frozen": True, "graph": {"flow": {"act": "ReLU"}}}
    mount = made.document.origins.mounts[path]
    assert (mount.name, Path(mount.file).name, mount.place.line) == ("graph/letter", "letter.yaml", 4)
    made = composed(LETTERS, "graph@model.flow.letter.graph=letter_v2")
    assert made.document.data["model"]["flow"]["letter"]["graph"] == {"flow": {"act": "GELU"}}
    assert made.document.origins.mounts[path].place.word == "graph@model.flow.letter.graph=letter_v2"
    made = composed(LETTERS, "~graph@model.flow.letter.graph", "+graph@model.flow.extra.graph=letter")
    assert list(made.document.data["model"]["flow"]) == ["stem", "letter", "extra"]


NAMED = {
    "configs/main.yaml": """
        model:
          flow:
            letters:
              map: {graph: fbrl/letter, frozen: true}
              over: where
            other: {graph: graph/fbrl/part.yaml}
            plain: {through: Foo, with: {graph: not_a_graph}}
        data: {graph: not_a_graph}
        """,
    "configs/graph/fbrl/letter.yaml": "inputs: {x: [B]}\nflow:\n  read: Linear(3, 4)\n  sub: {graph: part.yaml}\n",
    "configs/graph/fbrl/part.yaml": "flow: {a: GELU}\n",
}


def test_graphs_by_name_become_their_documents(composed: Compose) -> None:
    made = composed(NAMED)
    flow = made.document.data["model"]["flow"]
    part = {"flow": {"a": "GELU"}}
    letter = {"inputs": {"x": ["B"]}, "flow": {"read": "Linear(3, 4)", "sub": {"graph": part}}}
    assert flow["letters"]["map"] == {"graph": letter, "frozen": True}
    assert flow["other"] == {"graph": part}
    assert flow["plain"]["with"] == made.document.data["data"] == {"graph": "not_a_graph"}
    mounts = {".".join(map(str, path)): mount.name for path, mount in made.document.origins.mounts.items()}
    assert mounts == {
        "model.flow.letters.map.graph": "fbrl/letter",
        "model.flow.letters.map.graph.flow.sub.graph": "part.yaml",
        "model.flow.other.graph": "graph/fbrl/part.yaml",
    }


def test_a_pivot_changes_members_inside_a_named_graph(composed: Compose) -> None:
    pivot = "# @package _global_\nmodel:\n  flow:\n    letters: {map: {graph: {flow: {read: {frozen: true}}}}}\n"
    main = "defaults: [_self_, {pivot: null}]" + NAMED["configs/main.yaml"].replace("\n        ", "\n")
    texts = {**NAMED, "configs/main.yaml": main, "configs/pivot/p.yaml": pivot}
    letter = composed(texts, "pivot=p").document.data["model"]["flow"]["letters"]["map"]["graph"]
    assert letter["flow"]["read"] == {"through": "Linear(3, 4)", "frozen": True}


@pytest.mark.parametrize(
    ("name", "code", "advice"),
    [
        ("fbrl/lettr", "FC0105", "write `fbrl/letter`"),
        ("graph/fbrl/prt.yaml", "FC0105", "write `graph/fbrl/part.yaml`"),
        ("../outside.yaml", "FC0105", None),
        ("/etc/passwd.yaml", "FC0105", None),
        ("../../outside", "FC0105", None),
        ("x" * 5000, "FC0105", None),
    ],
)
def test_a_graph_that_is_not_there(refused: Refuse, name: str, code: str, advice: str | None) -> None:
    texts = {**NAMED, "outside.yaml": "flow: {}", "configs/main.yaml": f"model: {{flow: {{a: {{graph: {name}}}}}}}"}
    (one,) = refused(texts)
    assert (one.code, one.place.line, one.place.column, one.path) == (code, 1, 27, "model.flow.a.graph")
    assert advice is None or one.help == advice


def test_graphs_that_contain_each_other(refused: Refuse) -> None:
    texts = {
        "configs/main.yaml": "model: {flow: {s: {graph: a}}}",
        "configs/graph/a.yaml": "flow: {s: {graph: b}}",
        "configs/graph/b.yaml": "flow: {s: {graph: a}}",
    }
    (one,) = refused(texts)
    assert (one.code, Path(str(one.place.file)).name) == ("FC0106", "b.yaml")


def test_a_named_graph_has_no_defaults_list(refused: Refuse) -> None:
    (one,) = refused({**LETTERS, "configs/main.yaml": "model: {flow: {a: {graph: letter_v2}}}"})
    assert (one.code, one.place.line, Path(str(one.labels[0].place.file)).name) == ("FC0104", 1, "letter_v2.yaml")


@pytest.mark.parametrize(
    "texts",
    [
        {"configs/main.yaml": "defaults: [word, _self_]", "configs/word.yaml": "defaults: [main]"},
        {
            "configs/main.yaml": "defaults: [_self_, {g: a}]",
            "configs/g/a.yaml": "defaults: [b]",
            "configs/g/b.yaml": "defaults: [a]",
        },
    ],
)
def test_defaults_lists_that_include_each_other(refused: Refuse, texts: dict[str, str]) -> None:
    assert refused(texts)[0].code == "FC0106"


def test_compositions_that_grow_without_bound(refused: Refuse) -> None:
    lists = {f"configs/a{i}.yaml": f"defaults: [a{i + 1}@x, a{i + 1}@y]" for i in range(30)}
    lists["configs/a30.yaml"] = "x: 1"
    start = time.process_time()
    assert refused({"configs/main.yaml": "defaults: [_self_, a0@x]", **lists})[0].code == "FC0104"
    steps = "flow: {" + ", ".join(f"s{j}: {{graph: GRAPH}}" for j in range(10)) + "}"
    graphs = {f"configs/graph/a{i}.yaml": steps.replace("GRAPH", f"a{i + 1}") for i in range(20)}
    graphs["configs/graph/a20.yaml"] = "flow: {x: ReLU}"
    assert refused({"configs/main.yaml": "model: {flow: {s: {graph: a0}}}", **graphs})[0].code == "FC0006"
    assert time.process_time() - start < 8


def test_search_path_of_the_main_file_and_the_command_line(composed: Compose) -> None:
    main = "defaults: [_self_, {extra: a}]\nhydra: {searchpath: [../more]}\n"
    assert composed({"configs/main.yaml": main, "more/extra/a.yaml": "q: 1"}).document.data == {"extra": {"q": 1}}
    main = "defaults: [_self_, {extra: a}]\n"
    made = composed({"configs/main.yaml": main, "more/extra/a.yaml": "q: 2"}, "hydra.searchpath=[more]")
    assert made.document.data == {"extra": {"q": 2}}


def test_a_graph_file_by_itself(files: Callable[[dict[str, str]], Path], rules: MergeRules) -> None:
    folder = files(NAMED)
    document = compose(folder / "configs/graph/fbrl/letter.yaml", [], rules).document
    assert document.data["flow"]["sub"] == {"graph": {"flow": {"a": "GELU"}}}
    assert list(document.origins.mounts) == [("flow", "sub", "graph")]


def test_nothing_is_written_and_the_current_folder_stays(composed: Compose, tmp_path: Path) -> None:
    before = logging.getLogger().handlers[:]
    composed(DIGITS, "pivot=other")
    assert Path.cwd() == tmp_path
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["configs", "pyproject.toml"]
    assert logging.getLogger().handlers == before


def test_warnings_of_all_files_are_kept(composed: Compose) -> None:
    made = composed({**DIGITS, "configs/optimizer/adamw.yaml": "name: adamw\nlr: 012\n"})
    assert [(one.code, one.place.line) for one in made.document.warnings] == [("FC0008", 2)]


def test_a_composition_is_quick(composed: Compose) -> None:
    composed(DIGITS)
    start = time.process_time()
    composed(DIGITS, "pivot=other", "model.flow.stem=Linear(1, 2)")
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("text", ["seed: 0\n", "# a word\nmodel: {params: {a: 1}}\nseed: ${model.params.a}\n"])
def test_a_file_that_stands_alone_is_composed_as_by_hydra(
    text: str, composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = composed({"configs/main.yaml": text})
    monkeypatch.setattr("flowconf.text.defaults.alone", lambda library: None)
    asked = composed({"configs/main.yaml": text})
    assert without.document.data == asked.document.data
    assert list(without.document.origins.items()) == list(asked.document.origins.items())
    assert without.choices == asked.choices
