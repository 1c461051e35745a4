"""Text of a document, of a run folder and of the command line, through every command, to every target.

Each field is given texts that would be code, markup, an annotation or a control sequence if any command wrote them as
they are: into the Python source that is run or ejected, into DOT and SVG, into JSON lines, GitHub annotations, YAML, or
onto a terminal. Whether the text is refused or shown does not matter here; what it does must be nothing.
"""

from __future__ import annotations

import ast
import copy
import json
import shutil
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml

import flowconf
from flowconf.cli.main import main
from flowconf.report import FlowconfError
from tests.train.conftest import Folder

RAN = "ran"
PAYLOADS = {
    "a Python call": f"0\"), __import__('os').system('touch {RAN}'), (\"",
    "a Python statement": f'""";import os;os.system("touch {RAN}");"""',
    "a Python text": f"' + __import__('os').system('touch {RAN}') + '\\",
    "DOT and SVG": '&#27;</text><script/>"]; x [URL="javascript:alert(1)", label=<<b>y</b>>, z="\\N\\',
    "a terminal": "\x1b]0;evil\x07\x1b[2J\x9b31m\u202eevil\u2028",
    "JSON and GitHub": '"}\n{"code": "evil"}\n::error file=evil::evil\r##[error]evil%0A',
    "YAML": f"a: b # c\n? !!python/object/apply:os.system ['touch {RAN}']",
    "interpolation": "{0.__class__} %s ${oc.env:HOME} [red]evil[/red] :smile:",
}  # fmt: skip
WHOLE = "".join(PAYLOADS.values())
CONFIG: dict[str, Any] = {
    "model": {
        "label": "whole",
        "params": {"width": 8, "how": "tanh"},
        "inputs": {"image": {"shape": ["B", 8], "dtype": "float32"}},
        "flow": {
            "stem": {
                "through": "Linear(8, width)",
                "init": {"weight": "normal(std=0.1)"},
                "frozen": False,
                "tag": "first",
                "label": "base",
            },
            "act": "GELU(approximate=how)",
            "part": {"graph": "piece", "with": {"mode": "none"}, "label": "piece"},
            "both": {"split": {"a": "Identity", "b": "ReLU"}, "merge": "cat", "dim": 1, "using": {}},
            "gated": {"gate": {"a": "Linear(16, 8)", "b": "Linear(16, 8)"}, "router": "Linear(16, 2)"},
            "again": {"loop": "Linear(8, 8)", "times": 2},
            "logits": {"through": "Linear(8, 4)", "from": "again", "checkpoint": {"path": "w.safetensors", "at": "x"}},
        },
        "outputs": {"out": "logits"},
    },
    "data": {"name": "synthetic", "shape": [8], "classes": 4, "rows": 64, "batch_size": 32},
    "loss": {"label": {"fn": "cross_entropy", "input": "logits", "target": "label"}},
    "metrics": {"accuracy": {"fn": "accuracy", "input": "logits", "target": "label"}},
    "optimizer": {
        "name": "adamw",
        "lr": 0.01,
        "groups": {"stem": {"lr": 0.1}, "logits:bias": {"name": "sgd", "schedule": [{"name": "linear"}]}},
    },
    "turns": {"all": {"loss": ["label"], "updates": "**"}},
    "schedule": {"name": "constant"},
    "phases": {"warm": {"until": {"epoch": 1}, "freeze": "stem"}},
    "callbacks": {"seen": {"name": "Histograms", "every": 2, "read": ["logits"], "split": "val"}},
    "trainer": {
        "epochs": 1,
        "best": "val/accuracy",
        "devices": "cpu",
        "runs": "runs",
        "progress": False,
        "keep": {"best": 2, "every": 1},
        "statistics": {"every": 2, "of": ["weight"], "at": "stem"},
    },
    "seed": 0,
}
PIECE = {"params": {"mode": "tanh"}, "inputs": {"x": ["B", 8]}, "flow": {"a": "Identity('text')", "b": "GELU(mode)"}}
GRAPH = {"flow": {"a": {"through": "LSTM(4, 4)", "take": 0}, "b": {"through": "Identity('text')", "from": "a"}}}


