"""Tables for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from flowconf.report.wording import printable

LEFT = ' style="text-align: left; white-space: pre"'


def html_table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table of texts, each of which is escaped.

    Example:
        html_table("digits", ("value", "is"), [("val/loss", "0.1234")])
    """
    head = "".join(f"<th{LEFT}>{_text(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td{LEFT}>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><caption>{_text(caption)}</caption><tr>{head}</tr>{body}</table>"


def _text(text: str) -> str:
    return escape(printable(text))
