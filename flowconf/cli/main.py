"""The `flowconf` command: its subcommands, and the only place where exceptions become messages and exit codes.

Exit codes: 0 success, 1 the run failed, 2 invalid config or command line, 3 missing requirement, 130 interrupted.
"""

from __future__ import annotations

import linecache
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from flowconf.cli.check import check
from flowconf.cli.diff import diff
from flowconf.cli.doctor import doctor
from flowconf.cli.draw import draw
from flowconf.cli.eject import eject
from flowconf.cli.evaluate import evaluate
from flowconf.cli.explain import explain
from flowconf.cli.export import export
from flowconf.cli.importing import import_module
from flowconf.cli.imports import quicken_torch
from flowconf.cli.init import init
from flowconf.cli.lsp import lsp
from flowconf.cli.names import list_names
from flowconf.cli.predict import predict
from flowconf.cli.profile import profile
from flowconf.cli.push import push
from flowconf.cli.report import report
from flowconf.cli.runs import runs
from flowconf.cli.schema import schema
from flowconf.cli.show import show
from flowconf.cli.summary import summary
from flowconf.cli.train import train
from flowconf.cli.watch import watch
from flowconf.cli.weights import weights
from flowconf.report import (
    Diagnostic,
    FlowconfError,
    MachineError,
    of_system,
    raised_at,
    render_text,
    safe_streams,
    wants_colour,
    why_not,
    write_drawn,
)

FAILED, WRONG_ENVIRONMENT, INTERRUPTED = 1, 3, 130
TRACE = "FLOWCONF_FULL_TRACE"
UsageError: Any = typer.BadParameter.__mro__[1]
"""The base class of errors of the command line; typer brings its own click, or imports it."""


class _Command(TyperCommand):
    """A command that says how a setting is written if one is given as an unknown option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except UsageError as problem:
            name = getattr(problem, "option_name", "").lstrip("-").replace("-", "_")
            if len(name) > 1 and any(one.name == "overrides" for one in self.params):
                from flowconf.language.config import RULES

                key = next((known for known in sorted(RULES.known) if f".{known}".endswith(f".{name}")), name)
                problem.message += f"; a setting is written without dashes, as in `{key}=...`"
            raise


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: dict[str, Callable[..., None]] = {
    "init": init,
    "check": check,
    "train": train,
    "runs": runs,
    "report": report,
    "watch": watch,
    "eval": evaluate,
    "predict": predict,
    "show": show,
    "diff": diff,
    "summary": summary,
    "draw": draw,
    "profile": profile,
    "weights": weights,
    "eject": eject,
    "export": export,
    "import": import_module,
    "push": push,
    "list": list_names,
    "explain": explain,
    "schema": schema,
    "lsp": lsp,
    "doctor": doctor,
}
"""The commands in the order of `--help`: training, runs, config and graph, weights and other tools, support."""
for name, command in COMMANDS.items():
    app.command(name, cls=_Command)(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"flowconf {version('flowconf')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train PyTorch networks that are described in YAML."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. A closed pipe ends it silently."""
    _open_missing_streams()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler logs its start to standard error
    quicken_torch()
    with safe_streams():
        try:
            code = _run(arguments)
            if not sys.stdout.closed:  # by code of a project
                sys.stdout.flush()
        except OSError as problem:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if not isinstance(problem, BrokenPipeError):
                print(f"flowconf: cannot write to the output: {why_not(problem)}", file=sys.stderr)
            return FAILED
        return code


def _open_missing_streams() -> None:
    """Lead nowhere what this process was started without: a file that is opened next would be its output."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "r" if name == "stdin" else "w"))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        _check_folder()
        app(arguments, prog_name="flowconf")
    except SystemExit as stop:
        if raised_at(stop) is not None:  # not by the command line, but by code of a project
            return _report(stop, "", FAILED, _short(stop))
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        _reports(KeyboardInterrupt(), INTERRUPTED)
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except FlowconfError as error:
        notes = "".join(f"\n  = note: {note}" for note in getattr(error, "__notes__", ()))
        return _report(error, render_text(error.diagnostics, wants_colour()), error.exit_code, notes)
    except OSError as error:
        return _report(error, render_text([of_system(error)], wants_colour()), WRONG_ENVIRONMENT)
    except BaseException as error:  # noqa: BLE001 - user modules may raise anything, and this is the outermost handler
        return _report(error, "", FAILED, _short(error))
    return 0


def _check_folder() -> None:
    """Raise `MachineError` where the current folder is gone: paths have no meaning, and libraries end the process."""
    try:
        Path.cwd()
    except FileNotFoundError:
        advice = "change to another folder: cd"
        raise MachineError(Diagnostic("FC0601", "the current folder was deleted", advice=advice)) from None


def _report(error: BaseException, drawn: str, code: int, text: str = "") -> int:
    """Print an error: `drawn` may contain flowconf's own colours, `text` is escaped."""
    if os.environ.get(TRACE, "0") not in ("", "0"):
        traceback.print_exception(error)
    if (drawn or text) and _reports(error, code):
        write_drawn(drawn, sys.stderr)
        print(text, file=sys.stderr)
    return code


def _reports(error: BaseException, code: int) -> bool:
    """Whether this process reports the error; of several training processes, only one does."""
    if "RANK" not in os.environ:
        return True
    from flowconf.train.team.launch import tells

    return tells(error, code)


def _short(error: BaseException) -> str:
    try:
        words = str(error)
    except Exception:  # noqa: BLE001 - of a user module's own class
        words = "an exception without a message"
    first = f"{type(error).__name__}: {words}"
    lines = [f"flowconf: {first}", *getattr(error, "__notes__", ())]
    place = raised_at(error)
    if place is not None:
        lines += [f"  --> {place}", f"   |  {linecache.getline(str(place.file), place.line).strip()}"]
    return "\n".join([*lines, f"({TRACE}=1 shows the full traceback)"])