def fields(data: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """The path of every key and of every value; a key's ends in `None`."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        if isinstance(key, str):
            yield (*path, key, None)
        if not isinstance(value, dict | list):
            yield (*path, key)
        yield from fields(value, (*path, key))


def with_text(data: Any, path: tuple[Any, ...], text: str) -> Any:
    """`data` with `text` as the value at a path, or as its key."""
    changed = copy.deepcopy(data)
    *above, last = path[:-1] if path[-1] is None else path
    inner = changed
    for step in above:
        inner = inner[step]
    if path[-1] is None:
        items = [(text if key == last else key, value) for key, value in inner.items()]
        inner.clear()
        inner.update(items)
    else:
        inner[last] = text
    return changed


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(capfd, *words: str) -> str:
    """What a command writes to standard output, after looking at all of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = main(list(words))
    out, err = capfd.readouterr()
    assert code in (0, 1, 2, 3), words
    for text in (out, err):
        steers = {letter for letter in text if not letter.isprintable() and letter not in "\n\t"}
        assert not steers, (words, steers, text)
        assert "Traceback" not in text, text
    assert not any(Path(at, RAN).exists() for at in (".", "..")), words
    return out


def looked_at(capfd, file: str, *words: str) -> None:
    """Every command that reads a config, and what it writes."""
    written(capfd, file, *words)
    call(capfd, "check", file, *words)
    plain = call(capfd, "check", "--format", "plain", file, *words)
    assert not any(line.startswith("::") for line in plain.splitlines())
    for command in ("summary", "draw"):
        call(capfd, command, file, *words)
    shown = call(capfd, "show", "--origin", file, *words)
    if shown:
        assert isinstance(yaml.safe_load(shown), dict)
    call(capfd, "diff", "--format", "json", file, file, *words)


def written(capfd, file: str, *words: str) -> None:
    """The commands of which the output is read by a machine."""
    lines = call(capfd, "check", "--format", "json", file, *words).splitlines()
    assert all(set(json.loads(line)) >= {"code", "message"} for line in lines)
    notes = call(capfd, "check", "--format", "github", file, *words).splitlines()
    assert len(notes) == len(lines)
    assert all(note.startswith(("::error ", "::warning ", "::error::", "::warning::")) for note in notes)
    call(capfd, "draw", file, *words, "-o", "picture.svg")
    call(capfd, "eject", file, *words, "-o", "model.py")
    if Path("picture.svg").exists():
        assert_is_a_picture(Path("picture.svg").read_bytes())
        Path("picture.svg").unlink()
    if Path("model.py").exists():
        assert_calls_nothing(Path("model.py").read_text(encoding="utf-8"))
        Path("model.py").unlink()


def assert_is_a_picture(svg: bytes) -> None:
    for element in ET.fromstring(svg).iter():
        assert not element.tag.endswith(("script", "foreignObject")), svg
        links = [value for name, value in element.attrib.items() if name.endswith("href")]
        assert not any(":" in link for link in links), links


def assert_calls_nothing(source: str) -> None:
    names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    assert not names & {"os", "__import__", "exec", "eval", "open"}, source


def lay_out(config: object = CONFIG, piece: object = PIECE, file: str = "a.yaml") -> str:
    Path("graph").mkdir(exist_ok=True)
    Path("graph/piece.yaml").write_text(yaml.safe_dump(piece, sort_keys=False))
    Path(file).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return file


DOCUMENTS = [("config", CONFIG, path) for path in fields(CONFIG)] + [("piece", PIECE, path) for path in fields(PIECE)]
SHOWN = [f"{kind}: {'.'.join(map(str, path))}" for kind, _, path in DOCUMENTS]


def laid_out(kind: str, data: Any, path: tuple[object, ...], text: str) -> str:
    changed = with_text(data, path, text)
    return lay_out(changed) if kind == "config" else lay_out(piece=changed)


def test_the_document_is_drawn_and_ejected(folder, capfd):
    file = lay_out()
    for command, output in (("draw", "a.svg"), ("eject", "a.py")):
        call(capfd, command, file, "-o", output)
        assert Path(output).exists()


@pytest.mark.parametrize(("kind", "data", "path"), DOCUMENTS, ids=SHOWN)
def test_a_text_in_a_field_does_nothing(kind, data, path, folder, capfd):
    written(capfd, laid_out(kind, data, path, WHOLE))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "data", "path"), DOCUMENTS, ids=SHOWN)
