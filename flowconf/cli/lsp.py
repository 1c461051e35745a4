"""`flowconf lsp`: the language server that editors start."""

from __future__ import annotations

from importlib.util import find_spec

from flowconf.report import Diagnostic, MachineError


def lsp() -> None:
    """Serve an editor: mistakes while typing, completion, explanations, definitions and fixes.

    Speaks the Language Server Protocol on the standard streams. Run it in the folder of the project.
    """
    if find_spec("pygls") is None:
        message = "the language server requires `pygls`, which is not installed"
        raise MachineError(Diagnostic("FC0601", message, advice="pip install 'flowconf[lsp]'"))
    from flowconf.editor.server import serve

    serve()
