"""Hostile input: each ends in a diagnostic, after at most twelve million calls and below 1 GB.

Every attack runs in a process of its own, forked from one that has imported everything (`attacked.py`).
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy
import pytest
import torch

CALLS = 12_000_000
MEMORY = 1_000_000_000
INPUT = "inputs: {x: [B, 4]}\n"
MOUNT = f"{INPUT}flow:\n  a:\n    through: Linear(4, 4)\n    checkpoint: "
CONFIG = """\
model:
  inputs: {image: [B, 64]}
  flow:
    logits:
      through: Linear(64, 10)
      checkpoint: {config: %s, at: logits}
data: {name: digits}
loss: {label: {fn: cross_entropy, input: logits, target: label}}
"""


@dataclass(frozen=True)
class Attack:
    """What is laid out in an empty folder, the command, and what it must be refused with (None: it is harmless)."""

    name: str
    codes: str | None
    files: dict[str, str | bytes | Callable[[Path], object]]
    command: tuple[str, ...] = ("check", "a.yaml")


def flow(name: str, codes: str | None, steps: str, head: str = INPUT, command: str = "check") -> Attack:
    indented = "".join(f"  {line}\n" for line in steps.split("\n"))
    return Attack(name, codes, {"a.yaml": f"{head}flow:\n{indented}"}, (command, "a.yaml"))


NUMBERS = [
    flow("a giant layer", "FC0202", "a: Linear(10**9, 10**9)", "inputs: {x: [B, 1000000000]}\n"),
    flow("a giant layer, built", "FC0202", "a: Linear(10**9, 10**9)", "inputs: {x: [B, 1000000000]}\n", "summary"),
    flow("a giant table", "FC0202", "a: Embedding(10**15, 10**3)", "inputs: {x: {shape: [B], dtype: int64}}\n"),
    flow(
        "a layer too large for the machine",
        "FC0202 FC0601",
        "a: Linear(10**9, 10**3)",
        "inputs: {x: [B, 1000000000]}\n",
        "summary",
    ),
    flow("layers without end", "FC0202", "a:\n  through: LSTM(4, 4, 10**9)\n  take: 0", "inputs: {x: [B, 3, 4]}\n"),
    flow("giant learned values", "FC0201", "a: Learned(10**9, 10**9)"),
    flow("a giant kernel", "FC0202", "a: Conv2d(4, 4, 10**9)", "inputs: {x: [B, 4, 8, 8]}\n"),
    flow("a giant output", None, "a: Upsample(scale_factor=10**6)", "inputs: {x: [B, 4, 8, 8]}\n"),
    Attack(
        "a giant patch",
        "FC0201 FC0202",
        {
            "a.yaml": "inputs: {x: [B, 1, 8, 8], at: [B, 2]}\n"
            "flow: {a: {through: 'Glimpse([10**9, 10**9])', using: at}}\n",
            "pyproject.toml": "[tool.flowconf]\nmodules = ['flowconf.fbrl.offers']\n",
        },
    ),
    flow("a giant input", "FC0123 FC0202 FC0201", "a: Identity", "inputs: {x: [1000000000000, 1000000000000]}\n"),
    flow("a giant reshape", "FC0201", "a: Reshape(10**9, 10**9)"),
    flow("many copies", "FC0123", "a: {also: 'Linear(4, 4)', repeat: 1000000000}"),
    flow(
        "copies of copies",
        "FC0202 FC0123",
        "a:\n  repeat: 100000\n  graph:\n    flow:\n      b:\n        repeat: 100000\n        also: Linear(4, 4)",
    ),
    flow(
        "copies of copies, built",
        "FC0202 FC0123",
        "a:\n  repeat: 100000\n  graph:\n    flow:\n      b:\n        repeat: 100000\n        also: Linear(4, 4)",
        command="summary",
    ),
    flow("many iterations", "FC0123", "a: {loop: 'Linear(4, 4)', times: 1000000000}"),
    flow("many slices", "FC0123 FC0201", "a: {map: 'Linear(4, 4)', slices: 1000000000}"),
    flow("a power of powers", "FC0131", "a: Linear(9**9**9**9, 4)"),
    flow("a number of many digits", "FC0131", f"a: Linear({'9' * 5000}, 4)"),
    flow("a number beyond floats", "FC0131 FC0133", "a: Dropout(1e999)"),
    flow("a list times a number", "FC0131", "a: Constant([0] * 10**9)"),
    flow("a text times a number", "FC0131", "a: Linear('a' * 10**9, 4)"),
    flow("a giant dimension", "FC0201", "a: {map: 'Linear(4, 4)', dim: 1000000000000000000000}"),
    flow(
        "a giant part", "FC0201", "a: {through: 'GRU(4, 4)', take: 1000000000000000000000}", "inputs: {x: [B, 3, 4]}\n"
    ),
    flow("a giant initial value", "FC0207", f"a: {{through: 'Linear(4, 4)', init: {{bias: [{'0, ' * 10000}0]}}}}"),
    flow(
        "an initial value beyond floats",
        "FC0123 FC0207 FC0131",
        "a: {through: 'Linear(4, 4)', init: {bias: normal(std=1e999)}}",
    ),
    flow("an initial value beyond float32", "FC0123", "a: {through: 'Linear(4, 4)', init: {bias: 1e300}}"),
    flow("initial values beyond float32", "FC0123", "a: {through: 'Linear(4, 4)', init: {bias: [0, 0, 1e39, 0]}}"),
    flow("a scale beyond float32", "FC0123", "a: {through: 'Linear(4, 4)', init: {bias: {scale: -1e300}}}"),
    flow("a parameter beyond float32", "FC0123", "a: Constant(n)", f"{INPUT}params: {{n: 1e300}}\n"),
    flow(
        "a parameter with a list beyond float32",
        "FC0123",
        "a: Constant(n)",
        f"{INPUT}params: {{n: [1, 1{'0' * 50}]}}\n",
    ),
    flow(
        "a parameter of a mount beyond float32",
        "FC0123",
        "a: {with: {n: 1e300}, graph: {params: {n: 1}, flow: {b: Constant(n)}}}",
    ),
    Attack(
        "a giant override",
        "FC0123",
        {"a.yaml": f"{INPUT}params: {{n: 2}}\nflow:\n  a: {{also: 'Linear(4, 4)', repeat: n}}\n"},
        ("check", "a.yaml", "params.n=1000000000"),
    ),
    Attack(
        "a number of many digits and underscores",
        "FC0123",
        {"a.yaml": "model: {inputs: {x: [B, 4]}, flow: {a: ReLU}}\n"},
        ("check", "a.yaml", "seed=" + "1_" * 15000),
    ),
]

DEPTH = [
    flow("many brackets", "FC0131", f"a: Linear({'(' * 5000}4{')' * 5000}, 4)"),
    flow("many lists", "FC0131", f"a: 'Constant({'[' * 5000}{']' * 5000})'"),
    flow("many signs", "FC0131", f"a: Linear({'-' * 9000}4, 4)"),
    flow("many nested calls", "FC0131", f"a: {'Linear(' * 3000}4{')' * 3000}"),
    flow("a long sum", "FC0131 FC0201 FC0133", f"a: Linear({'1+' * 9000}1, 4)"),
    flow("a long chain", "FC0131", f"a: {' >> '.join(['ReLU'] * 5000)}"),
    flow("a chain of a thousand", None, f"a: {' >> '.join(['ReLU'] * 1000)}"),
    flow("many steps", None, "\n".join(f"a{i}: ReLU" for i in range(1000))),
    flow("many wrong steps", "FC0132", "\n".join(f"a{i}: ReLUU" for i in range(3000))),
    flow("many branches", None, "a:\n  merge: add\n  split:\n" + "\n".join(f"    b{i}: ReLU" for i in range(1000))),
    flow("a long name", "FC0002", f"{'a' * 20000}: ReLU"),
    flow("a long reference", "FC0141", f"a: {{through: ReLU, from: {'a.' * 20000}a}}"),
    flow("a reference to a later step with a dot at its end", "FC0141", "a: {through: ReLU, from: a.}"),
    flow("a long path of reuse", "FC0141", f"a: {{reuse: {'a.' * 20000}a}}"),
    Attack(
        "a deep key on the command line",
        "FC0103",
        {"a.yaml": f"{INPUT}flow:\n  a: ReLU\n"},
        ("check", "a.yaml", "a." * 5000 + "a=1"),
    ),
    Attack(
        "a deep value on the command line",
        "FC0103",
        {"a.yaml": f"{INPUT}flow:\n  a: ReLU\n"},
        ("check", "a.yaml", "flow.a=" + "[" * 5000 + "]" * 5000),
    ),
    Attack(
        "deep inline graphs",
        "FC0006",
        {"a.yaml": INPUT + "flow: " + "{a: {graph: {flow: " * 60 + "{b: ReLU}" + "}}}" * 60 + "\n"},
    ),
    Attack(
        "inline graphs, twenty deep",
        None,
        {"a.yaml": INPUT + "flow: " + "{a: {graph: {flow: " * 20 + "{b: ReLU}" + "}}}" * 20 + "\n"},
    ),
]

BOMB = "x0: &x0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
TEXT: list[Attack] = [
    Attack(
        "an alias bomb",
        "FC0005",
        {"a.yaml": f"{INPUT}flow:\n  a: ReLU\nparams:\n" + "".join(f"  {line}\n" for line in BOMB.splitlines())},
    ),
    Attack("a binary file", "FC0001", {"a.yaml": bytes(range(256)) * 100}),
    Attack("another encoding", "FC0001", {"a.yaml": "flow: {a: 'é'}".encode("latin-1")}),
    Attack("a wide encoding", "FC0001", {"a.yaml": "flow: {a: ReLU}".encode("utf-16")}),
    Attack("a large file", "FC0001", {"a.yaml": b"#" * 5_000_000}),
    Attack("an empty file", "FC0122", {"a.yaml": ""}),
    Attack("one number", "FC0002 FC0123 FC0122", {"a.yaml": "3"}),
    Attack("a list", "FC0002 FC0123 FC0122", {"a.yaml": "[1, 2]"}),
    Attack("a pipe without a writer", "FC0001", {"a.yaml": lambda path: os.mkfifo(path)}),
    Attack("a device without an end", "FC0001", {}, ("check", "/dev/zero")),
    Attack("a link to itself", "FC0001", {"a.yaml": lambda path: path.symlink_to(path)}),
    Attack("a tag that names code", "FC0004", {"a.yaml": "flow: !!python/object/apply:os.system ['touch hacked']\n"}),
    Attack(
        "a target of Hydra",
        "FC0108",
        {"a.yaml": f"hydra: {{sweeper: {{_target_: os.system}}}}\n{INPUT}flow:\n  a: ReLU\n"},
    ),
    Attack("control characters", "FC0002", {"a.yaml": f"{INPUT}flow:\n  a: \x1b[31mReLU\n"}),
    flow("code in a call", "FC0131 FC0132", "a: __import__('os').system('touch hacked')"),
    flow("code in an argument", "FC0131", "a: Linear(4, ().__class__.__bases__[0].__subclasses__())"),
    flow("a walrus", "FC0131", "a: 'Linear((x := 4), 4)'"),
    flow("an f-string", "FC0131", "a: Linear(f'{open}', 4)"),
]

LOOP = "inputs: {x: [B, 4]}\nflow:\n  a: {graph: %s}\n"
PATHS = [
    Attack(
        "graphs in a circle", "FC0106", {"a.yaml": LOOP % "b", "graph/b.yaml": LOOP % "c", "graph/c.yaml": LOOP % "b"}
    ),
    Attack("graph files in a circle", "FC0106", {"a.yaml": LOOP % "b.yaml", "b.yaml": LOOP % "a.yaml"}),
    Attack(
        "defaults in a circle",
        "FC0106 FC0104",
        {"a.yaml": "defaults:\n  - _self_\n  - b\n", "b.yaml": "defaults:\n  - c\n", "c.yaml": "defaults:\n  - b\n"},
    ),
    Attack("stages in a circle", "FC0404", {"a.yaml": CONFIG % "b.yaml", "b.yaml": CONFIG % "a.yaml"}),
    Attack("a stage that waits for itself", "FC0404", {"a.yaml": CONFIG % "a.yaml"}),
    Attack(
        "twice the graphs at each level",
        "FC0006",
        {
            "a.yaml": LOOP % "g0",
            **{
                f"graph/g{i}.yaml": f"{INPUT}flow:\n  a: {{graph: g{i + 1}}}\n  b: {{graph: g{i + 1}}}\n"
                for i in range(30)
            },
            "graph/g30.yaml": "flow: {a: ReLU}\n",
        },
    ),
    Attack("a graph above the configs", "FC0105", {"a.yaml": LOOP % "../../../../../../etc/hosts.yaml"}),
    Attack("a graph by an absolute path", "FC0105", {"a.yaml": LOOP % "/etc/passwd"}),
    Attack("a graph above, without an ending", "FC0105", {"a.yaml": LOOP % "../../../../etc/passwd"}),
    Attack("a graph with a NUL in its name", "FC0126", {"a.yaml": LOOP % '"b\\0.yaml"'}),
    Attack("a graph with a long name", "FC0105", {"a.yaml": LOOP % ("b" * 5000)}),
    Attack("a graph that is a folder", "FC0105", {"a.yaml": LOOP % "b.yaml", "b.yaml/c.yaml": ""}),
    Attack("a checkpoint that is a device", "FC0301", {"a.yaml": f"{MOUNT}/dev/zero\n"}, ("build", "a.yaml")),
    Attack(
        "a checkpoint that is a pipe",
        "FC0301",
        {"a.yaml": f"{MOUNT}b.safetensors\n", "b.safetensors": lambda path: os.mkfifo(path)},
        ("build", "a.yaml"),
    ),
    Attack(
        "a checkpoint with a NUL in its name", "FC0301", {"a.yaml": MOUNT + '"b\\0.safetensors"\n'}, ("build", "a.yaml")
    ),
    Attack(
        "a checkpoint with a long name", "FC0301", {"a.yaml": f"{MOUNT}{'b' * 5000}.safetensors\n"}, ("build", "a.yaml")
    ),
    Attack(
        "a checkpoint that is a password file",
        "FC0301",
        {"a.yaml": f"{MOUNT}../../../../../../../etc/passwd\n"},
        ("build", "a.yaml"),
    ),
    Attack(
        "a checkpoint in a broken run folder",
        "FC0301",
        {"a.yaml": f"{MOUNT}run\n", "run/run.json": "[" * 100_000},
        ("build", "a.yaml"),
    ),
    Attack(
        "a config in a circle of links",
        "FC0301",
        {"a.yaml": CONFIG % "b.yaml", "b.yaml": lambda path: path.symlink_to(path)},
    ),
    Attack(
        "a config beside links to themselves",
        "FC0101",
        {
            "a.yaml": f"defaults: [{{size: huge}}, wrong, _self_]\n{INPUT}flow:\n  a: ReLU\n",
            "size/small.yaml": "params: {n: 2}\n",
            "size/b.yaml": lambda path: path.symlink_to(path),
            "size/below/c": lambda path: path.symlink_to(path.parent),
            "b.yaml": lambda path: path.symlink_to(path),
        },
    ),
    Attack(
        "a default out of the folders",
        "FC0101",
        {
            "in/a.yaml": f"defaults: [../../b/c, _self_]\n{INPUT}flow:\n  a: ReLU\n",
            "b.yaml": lambda path: path.symlink_to(path),
        },
        ("check", "in/a.yaml"),
    ),
]


def far_too_large(path: Path) -> None:
    """An archive whose array has 16 TB by its header, and no data."""
    head = numpy.lib.format.header_data_from_array_1_0(numpy.zeros((4, 4), "f4")) | {"shape": (10**12, 4)}
    with zipfile.ZipFile(path, "w") as archive, archive.open("x.npy", "w") as stream:
        numpy.lib.format.write_array_header_1_0(stream, head)


ARRAYS = "model: {inputs: {x: [B, 4]}, flow: {y: 'Linear(4, 4)'}}\nloss: {l: {fn: mse, input: y, target: x}}\n"
DATA = [
    Attack(
        "an archive that is larger than the memory",
        "FC0601",
        {"a.yaml": f"{ARRAYS}data: {{name: arrays, train: a.npz}}\ntrainer: {{steps: 1}}\n", "a.npz": far_too_large},
        ("train", "a.yaml"),
    ),
]


def header(text: str | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(shape: str, end: int, start: int = 0, dtype: str = "F32") -> str:
    return f'"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]'


def tensors(**entries: str) -> str:
    return "{" + ",".join(f'"{name}":{{{said}}}' for name, said in entries.items()) + "}"


class Hacked:
    """A pickle that runs a program."""

    def __reduce__(self):
        return os.system, ("touch hacked",)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Hacked()))
        archive.writestr("archive/version", "3")


def torch_pickle(path: Path) -> None:
    torch.save({"weight": Hacked()}, path)


WHOLE = header(tensors(weight=entry("[4,4]", 64), bias=entry("[4]", 80, 64)), b"\0" * 80)
WEIGHTS: list[tuple[str, str, bytes | Callable[[Path], object]]] = [
    ("empty", "b.safetensors", b""),
    ("seven bytes", "b.safetensors", b"1234567"),
    ("a header beyond the file", "b.safetensors", header("{}", length=2**40)),
    ("a header of the largest length", "b.safetensors", header("{}", length=2**64 - 1)),
    ("a header of spaces", "b.safetensors", header(b" " * 50_000_000)),
    ("a header that is no JSON", "b.safetensors", header("{weight")),
    ("a deep header", "b.safetensors", header("[" * 200_000)),
    ("data beyond the file", "b.safetensors", header(tensors(weight=entry("[4,4]", 2**40)))),
    ("cut data", "b.safetensors", WHOLE[:-20]),
    ("more data than tensors", "b.safetensors", WHOLE + b"\0" * 100),
    (
        "tensors over each other",
        "b.safetensors",
        header(tensors(weight=entry("[4,4]", 64), bias=entry("[4]", 64, 48)), b"\0" * 64),
    ),
    (
        "a giant shape",
        "b.safetensors",
        header(tensors(weight=entry("[9223372036854775807,9223372036854775807]", 64)), b"\0" * 64),
    ),
    (
        "many tensors",
        "b.safetensors",
        header(tensors(**{f"a{i}": entry("[1]", 4 * i + 4, 4 * i) for i in range(20_000)}), b"\0" * 80_000),
    ),
    ("a negative shape", "b.safetensors", header(tensors(weight=entry("[-4,-4]", 64)), b"\0" * 64)),
    ("an unknown dtype", "b.safetensors", header(tensors(weight=entry("[4,4]", 64, dtype="X9")), b"\0" * 64)),
    ("offsets the wrong way round", "b.safetensors", header(tensors(weight=entry("[4,4]", 0, 64)), b"\0" * 64)),
    ("a pickle by another name", "b.safetensors", pickle.dumps(Hacked())),
    ("a text", "b.safetensors", b"flow: {a: ReLU}\n" * 100),
    (
        "an index of itself",
        "b.safetensors.index.json",
        b'{"weight_map": {"weight": "b.safetensors.index.json", "bias": "b.safetensors.index.json"}}',
    ),
    ("a pickle", "b.pt", pickle.dumps(Hacked())),
    ("a pickle in a zip", "b.pt", zipped),
    ("a pickle in torch's format", "b.pt", torch_pickle),
    ("an empty pickle", "b.pt", b""),
    ("a cut zip", "b.pth", b"PK\x03\x04" + b"\0" * 100),
    ("a deep pickle", "b.pt", b"\x80\x02" + b"]" * 100_000 + b"."),
    ("a pickle that allocates", "b.pt", b"\x80\x04" + b"\x8e" + struct.pack("<Q", 2**40) + b"."),
]
LOADED = [
    Attack(
        f"weights: {name}",
        "FC0301 FC0302 FC0303 FC0305",
        {"a.yaml": f"{MOUNT}{file}\n", file: content},
        ("build", "a.yaml"),
    )
    for name, file, content in WEIGHTS
]
ATTACKS = [*NUMBERS, *DEPTH, *TEXT, *PATHS, *DATA, *LOADED]


@pytest.fixture(scope="session")
def server() -> Iterator[subprocess.Popen[str]]:
    program = Path(__file__).parent / "attacked.py"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, program], stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def lay_out(attack: Attack, folder: Path) -> None:
    for name, content in attack.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_ends_in_a_diagnostic(attack, server, tmp_path):
    lay_out(attack, tmp_path)
    before = {path for path in tmp_path.rglob("*") if not path.is_symlink()}
    server.stdin.write(json.dumps([str(tmp_path), attack.command]) + "\n")
    server.stdin.flush()
    answer = json.loads(server.stdout.readline())
    assert "died" not in answer
    shown = answer["printed"][:2000]
    if attack.codes is None:
        assert answer["code"] == 0, shown
    else:
        assert answer["code"] in (2, 3), shown
        assert any(f"error[{code}]" in answer["printed"] for code in attack.codes.split()), shown
    assert "Traceback" not in shown
    assert len(answer["printed"]) < 500_000
    assert answer["calls"] < CALLS, shown
    assert answer["memory"] < MEMORY, shown
    assert {path for path in tmp_path.rglob("*") if not path.is_symlink()} == before