def test_each_text_in_a_field_does_nothing(kind, data, path, folder, capfd):
    for text in PAYLOADS.values():
        looked_at(capfd, laid_out(kind, data, path, text))


@pytest.mark.parametrize("path", list(fields(GRAPH)), ids=lambda path: ".".join(map(str, path)))
def test_a_text_in_a_graph_does_nothing_when_it_runs(path, folder):
    for text in [*PAYLOADS.values(), WHOLE]:
        try:
            graph = flowconf.build(with_text(GRAPH, path, text))
            assert_calls_nothing(graph.source)
            graph(torch.zeros(2, 3, 4))
        except FlowconfError:
            pass
        assert not Path(RAN).exists()


@pytest.mark.parametrize("text", PAYLOADS.values(), ids=PAYLOADS)
def test_a_text_in_a_call_is_a_text(text, folder, capfd):
    file = lay_out({"inputs": {"x": ["B", 4]}, "flow": {"a": f"Identity({text!r}, other={WHOLE!r})", "b": "ReLU"}})
    for command, output in (("draw", "a.svg"), ("eject", "a.py")):
        call(capfd, command, file, "-o", output)
    assert_is_a_picture(Path("a.svg").read_bytes())
    assert_calls_nothing(Path("a.py").read_text(encoding="utf-8"))
    looked_at(capfd, file)


SLOW = pytest.mark.slow
LINKED = {**PAYLOADS, "a link": "javascript:alert(1)"}
COMMON = ("a terminal", "a Python statement")
NAMES = [
    pytest.param(text.replace("/", "_")[:200], id=kind, marks=() if kind in COMMON else SLOW)
    for kind, text in LINKED.items()
]


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_file_does_nothing(name, folder, capfd):
    looked_at(capfd, lay_out(file=f"{name}.yaml"))
    Path(name).mkdir()
    looked_at(capfd, lay_out(file=f"{name}/{name}.yaml"))
    Path("graph", f"{name}.yaml").write_text(yaml.safe_dump(PIECE))
    looked_at(capfd, lay_out(with_text(CONFIG, ("model", "flow", "part", "graph"), name)))
    looked_at(capfd, lay_out(with_text(CONFIG, ("model", "flow", "part", "graph"), f"{name}/../graph/piece.yaml")))
    part = {"label": "part", "flow": {"a": "Identity"}}
    config = {"defaults": ["_self_", {"graph@model.flow.part.graph": name}], **CONFIG}
    config["model"] = {**CONFIG["model"], "flow": {**CONFIG["model"]["flow"], "part": {"graph": part}}}
    looked_at(capfd, lay_out(config))


COMMANDS = [
    ("check",), ("check", "a.yaml"), ("summary",), ("show",), ("draw", "a.yaml", "-o"), ("draw", "a.yaml", "--heat"),
    ("draw", "a.yaml", "--at"),
    ("eject", "a.yaml", "-o"), ("eject", "a.yaml", "--weights"), ("export", "a.yaml", "--at"),
    ("export", "a.yaml", "--size"), ("diff", "a.yaml"), ("diff", "a.yaml", "--before"), ("diff", "a.yaml", "--format"),
    ("explain",), ("report",), ("watch",), ("runs",), ("runs", ".", "--sort"), ("runs", ".", "--where"), ("weights",),
    ("eval",), ("predict", ".", "-o", "x.npz", "-i"), ("profile",), ("train",), ("train", "--resume"),
    ("train", "a.yaml", "-m"),
    ("import",), ("import", "torch.nn:ReLU", "--input"), ("schema", "--no"), ("no",),
    ("push",), ("push", "."), ("init",), ("init", "seals", "--name"), ("init", "--name", "seals"),
]  # fmt: skip


