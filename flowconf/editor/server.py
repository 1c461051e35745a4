"""The Language Server Protocol: requests of an editor as calls of the other modules, and their results as messages."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from importlib.metadata import version
from typing import TypeVar

from lsprotocol import types as lsp
from pygls.lsp.server import LanguageServer
from pygls.uris import from_fs_path, to_fs_path
from pygls.workspace import PositionCodec, ServerTextPosition, TextDocument

from flowconf.editor.analysis import TYPED, Analysis, analysed
from flowconf.editor.completion import Choice, choices, summary
from flowconf.editor.definition import defined_at
from flowconf.editor.explanation import explained
from flowconf.report import ConfigError, Diagnostic, Place, first_line
from flowconf.text.source import absolute, edited, load

T = TypeVar("T")

PAUSE = 0.05
"""Seconds without another key after which a file is checked."""
LARGEST_MESSAGE = 1 << 26
"""Bytes that are read at once."""
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
    """The state of one editor: its open files, and the checks of them.

    The checks run in one thread, one after the other, and each to its end, even if its result is no longer needed. An
    editor sends whole texts, because it and the library divide a text into lines at different characters.
    """

    def __init__(self) -> None:
        super().__init__("flowconf", version("flowconf"), text_document_sync_kind=lsp.TextDocumentSyncKind.Full)
        self.worker = ThreadPoolExecutor(1)
        self.checks: dict[str, asyncio.Task[None]] = {}
        self.found: dict[str, Analysis] = {}

    @property
    def documents(self) -> dict[str, TextDocument]:
        """The open files by name."""
        return {file_of(one.uri): one for one in self.workspace.text_documents.values()}

    async def run(self, work: Callable[[], T]) -> T:
        """The result of some work in the thread, in which the open files have their texts in the editor."""

        def with_texts(texts: dict[str, str]) -> T:
            with edited(texts):
                return work()

        texts = {file: one.source for file, one in self.documents.items()}
        return await asyncio.get_running_loop().run_in_executor(self.worker, with_texts, texts)

    def check(self, file: str, last: str | None) -> None:
        """Check an open file soon, unless it changes again before, and then the others, which may use it."""
        for task in self.checks.values():
            task.cancel()
        files = dict.fromkeys((file, *self.documents))
        self.checks = {each: asyncio.create_task(self._check(each, last)) for each in files}

    async def _check(self, file: str, last: str | None) -> None:
        await asyncio.sleep(PAUSE)
        document = self.documents.get(file)
        if document is None:
            return
        try:
            found = self.found[file] = await self.run(partial(analysed, file, last))
            shown = [self.diagnostic(one, one.place) for one in found.here]
            shown += [self.diagnostic(one, place) for one, place in found.elsewhere]
        except Exception as problem:  # noqa: BLE001 - modules of the project may raise anything
            message = f"the check failed: {type(problem).__name__}: {problem}"
            shown = [lsp.Diagnostic(self.range(Place(file, 1, 1)), message, source="flowconf")]
        self.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(document.uri, shown, document.version))

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
        return lsp.Location(self.uri_of(str(place.file)), self.range(place))

    def uri_of(self, file: str) -> str:
        """The URI of a file, as the editor writes it if it has opened the file."""
        document = self.documents.get(file)
        return from_fs_path(file) or file if document is None else document.uri

    def range(self, place: Place) -> lsp.Range:
        """A place in the editor's units."""
        lines = self.lines(str(place.file))
        line = max(place.line - 1, 0)
        ends = (max(place.column - 1, 0), max(place.column - 1, 0) + place.length)
        start, end = (self.codec.position_to_client_units(lines, ServerTextPosition(line, at)) for at in ends)
        return lsp.Range(start, end)

    def position(self, file: str, at: lsp.Position) -> tuple[int, int]:
        """A position of the editor as line and column from 1."""
        where = self.codec.position_from_client_units(self.lines(file), at)
        return where.line + 1, where.character + 1

    def lines(self, file: str) -> Sequence[str]:
        """The lines of a file as the editor has it, or on the disk; none if it cannot be read."""
        document = self.documents.get(file)
        try:
            text = load(file).text if document is None else document.source
        except ConfigError:
            return ()
        return lines_of(text)

    @property
    def codec(self) -> PositionCodec:
        return self.workspace.position_codec

    async def current(self, file: str) -> Analysis:
        """The checks of a file as it is written now."""
        pending = self.checks.get(file)
        if pending is not None:
            await asyncio.wait([pending])
        if file not in self.found:
            self.found[file] = await self.run(partial(analysed, file, TYPED))
        return self.found[file]


