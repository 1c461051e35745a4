"""The `flowconf` command: its subcommands, and the one place where an exception becomes words and an exit code.

Exit codes: 0 fine, 1 the run failed, 2 the config or the command line is wrong, 3 the environment is, 130 interrupted.
"""

from __future__ import annotations

import linecache
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from flowconf.cli.check import check
from flowconf.cli.diff import diff
from flowconf.cli.doctor import doctor
from flowconf.cli.draw import draw
from flowconf.cli.eject import eject
from flowconf.cli.evaluate import evaluate
from flowconf.cli.explain import explain
from flowconf.cli.export import export
from flowconf.cli.importing import import_module
from flowconf.cli.names import list_names
from flowconf.cli.predict import predict
from flowconf.cli.profile import profile
from flowconf.cli.runs import runs
from flowconf.cli.schema import schema
from flowconf.cli.show import show
from flowconf.cli.summary import summary
from flowconf.cli.train import train
from flowconf.cli.weights import weights
from flowconf.report import FlowconfError, of_system, raised_at, render_text, wants_colour

FAILED, WRONG_ENVIRONMENT, INTERRUPTED = 1, 3, 130
TRACE = "FLOWCONF_FULL_TRACE"

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    train,
    check,
    explain,
    draw,
    show,
    summary,
    runs,
    predict,
    profile,
    weights,
    diff,
    eject,
    export,
    schema,
    doctor,
):
    app.command()(command)
app.command("eval")(evaluate)
app.command("import")(import_module)
app.command("list")(list_names)


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
    """Train neural networks that are described, not assembled."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code. A closed pipe ends it silently, as any program's."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler tells on standard error that it begins
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code


def _run(arguments: Sequence[str] | None) -> int:
    try:
        app(arguments, prog_name="flowconf")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        _tells(KeyboardInterrupt(), INTERRUPTED)
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except FlowconfError as error:
        notes = "".join(f"\n  = note: {note}" for note in getattr(error, "__notes__", ()))
        return _tell(error, f"{render_text(error.diagnostics, wants_colour())}{notes}", error.exit_code)
    except OSError as error:
        told = _short(error) if error.filename is None else render_text([of_system(error)], wants_colour())
        return _tell(error, told, WRONG_ENVIRONMENT)
    except Exception as error:  # noqa: BLE001 - this is the edge: whatever a module of the user's raises ends here
        return _tell(error, _short(error), FAILED)
    return 0


def _tell(error: Exception, text: str, code: int) -> int:
    if os.environ.get(TRACE, "0") not in ("", "0"):
        traceback.print_exception(error)
    if text and _tells(error, code):
        print(text, file=sys.stderr)
    return code


def _tells(error: BaseException, code: int) -> bool:
    """Of several processes that train together, one says what went wrong."""
    if "RANK" not in os.environ:
        return True
    from flowconf.train.team.launch import tells

    return tells(error, code)


def _short(error: Exception) -> str:
    first = f"{type(error).__name__}: {error}"
    lines = [f"flowconf: {first}", *getattr(error, "__notes__", ())]
    place = raised_at(error)
    if place is not None:
        lines += [f"  --> {place}", f"   |  {linecache.getline(str(place.file), place.line).strip()}"]
    return "\n".join([*lines, f"({TRACE}=1 shows the whole traceback)"])
