"""The Language Server Protocol: requests of an editor as calls of the other modules, and their results as messages."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import TypeVar

from lsprotocol import types as lsp
from pygls.lsp.server import LanguageServer
from pygls.uris import from_fs_path, to_fs_path
from pygls.workspace import PositionCodec, ServerTextPosition

from flowconf.editor.analysis import TYPED, Analysis, analysed
from flowconf.editor.completion import Choice, choices, summary
from flowconf.editor.definition import defined_at
from flowconf.editor.explanation import explained
from flowconf.report import Diagnostic, Place
from flowconf.text.source import absolute, edited

T = TypeVar("T")

PAUSE = 0.05
"""Seconds without another key after which a file is checked."""
SEVERITIES = {"error": lsp.DiagnosticSeverity.Error, "warning": lsp.DiagnosticSeverity.Warning}
KINDS = {
    "keys": lsp.CompletionItemKind.Property,
    "arguments": lsp.CompletionItemKind.Field,
    "modules": lsp.CompletionItemKind.Class,
    "options": lsp.CompletionItemKind.EnumMember,
    "configs": lsp.CompletionItemKind.File,
    "graphs": lsp.CompletionItemKind.File,
}


class Server(LanguageServer):
    """The state of one editor: its open files, and the checks of them. One check runs at a time, in a thread."""

    def __init__(self) -> None:
        super().__init__("flowconf", version("flowconf"))
        self.busy = asyncio.Lock()
        self.checks: dict[str, asyncio.Task[None]] = {}
        self.found: dict[str, Analysis] = {}

    @property
    def texts(self) -> dict[str, str]:
        """The texts of the open files."""
        return {file_of(uri): one.source for uri, one in self.workspace.text_documents.items()}

    async def run(self, work: Callable[[], T]) -> T:
        """The result of some work in the thread, in which the open files have their texts in the editor."""

        def with_texts(texts: dict[str, str]) -> T:
            with edited(texts):
                return work()

        async with self.busy:
            return await asyncio.to_thread(with_texts, self.texts)

    def check(self, uri: str, last: str | None) -> None:
        """Check an open file soon, unless it changes again before, and then the others, which may use it."""
        for task in self.checks.values():
            task.cancel()
        others = [other for other in self.workspace.text_documents if other != uri]
        self.checks = {each: asyncio.create_task(self._check(each, last)) for each in (uri, *others)}

    async def _check(self, uri: str, last: str | None) -> None:
        await asyncio.sleep(PAUSE)
        document = self.workspace.text_documents.get(uri)
        if document is None:
            return
        try:
            found = self.found[uri] = await self.run(partial(analysed, file_of(uri), last))
            shown = [self.diagnostic(one, one.place) for one in found.here]
            shown += [self.diagnostic(one, place) for one, place in found.elsewhere]
        except Exception as problem:  # noqa: BLE001 - modules of the project may raise anything
            message = f"the check failed: {type(problem).__name__}: {problem}"
            shown = [lsp.Diagnostic(self.range(Place(file_of(uri), 1, 1)), message, source="flowconf")]
        self.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, shown, document.version))

    def diagnostic(self, one: Diagnostic, place: Place) -> lsp.Diagnostic:
        """A mistake at a place of a file, which is that of the mistake itself or leads to it."""
        others = [(label.message, label.place) for label in one.labels]
        others += [(one.message, one.place)] if place != one.place else []
        return lsp.Diagnostic(
            range=self.range(place),
            message=one.message if one.help is None else f"{one.message}\n{one.help}",
            severity=SEVERITIES.get(one.severity),
            code=one.code,
            source="flowconf",
            related_information=[
                lsp.DiagnosticRelatedInformation(self.location(where), text) for text, where in others if where.line
            ],
        )

    def location(self, place: Place) -> lsp.Location:
        return lsp.Location(uri_of(str(place.file)), self.range(place))

    def range(self, place: Place) -> lsp.Range:
        """A place in the editor's units."""
        lines = self.lines(str(place.file))
        line = max(place.line - 1, 0)
        ends = (max(place.column - 1, 0), max(place.column - 1, 0) + place.length)
        start, end = (self.codec.position_to_client_units(lines, ServerTextPosition(line, at)) for at in ends)
        return lsp.Range(start, end)

    def position(self, uri: str, at: lsp.Position) -> tuple[int, int]:
        """A position of the editor as line and column from 1."""
        where = self.codec.position_from_client_units(self.lines(file_of(uri)), at)
        return where.line + 1, where.character + 1

    def lines(self, file: str) -> Sequence[str]:
        return self.workspace.get_text_document(uri_of(file)).lines

    @property
    def codec(self) -> PositionCodec:
        return self.workspace.position_codec

    async def current(self, uri: str) -> Analysis:
        """The checks of a file as it is written now."""
        pending = self.checks.get(uri)
        if pending is not None:
            await asyncio.wait([pending])
        if uri not in self.found:
            self.found[uri] = await self.run(partial(analysed, file_of(uri), TYPED))
        return self.found[uri]