def test_a_word_of_the_command_line_does_nothing(folder, capfd):
    lay_out()
    for command in COMMANDS:
        for text in PAYLOADS.values():
            call(capfd, *command, text)


KEYS = [
    "model.label",
    "trainer.best",
    *(pytest.param(key, marks=SLOW) for key in ("model.flow.stem.tag", "model.flow.stem", "data.name", "seed")),
]


@pytest.mark.parametrize("key", KEYS)
def test_an_override_does_nothing(key, folder, capfd):
    for text in PAYLOADS.values():
        quoted = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
        for word in (f"{key}={text}", f"{key}={quoted}", f"+{key}.{text}=1", f"~{key}{text}"):
            lay_out()
            call(capfd, "check", "--format", "github", "a.yaml", word)
            call(capfd, "summary", "a.yaml", word)


# runs


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run that was trained for one epoch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("trained"))
        return Folder(Path.cwd()).train("trainer.epochs=1", "data.rows=64").folder


RECORD = ("id", "config", "overrides", "folder", "status", "seed", "started", "ended", "metrics", "git", "environment")


def use(capfd, run: str) -> None:
    """Every command that reads a run."""
    call(capfd, "runs", str(Path(run).parent))
    lines = call(capfd, "runs", str(Path(run).parent), "--format", "json").splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    call(capfd, "weights", run)
    call(capfd, "diff", run, run)
    call(capfd, "eval", run)
    call(capfd, "train", "--resume", run)


IN_RUNS = [path for path in fields(CONFIG) if path[0] in ("data", "loss", "metrics", "trainer")]


@pytest.fixture
def run(trained, folder):
    shutil.copytree(trained, folder / "runs" / "a" / "one")
    return Path("runs/a/one")


@pytest.mark.parametrize("key", RECORD)
def test_a_text_in_the_record_of_a_run_does_nothing(key, run, capfd):
    record = json.loads((run / "run.json").read_text())
    for text in (WHOLE, [WHOLE], {WHOLE: WHOLE}):
        (run / "run.json").write_text(json.dumps({**record, key: text}))
        use(capfd, str(run))


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_run_folder_does_nothing(name, run, capfd):
    other = run.with_name(name)
    run.rename(other)
    use(capfd, str(other))
    above = other.parent.with_name(name)
    other.parent.rename(above)
    use(capfd, str(above / name))


@pytest.mark.slow
@pytest.mark.parametrize("path", IN_RUNS, ids=lambda path: ".".join(map(str, path)))
def test_a_text_in_the_config_of_a_run_does_nothing(path, run, capfd):
    config = yaml.safe_load((run / "config.yaml").read_text())
    try:
        (run / "config.yaml").write_text(yaml.safe_dump(with_text(config, path, WHOLE)))
    except KeyError:
        pytest.skip("the run's config has no such key")
    use(capfd, str(run))


def test_names_and_words_of_a_checkpoint_do_nothing(run, capfd):
    for file in run.rglob("*.safetensors"):
        tensors = {f"{WHOLE}.{name}": tensor for name, tensor in safetensors.torch.load_file(file).items()}
        safetensors.torch.save_file(tensors, file, {WHOLE: WHOLE, "label": WHOLE, "graph": WHOLE, "step": WHOLE})
    use(capfd, str(run))
    lay_out(with_text(CONFIG, ("model", "flow", "logits", "checkpoint", "path"), str(run)))
    for command in ("check", "export", "train"):
        call(capfd, command, "a.yaml")


@pytest.mark.parametrize("file", ["metrics.jsonl", "weights.txt", "graph.dot", "origins.json"])
def test_a_text_in_another_file_of_a_run_does_nothing(file, run, capfd):
    (run / file).write_text(WHOLE)
    use(capfd, str(run))
