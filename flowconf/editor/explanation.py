"""Explanations that an editor shows for a position."""

from __future__ import annotations

from pydantic import BaseModel

from flowconf.draw.members import Member
from flowconf.editor.analysis import Analysis, is_at
from flowconf.editor.definition import value_at
from flowconf.language import registry
from flowconf.language.json_schema import docstring_of
from flowconf.language.keys.validate import models_at
from flowconf.report.origins import Node, Path, dotted


def explained(analysis: Analysis, line: int, column: int, word: str) -> str | None:
    """The explanation, in Markdown, of the member, reference, module or key at a position; `word` is the word there."""
    member = analysis.member_at(line, column)
    if member is not None:
        return _member(member)
    value = value_at(analysis, line, column)
    if value is not None:
        given = next((one for one in analysis.members if one.place == value), None)
        return None if given is None else _member(given)
    return _registered(word) or _key(analysis, line, column)


def _member(member: Member) -> str:
    title = f"**{member.id or member.name}**"
    calls = " >> ".join(member.calls or member.written) or member.source_name
    facts = [
        f"`{member.shape}`" if member.shape else "",
        f"{member.parameters:,} parameters" if member.parameters else "",
        f"frozen ({member.frozen})" if member.frozen else "",
        *member.relations,
        *member.notes,
    ]
    lines = [f"{title}  `{calls}`" if calls else title, " · ".join(fact for fact in facts if fact)]
    return "\n\n".join(line for line in lines if line)


def _registered(name: str) -> str | None:
    """The call and the summary of a registered name."""
    table = next((table for table in registry.TABLES.values() if name in table), None)
    if table is None:
        return None
    return f"`{name}({', '.join(table.signature(name).names)})`\n\n{table.summary(name)}"


def _key(analysis: Analysis, line: int, column: int) -> str | None:
    """The purpose of a key, its value, and where it was set before."""
    walk = analysis.findings.walk
    if walk.document is None:
        return None
    for path, node in walk.document.origins.items():
        if path and is_at(node.key, analysis.file, line, column):
            about = _described(type(walk.keys), walk.document.data, path) if walk.keys is not None else ""
            return "\n\n".join(text for text in (f"**{dotted(path)}**", about, _origin(node)) if text)
    return None


def _described(model: type[BaseModel], data: object, path: Path) -> str:
    """The docstring of the key at a path; empty for a name that is not a key of the language."""
    owners = models_at(model, data, path[:-1])
    fields = (
        (owner, name)
        for owner in owners
        for name, field in owner.model_fields.items()
        if path[-1] == (field.alias or name)
    )
    return next((docstring_of(owner, name) for owner, name in fields), "")


def _origin(node: Node) -> str:
    before = ", ".join(f"over {place}" for place in node.history)
    return f"set at {node.place} ({before})" if before else ""