server = Server()


@server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
@server.feature(lsp.TEXT_DOCUMENT_DID_SAVE)
def saved(ls: Server, params: lsp.DidOpenTextDocumentParams | lsp.DidSaveTextDocumentParams) -> None:
    """Check everything."""
    ls.check(params.text_document.uri, None)


@server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
def changed(ls: Server, params: lsp.DidChangeTextDocumentParams) -> None:
    """Check what needs no data."""
    ls.check(params.text_document.uri, TYPED)


@server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
def closed(ls: Server, params: lsp.DidCloseTextDocumentParams) -> None:
    """Forget the file, which has the text on the disk again."""
    ls.found.pop(params.text_document.uri, None)
    ls.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(params.text_document.uri, []))


@server.feature(
    lsp.TEXT_DOCUMENT_COMPLETION, lsp.CompletionOptions(trigger_characters=[".", "/"], resolve_provider=True)
)
async def complete(ls: Server, params: lsp.CompletionParams) -> list[lsp.CompletionItem]:
    """The names that can be written at a position."""
    uri = params.text_document.uri
    text = ls.workspace.get_text_document(uri).source
    line, column = ls.position(uri, params.position)
    found = await ls.run(lambda: choices(file_of(uri), text, line, column))
    return [_item(ls, one, Place(file_of(uri), line, column - one.typed, one.typed)) for one in found]


def _item(ls: Server, one: Choice, place: Place) -> lsp.CompletionItem:
    return lsp.CompletionItem(
        label=one.name,
        kind=KINDS.get(one.what, lsp.CompletionItemKind.Variable),
        text_edit=lsp.TextEdit(ls.range(place), one.name),
        data={"name": one.name, "what": one.what},
    )


@server.feature(lsp.COMPLETION_ITEM_RESOLVE)
async def resolve(ls: Server, item: lsp.CompletionItem) -> lsp.CompletionItem:
    """Add what the name is for."""
    data = item.data if isinstance(item.data, dict) else {}
    item.documentation = await ls.run(lambda: summary(data)) or None
    return item


@server.feature(lsp.TEXT_DOCUMENT_HOVER)
async def hover(ls: Server, params: lsp.HoverParams) -> lsp.Hover | None:
    """What a member, reference, module or key is."""
    uri = params.text_document.uri
    found = await ls.current(uri)
    line, column = ls.position(uri, params.position)
    word = ls.workspace.get_text_document(uri).word_at_position(params.position)
    text = await ls.run(lambda: explained(found, line, column, word))
    return None if text is None else lsp.Hover(lsp.MarkupContent(lsp.MarkupKind.Markdown, text))


@server.feature(lsp.TEXT_DOCUMENT_DEFINITION)
async def definition(ls: Server, params: lsp.DefinitionParams) -> lsp.Location | None:
    """Where what is named at a position is defined."""
    uri = params.text_document.uri
    found = await ls.current(uri)
    place = await ls.run(lambda: defined_at(found, *ls.position(uri, params.position)))
    return None if place is None or place.file is None else ls.location(place)


@server.feature(lsp.TEXT_DOCUMENT_CODE_ACTION, lsp.CodeActionOptions(code_action_kinds=[lsp.CodeActionKind.QuickFix]))
async def fixes(ls: Server, params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
    """The edits that `check --fix` would make in the lines that are asked for."""
    uri = params.text_document.uri
    found = await ls.current(uri)
    actions = []
    for one in found.here:
        where, fix = ls.range(one.place), one.fix
        if fix is None or where.end.line < params.range.start.line or params.range.end.line < where.start.line:
            continue
        edit = {uri_of(str(fix.place.file)): [lsp.TextEdit(ls.range(fix.place), fix.text)]}
        actions.append(
            lsp.CodeAction(
                title=str(one.help),
                kind=lsp.CodeActionKind.QuickFix,
                diagnostics=[ls.diagnostic(one, one.place)],
                is_preferred=True,
                edit=lsp.WorkspaceEdit(changes=edit),
            )
        )
    return actions


def file_of(uri: str) -> str:
    """The absolute path of a file of the editor; the URI itself for what is no file."""
    path = to_fs_path(uri)
    return uri if path is None else str(absolute(path))


def uri_of(file: str) -> str:
    return from_fs_path(file) or file


def serve() -> None:
    """Answer an editor on the standard streams until it closes them. What modules print goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    server.start_io(os.fdopen(0, "rb", closefd=False), answers)
