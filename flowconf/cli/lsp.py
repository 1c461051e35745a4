"""`flowconf lsp`: the language server that editors start."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from flowconf.report import Diagnostic, MachineError


def lsp(
    trust: Annotated[
        list[Path] | None,
        typer.Option(
            "--trust", metavar="FOLDER", help="A folder with projects whose modules are imported. Can be repeated."
        ),
    ] = None,
) -> None:
    """Run the language server: errors while typing, completion, fixes.

    It speaks the Language Server Protocol on the standard streams. An editor opens any folder, so the modules of a
    project are imported only if it is in a folder of `--trust`.
    """
    if find_spec("pygls") is None:
        message = "the language server requires `pygls`, which is not installed"
        raise MachineError(Diagnostic("FC0601", message, advice="pip install 'flowconf[lsp]'"))
    from flowconf.editor.server import serve
    from flowconf.language.projects import trust_only

    trust_only(trust or ())

    serve()
