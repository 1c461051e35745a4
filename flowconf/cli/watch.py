"""`flowconf watch`: runs in the browser, while they run."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from flowconf.cli import completion
from flowconf.cli.arguments import TrustOption, trust_project_of


def watch(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUNS]...",
            help="Run folders, folders of runs, and folders of those. Default: runs",
            show_default=False,
            autocompletion=completion.runs,
        ),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="PORT", help="The port; 0 takes any that is free.")
    ] = 7117,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    trust: TrustOption = False,
) -> None:
    """Show runs in the browser while they train, on this machine only."""
    from flowconf.report import Diagnostic, MachineError, Place, why_not
    from flowconf.train.runs.watch_server import WatchServer
    from flowconf.train.runs.watching import Watched

    folders = runs or ["runs"]
    watched = Watched([Path(folder) for folder in folders])
    for folder in folders if trust else ():
        trust_project_of(folder, trust)
    try:
        server = WatchServer(watched, port)
    except OSError as problem:
        message = f"cannot listen on port {port}: {why_not(problem)}"
        advice = f"choose another one: `--port {port % 65535 + 1}`, or `--port 0` for any that is free"
        raise MachineError(Diagnostic("FC0601", message, Place(word=f"--port {port}"), advice=advice)) from None
    with server, suppress(KeyboardInterrupt):
        print(f"{server.address}   (Ctrl-C ends it)", flush=True)
        if not no_browser and _has_browser():
            _open(server.address)
        server.serve_forever()


def _has_browser() -> bool:
    """Whether a browser can be opened in a window; one in the terminal would take it over."""
    has_screen = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    return sys.stdout.isatty() and has_screen


def _open(address: str) -> None:
    import webbrowser
    from threading import Thread

    Thread(target=webbrowser.open, args=(address,), daemon=True).start()