server = Server()


@server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
@server.feature(lsp.TEXT_DOCUMENT_DID_SAVE)
def saved(ls: Server, params: lsp.DidOpenTextDocumentParams | lsp.DidSaveTextDocumentParams) -> None:
    """Check everything."""
    ls.check(file_of(params.text_document.uri), None)


@server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
def changed(ls: Server, params: lsp.DidChangeTextDocumentParams) -> None:
    """Check what needs no data."""
    ls.check(file_of(params.text_document.uri), TYPED)


@server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
def closed(ls: Server, params: lsp.DidCloseTextDocumentParams) -> None:
    """Forget the file, which has the text on the disk again."""
    file = file_of(params.text_document.uri)
    if file in ls.checks:
        ls.checks.pop(file).cancel()
    ls.found.pop(file, None)
    ls.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(params.text_document.uri, []))


@server.feature(
    lsp.TEXT_DOCUMENT_COMPLETION, lsp.CompletionOptions(trigger_characters=[".", "/"], resolve_provider=True)
)
async def complete(ls: Server, params: lsp.CompletionParams) -> list[lsp.CompletionItem]:
    """The names that can be written at a position."""
    file = file_of(params.text_document.uri)
    text = "\n".join(ls.lines(file))
    line, column = ls.position(file, params.position)
    found = await ls.run(lambda: choices(file, text, line, column))
    return [_item(ls, one, Place(file, line, column - one.typed, one.typed)) for one in found]


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
    """Explain a member, reference, module or key."""
    found = await ls.current(file_of(params.text_document.uri))
    line, column = ls.position(found.file, params.position)
    word = word_at("".join(ls.lines(found.file)[line - 1 : line]), column)
    text = await ls.run(lambda: explained(found, line, column, word))
    return None if text is None else lsp.Hover(lsp.MarkupContent(lsp.MarkupKind.Markdown, text))


@server.feature(lsp.TEXT_DOCUMENT_DEFINITION)
async def definition(ls: Server, params: lsp.DefinitionParams) -> lsp.Location | None:
    """Where what is named at a position is defined."""
    found = await ls.current(file_of(params.text_document.uri))
    line, column = ls.position(found.file, params.position)
    place = await ls.run(lambda: defined_at(found, line, column))
    return None if place is None or place.file is None else ls.location(place)


@server.feature(lsp.TEXT_DOCUMENT_CODE_ACTION, lsp.CodeActionOptions(code_action_kinds=[lsp.CodeActionKind.QuickFix]))
async def fixes(ls: Server, params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
    """The edits that `check --fix` would make in the lines that are asked for."""
    found = await ls.current(file_of(params.text_document.uri))
    actions = []
    for one in found.here:
        where, fix = ls.range(one.place), one.fix
        if fix is None or where.end.line < params.range.start.line or params.range.end.line < where.start.line:
            continue
        edit = {ls.uri_of(str(fix.place.file)): [lsp.TextEdit(ls.range(fix.place), fix.text)]}
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
    return uri if path is None or "\0" in path else str(absolute(path))


@lru_cache(maxsize=4)
def lines_of(text: str) -> tuple[str, ...]:
    """The lines of a text, which are asked for at each of many places."""
    return tuple(text.split("\n"))


def word_at(line: str, column: int) -> str:
    """The word around a column (from 1) of a line."""
    return re.search(r"\w*$", line[: column - 1])[0] + re.match(r"\w*", line[column - 1 :])[0]  # type: ignore[index]


class OneLine(logging.Formatter):
    """Shows the first lines: the library logs a traceback for every message of an editor that is not valid."""

    def format(self, record: logging.LogRecord) -> str:
        problem = record.exc_info[1] if record.exc_info else None
        words = record.getMessage().partition("\n")[0]
        return words if problem is None else f"{words}: {type(problem).__name__}: {first_line(problem)}"


class Messages(io.BufferedReader):
    """What an editor sends, in messages up to a limit."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > LARGEST_MESSAGE:
            message = f"the editor sends a message of {size:,} bytes, more than {LARGEST_MESSAGE:,}"
            raise ConfigError(Diagnostic("FC0001", message))
        return super().read(size)


def serve() -> None:
    """Answer an editor on the standard streams until it closes them. What modules print goes to standard error."""
    log = logging.StreamHandler()
    log.setLevel(logging.WARNING)
    log.setFormatter(OneLine())
    logging.getLogger("pygls").addHandler(log)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    server.start_io(Messages(io.FileIO(0, closefd=False)), answers)
