"""How long commands take: to start, and on graphs of many members.

    python benchmarks/commands.py [--rounds 5] [--most 4000] [--out FOLDER]

Each command is a new process; its time is the CPU time of it and its children, and a row shows the median with the
lowest and the highest. `import torch` alone, measured in the same rounds, is what a command with torch cannot be
faster than.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from table import Table

ROOT = Path(__file__).parent.parent
FLOWCONF = [sys.executable, "-m", "flowconf"]
TRAINING = """
data: {name: synthetic, shape: [4], rows: 64, validation: 0.25, test: 0, classes: 4, batch_size: 2}
loss:
  label: {fn: cross_entropy, input: last, target: label}
optimizer: {name: adamw, lr: 0.001}
trainer: {steps: 4, devices: cpu}
"""
PART = "inputs: {x: [B, 4]}\nflow: {a: 'Linear(4, 4)', b: ReLU, c: 'Linear(4, 4)'}\n"


def seconds(words: Sequence[str], folder: Path) -> float:
    """The CPU time of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def shown(times: Sequence[float]) -> str:
    return f"{statistics.median(times):.2f} ({min(times):.2f}–{max(times):.2f})"


def start(rounds: int, folder: Path) -> Table:
    """The time of every command on a small config."""
    about = (
        "A new process on `configs/digits.yaml`, to its end: CPU seconds, the median and the range of the "
        "rounds. A command that needs torch cannot be faster than `import torch`."
    )
    table = Table("start", "The start of a command", about, ["command", "seconds", "more than `import torch`"])
    shutil.copytree(ROOT / "configs", folder / "configs")
    file = "configs/digits.yaml"
    subprocess.run([*FLOWCONF, "train", file, "trainer.steps=1"], check=True, cwd=folder, capture_output=True)
    run = str(next((folder / "runs").glob("*/*/")).relative_to(folder))
    commands = {
        "import torch": [sys.executable, "-c", "import torch"],
        **{
            " ".join(words): [*FLOWCONF, *words]
            for words in (["--help"], ["explain", "FC0203"], ["runs"], ["show", file])
        },
        **{f"{word} digits.yaml": [*FLOWCONF, word, file] for word in ("check", "summary", "draw")},
        "eject digits.yaml": [*FLOWCONF, "eject", file, "-o", "ejected.py"],
        "weights RUN": [*FLOWCONF, "weights", run],
        "train digits.yaml, one step": [*FLOWCONF, "train", file, "trainer.steps=1"],
    }
    took: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, words in commands.items():
            took[name].append(seconds(words, folder))
    torch_alone = statistics.median(took["import torch"])
    for name, times in took.items():
        beyond = statistics.median(times) - torch_alone
        table.add(f"`{name}`", shown(times), f"{beyond:+.2f}")
    return table


def steps(line: str) -> Callable[[int], str]:
    def flow(count: int) -> str:
        return "".join(line.format(i=i, before=f"t{i - 1}" if i else "image") for i in range(count))

    return flow


DEPTH = 8


def nested(depth: int) -> str:
    """A graph in a graph, and so on, with a module at each level."""
    inner = f", b: {{also: {nested(depth - 1)}}}" if depth > 1 else ""
    return f"{{flow: {{a: 'Linear(4, 4)'{inner}}}}}"


SHAPES: Mapping[str, Callable[[int], str]] = {
    "members with tags and references": steps("    s{i}: {{through: 'Linear(4, 4)', from: {before}, tag: t{i}}}\n"),
    "members of mounts of one file": lambda count: steps("    s{i}: {{graph: part.yaml}}\n")(count // 3),
    "frozen and initialised members": steps(
        "    s{i}: {{through: 'Linear(4, 4)', frozen: params, init: {{bias: 0}}}}\n"
    ),
    f"members of graphs in graphs, {DEPTH} deep": lambda count: steps("    s{i}: {{also: NESTED}}\n")(
        count // DEPTH
    ).replace("NESTED", nested(DEPTH)),
}


def growth(most: int, folder: Path) -> Table:
    """The time of commands on a quarter of `most` members, and on all of them."""
    counts = (most // 4, most)
    about = (
        "CPU seconds of a command on a graph of many members, with the start of the process. What is left without "
        "that should be four times as much for four times the members. Measured once; tests count the calls "
        "(`tests/test_growth.py`)."
    )
    table = Table("growth", "Large graphs", about, ["graph", "command", *(f"{count:,}" for count in counts), "ratio"])
    (folder / "part.yaml").write_text(PART, encoding="utf-8")
    for shape, flow in SHAPES.items():
        for words in (["check"], ["draw", "--format", "dot"], ["summary"]):
            add_growth(table, shape, words, flow, counts, folder)
    shape = "frozen and initialised members"
    add_growth(table, shape, ["check"], SHAPES[shape], counts, folder, overridden=10)
    return table


def add_growth(
    table: Table,
    shape: str,
    words: Sequence[str],
    flow: Callable[[int], str],
    counts: Sequence[int],
    folder: Path,
    overridden: int = 0,
) -> None:
    """A row with the time of a command at each count, with an override of one of `overridden` members."""
    took = []
    for count in counts:
        (folder / "c.yaml").write_text(config(flow(count)), encoding="utf-8")
        more = [f"model.flow.s{i}.init.bias=1" for i in range(0, count, overridden)] if overridden else []
        took.append(seconds([*FLOWCONF, words[0], "c.yaml", *words[1:], *more], folder))
    name = f"{shape}, an override of each {overridden}th" if overridden else shape
    table.add(name, f"`{words[0]}`", *(f"{one:.1f}" for one in took), f"{took[1] / took[0]:.1f}")


def config(flow: str) -> str:
    return f"model:\n  inputs: {{image: [B, 4]}}\n  flow:\n{flow}    last: Linear(4, 4)\n{TRAINING}"


def main() -> None:
    parser = argparse.ArgumentParser(description="how long commands take")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most", type=int, default=10_000, help="members of the largest graphs")
    parser.add_argument("--out", type=Path, help="the folder for the tables")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        start(options.rounds, Path(name)).save(options.out)
        growth(options.most, Path(name)).save(options.out)


if __name__ == "__main__":
    main()
