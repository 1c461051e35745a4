"""Writes `docs/benchmarks.md` from measured tables: `python benchmarks/page.py FOLDER`.

The scripts write their tables to a folder with `--out FOLDER`; see `README.md`.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from textwrap import fill

from table import Table

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
ORDER = ("training", "peers", "start", "growth", "checkpoints", "memory", "shares", "data")
RATIO = re.compile(r"[\d.]+ \(([\d.]+)–([\d.]+)\)")
HEAD = """# Benchmarks

<!-- written by benchmarks/page.py -->

The cost of flowconf, compared with the same work written by hand. `make bench` repeats all measurements and writes
this page; [benchmarks/README.md](../benchmarks/README.md) describes how to run a part of them.

- Before anything is timed, both sides must give the same losses to the bit. Sizes are small on purpose: a step of a
  few hundred microseconds shows the cost of a loop, which disappears in a step of 20 milliseconds.
- Times are CPU times of the process on one thread, unless a table says otherwise. The sides run in turns; a ratio is
  the median of the ratios of all rounds, with the lowest and the highest in brackets. If that range is wide, the
  machine was busy, and a difference within it is noise.
- Ratios above 1.00 are slower than the work by hand.
"""


def main() -> None:
    folder = Path(sys.argv[1])
    parts = [HEAD]
    for name in ORDER:
        file = folder / f"{name}.json"
        if file.exists():
            parts.append(section(Table(**json.loads(file.read_text(encoding="utf-8")))))
    PAGE.write_text("\n".join(parts), encoding="utf-8")


def section(table: Table) -> str:
    """A table in Markdown, with what was measured on which machine."""
    lines = [f"## {table.title}", "", fill(table.about, 116), "", f"Measured on: {table.machine}.", ""]
    rows = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), "", *verdicts(table)])


def verdicts(table: Table) -> list[str]:
    """For each column of ratios: where the lowest or the highest of the rounds is on one side of 1."""
    found: list[str] = []
    for position, column in enumerate(table.columns):
        measured = table.name == "training" and column != "full"
        ranges = {row[0]: RATIO.fullmatch(row[position]) for row in table.rows} if measured else {}
        if not ranges or None in ranges.values():
            continue
        slower = [name for name, one in ranges.items() if one is not None and float(one[1]) > 1]
        faster = [name for name, one in ranges.items() if one is not None and float(one[2]) < 1]
        parts = [f"slower in all rounds: {', '.join(slower) or 'none'}", f"faster: {', '.join(faster) or 'none'}"]
        named = column.strip("`")
        found += [
            fill(
                f"- `{named}`, {'; '.join(parts)}; of the others, these rounds show no difference.",
                116,
                subsequent_indent="  ",
            )
        ]
    return [*found, ""] if found else []


if __name__ == "__main__":
    main()
