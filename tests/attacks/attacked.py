"""Runs commands of flowconf one by one, each in a forked process of its own, and says what it cost.

Reads one JSON list of words a line: `check FILE ...` and the other commands, or `build FILE`, which also loads weights.
Writes one JSON object a line: the exit code, what was printed, the number of calls of functions, and the largest memory
in bytes.
"""

from __future__ import annotations

import contextlib
import cProfile
import io
import json
import os
import resource
import sys

import safetensors.torch  # noqa: F401
import torch

import flowconf
from flowconf.cli.main import main
from flowconf.graph.build import build_graph  # noqa: F401
from flowconf.report import FlowconfError

torch.set_num_threads(1)
SECONDS = 60


def attacked(words: list[str]) -> dict[str, object]:
    printed = io.StringIO()
    profile = cProfile.Profile()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), profile:
        if words[0] == "build":
            try:
                flowconf.build(words[1])
                code = 0
            except FlowconfError as error:
                print(error)
                code = error.exit_code
        else:
            code = main(words)
    calls = sum(entry.callcount for entry in profile.getstats())
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"code": code, "printed": printed.getvalue(), "calls": calls, "memory": largest}


def serve() -> None:
    flowconf.check({"inputs": {"x": ["B", 4]}, "flow": {"a": "Linear(4, 4)"}})  # imports what a check imports
    for line in sys.stdin:
        folder, words = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            os.chdir(folder)
            with os.fdopen(writing, "w") as pipe:
                pipe.write(json.dumps(attacked(words)))
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            answer = pipe.read()
        _, status = os.waitpid(child, 0)
        sys.stdout.write((answer or json.dumps({"died": status})) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
