"""The language server as an editor sees it: a real client speaks the protocol with the command."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

pytest.importorskip("pygls", reason="requires the extra `lsp`")

from lsprotocol import types as lsp
from pygls.lsp.client import LanguageClient

CONFIG = """\
model:
  params: {width: 8}
  inputs: {image: [B, 64]}
  flow:
    stem: Linear(64, width)
    both:
      split:
        wide: Linear(width, width)
        deep: Linear(width, width) >> GELU
      merge: add
    head: {graph: head}
data: {name: digits, batch_size: 64}
loss:
  label: {fn: cross_entropy, input: head, target: label}
optimizer: {name: adamw, lr: 1e-3}
trainer: {epochs: 1}
seed: 0
"""
HEAD = (
    "label: head\ninputs: {x: [B, 8]}\nflow:\n  norm: LayerNorm(_)\n  logits: {from: norm, through: 'Linear(_, 10)'}\n"
)
BLOCKS = """\
import flowconf
from torch import nn

print("the module of a project prints")


@flowconf.register
class Twice(nn.Module):
    '''Twice its input.'''

    def forward(self, x):
        return 2 * x
"""


class Editor:
    """An editor with a language server, in a folder."""

    def __init__(self, folder: Path, *trusted: Path) -> None:
        self.folder = folder
        self.words = [word for one in trusted for word in ("--trust", str(one))]
        self.client = LanguageClient("editor", "1")
        self.shown: asyncio.Queue[lsp.PublishDiagnosticsParams] = asyncio.Queue()
        self.client.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)(lambda shown: self.shown.put_nowait(shown))
        self.versions: dict[str, int] = {}

    async def start(self) -> lsp.InitializeResult:
        await self.client.start_io(sys.executable, "-m", "flowconf", "lsp", *self.words, cwd=str(self.folder))
        found = await self.client.initialize_async(
            lsp.InitializeParams(lsp.ClientCapabilities(), root_uri=self.folder.as_uri())
        )
        self.client.initialized(lsp.InitializedParams())
        return found

    async def stop(self) -> None:
        await self.client.shutdown_async(None)
        self.client.exit(None)
        await self.client.stop()

    def uri(self, name: str) -> str:
        return (self.folder / name).as_uri()

    async def write(self, name: str, text: str) -> dict[str, list[lsp.Diagnostic]]:
        """Open a file, or change its text; gives the mistakes in all open files."""
        uri = self.uri(name)
        number = self.versions[uri] = self.versions.get(uri, 0) + 1
        if number == 1:
            self.client.text_document_did_open(
                lsp.DidOpenTextDocumentParams(lsp.TextDocumentItem(uri, "yaml", number, text))
            )
        else:
            self.client.text_document_did_change(
                lsp.DidChangeTextDocumentParams(
                    lsp.VersionedTextDocumentIdentifier(number, uri), [lsp.TextDocumentContentChangeWholeDocument(text)]
                )
            )
        found: dict[str, list[lsp.Diagnostic]] = {}
        while not set(found) >= set(self.versions):
            one = await asyncio.wait_for(self.shown.get(), 60)
            found[one.uri] = list(one.diagnostics)
        return {Path(uri).name: mistakes for uri, mistakes in found.items()}

    async def complete(self, name: str, text: str) -> dict[str, lsp.CompletionItem]:
        """The completions at the `|` of a text."""
        where, whole = _cursor(text)
        await self.write(name, whole)
        found = await self.client.text_document_completion_async(
            lsp.CompletionParams(lsp.TextDocumentIdentifier(self.uri(name)), where)
        )
        assert isinstance(found, list)
        return {item.label: item for item in found}

    async def hover(self, name: str, text: str) -> str | None:
        where, whole = _cursor(text)
        await self.write(name, whole)
        found = await self.client.text_document_hover_async(
            lsp.HoverParams(lsp.TextDocumentIdentifier(self.uri(name)), where)
        )
        assert found is None or isinstance(found.contents, lsp.MarkupContent)
        return None if found is None else found.contents.value

    async def definition(self, name: str, text: str) -> tuple[str, int] | None:
        """The file and line of what is named at the `|` of a text."""
        where, whole = _cursor(text)
        await self.write(name, whole)
        found = await self.client.text_document_definition_async(
            lsp.DefinitionParams(lsp.TextDocumentIdentifier(self.uri(name)), where)
        )
        assert found is None or isinstance(found, lsp.Location)
        return None if found is None else (Path(found.uri).name, found.range.start.line + 1)

    async def fixes(self, name: str) -> list[lsp.CodeAction]:
        whole = lsp.Range(lsp.Position(0, 0), lsp.Position(100, 0))
        found = await self.client.text_document_code_action_async(
            lsp.CodeActionParams(lsp.TextDocumentIdentifier(self.uri(name)), whole, lsp.CodeActionContext([]))
        )
        return [one for one in found or () if isinstance(one, lsp.CodeAction)]


def _cursor(text: str) -> tuple[lsp.Position, str]:
    before, _, after = text.partition("|")
    return lsp.Position(before.count("\n"), len(before) - before.rfind("\n") - 1), before + after


@pytest.fixture(scope="module")
def run():
    """Gives the result of a coroutine. The loop has a thread: a browser's tests may run another one in this thread."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(120)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def editor(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(Path(__file__).parents[2] / "configs" / "pivot", folder / "configs" / "pivot")
    (folder / "configs" / "graph").mkdir()
    (folder / "configs" / "own.yaml").write_text("defaults:\n  - _self_\n  - pivot: null\n" + CONFIG, encoding="utf-8")
    (folder / "configs" / "graph" / "head.yaml").write_text(HEAD, encoding="utf-8")
    (folder / "blocks.py").write_text(BLOCKS, encoding="utf-8")
    (folder / "pyproject.toml").write_text('[tool.flowconf]\nmodules = ["blocks"]\n', encoding="utf-8")
    editor = Editor(folder, folder.parent)
    run(editor.start())
    run(editor.write("configs/graph/head.yaml", HEAD))
    yield editor
    run(editor.stop())


@pytest.fixture
def wait(run) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    return run


def test_a_project_that_is_not_trusted_runs_nothing(run, tmp_path):
    """Also where the editor starts the server in the folder that it opens."""
    (tmp_path / "blocks.py").write_text(f"{BLOCKS}\nopen('ran', 'w')\n", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text('[tool.flowconf]\nmodules = ["blocks"]\n', encoding="utf-8")
    editor = Editor(tmp_path, tmp_path / "configs")
    run(editor.start())
    own = "inputs: {x: [B, 4]}\nflow: {a: Twice}\n"
    found = run(editor.write("own.yaml", own))["own.yaml"]
    run(editor.stop())
    assert [one.code for one in found] == ["FC0132"]
    assert found[0].message.endswith(f"if you trust it, start the server with `flowconf lsp --trust {tmp_path}`")
    assert not (tmp_path / "ran").exists()


def test_mistakes_are_those_of_check_while_typing(editor, wait):
    assert wait(editor.write("configs/own.yaml", CONFIG))["own.yaml"] == []
    (one,) = wait(
        editor.write("configs/own.yaml", CONFIG.replace("deep: Linear(width, width)", "deep: Linear(width, 9)"))
    )["own.yaml"]
    assert (one.code, one.source, one.severity) == ("FC0203", "flowconf", lsp.DiagnosticSeverity.Error)
    assert (one.range.start.line, one.range.start.character) == (8, 28)
    assert [label.message for label in one.related_information] == [
        "`both.wide` has shape [B, 8]",
        "`both.deep` has shape [B, 9]",
    ]
    assert wait(editor.write("configs/own.yaml", CONFIG))["own.yaml"] == []


def test_a_fix_is_the_edit_of_check_fix(editor, wait):
    wait(editor.write("configs/own.yaml", CONFIG.replace("Linear(64, width)", "Liner(64, widht)")))
    found = wait(editor.fixes("configs/own.yaml"))
    edits = [edit for one in found for edit in one.edit.changes[editor.uri("configs/own.yaml")]]
    assert [edit.new_text for edit in edits] == ["Linear"]
    assert (edits[0].range.start.line, edits[0].range.start.character, edits[0].range.end.character) == (4, 10, 15)


def test_positions_are_those_of_the_editor(editor, wait):
    """A letter outside the basic plane is two units of UTF-16, which editors count by default."""
    text = CONFIG.replace(
        "inputs: {image: [B, 64]}", 'label: "\U0001d538"\n  inputs: {image: [B, 64], \U0001d538: [B]}'
    )
    found = wait(editor.write("configs/own.yaml", text))["own.yaml"]
    assert any(one.range.start.character == 27 and one.range.end.character == 29 for one in found), found


def test_an_unsaved_graph_is_seen_by_the_configs_that_mount_it(editor, wait):
    wait(editor.write("configs/own.yaml", CONFIG))
    found = wait(editor.write("configs/graph/head.yaml", HEAD.replace("Linear(_, 10)", "Linear(_, 10, bais=false)")))
    assert [one.code for one in found["head.yaml"]] == ["FC0133"]
    (there,) = found["own.yaml"]
    assert (there.range.start.line, there.related_information[0].location.uri) == (
        10,
        editor.uri("configs/graph/head.yaml"),
    )
    assert wait(editor.write("configs/graph/head.yaml", HEAD))["own.yaml"] == []


@pytest.mark.parametrize(
    ("old", "new", "some", "none"),
    [
        ("input: head", "input: |", {"stem", "both", "head", "image"}, set()),
        ("input: head", "input: both.|", {"wide", "deep"}, {"stem"}),
        ("stem: Linear", "stem: Tw|", {"Linear", "Twice", "StateAdd"}, set()),
        ("Linear(64, width)", "Linear(64, width, bi|)", {"bias", "width"}, {"stem"}),
        ("graph: head", "graph: he|", {"head"}, {"stem"}),
        ("graph: head", "graph: head, fro|", {"from", "frozen", "checkpoint"}, {"flow"}),
        ("fn: cross_entropy", "fn: cr|", {"cross_entropy", "mse"}, {"adamw"}),
        ("name: adamw", "name: ad|", {"adam", "adamw", "sgd"}, {"mse"}),
        ("lr: 1e-3", "lr: 1e-3, we|", {"weight_decay", "betas"}, set()),
        ("trainer: {epochs: 1}", "trainer: {epochs: 1, pre|}", {"precision", "steps", "devices"}, {"seed"}),
        ("seed: 0", "se|", {"metrics", "phases", "schedule"}, {"flow"}),
        ("name: digits", "name: dig|", {"digits"}, {"adamw"}),
    ],
)
def test_completion_offers_what_the_checks_would(editor, wait, old, new, some, none):
    found = wait(editor.complete("configs/own.yaml", CONFIG.replace(old, new)))
    assert some <= set(found)
    assert not none & set(found)


def test_a_completion_replaces_what_is_typed(editor, wait):
    found = wait(editor.complete("configs/own.yaml", CONFIG.replace("input: head", "input: both.de|")))
    edit = found["deep"].text_edit
    end = len("  label: {fn: cross_entropy, input: both.de")
    assert (edit.range.start.character, edit.range.end.character, edit.new_text) == (end - 2, end, "deep")


def test_a_completion_says_what_the_name_is_for(editor, wait):
    found = wait(editor.complete("configs/own.yaml", CONFIG.replace("stem: Linear", "stem: Tw|")))
    item = wait(editor.client.completion_item_resolve_async(found["Twice"]))
    assert item.documentation == "Twice its input."


@pytest.mark.parametrize(
    ("old", "new", "texts"),
    [
        ("stem: Linear", "st|em: Linear", ["**stem**", "`Linear(64, 8)`", "`[B, 8]`", "520 parameters"]),
        ("stem: Linear", "stem: Lin|ear", ["Linear(in_features, out_features, bias"]),
        ("epochs: 1", "ep|ochs: 1", ["**trainer.epochs**", "Passes over the training split."]),
        ("merge: add", "me|rge: add", ["**model.flow.both.merge**", "or a module that accepts a list"]),
    ],
)
def test_hover_explains(editor, wait, old, new, texts):
    found = wait(editor.hover("configs/own.yaml", CONFIG.replace(old, new)))
    assert [text for text in texts if text not in found] == []


def test_hover_over_a_reference_is_about_the_member(editor, wait):
    assert "`[B, 8]`" in wait(editor.hover("configs/graph/head.yaml", HEAD.replace("from: norm", "from: no|rm")))
    wait(editor.write("configs/graph/head.yaml", HEAD))


@pytest.mark.parametrize(
    ("name", "old", "new", "place"),
    [
        ("configs/graph/head.yaml", "from: norm", "from: no|rm", ("head.yaml", 4)),
        ("configs/own.yaml", "graph: head", "graph: he|ad", ("head.yaml", 1)),
        ("configs/own.yaml", "input: head", "input: he|ad", ("own.yaml", 11)),
        ("configs/own.yaml", "epochs: 1", "epochs: |1", None),
    ],
)
def test_definition(editor, wait, name, old, new, place):
    text = HEAD if name.endswith("head.yaml") else CONFIG
    assert wait(editor.definition(name, text.replace(old, new))) == place
    wait(editor.write(name, text))


def test_a_pivot_is_checked_in_the_config_that_selects_it(editor, wait):
    wait(editor.write("configs/own.yaml", "defaults:\n  - _self_\n  - pivot: null\n" + CONFIG))
    head = "# @package _global_\n"
    found = wait(editor.write("configs/pivot/wide.yaml", head + "model: {params: {width: 16}}\n"))
    assert found["wide.yaml"] == []
    (one,) = wait(editor.write("configs/pivot/wide.yaml", head + "model: {params: {widht: 16}}\n"))["wide.yaml"]
    assert (one.code, one.range.start.line) == ("FC0102", 1)


def test_files_of_other_tools_are_left_alone(editor, wait):
    assert wait(editor.write("compose.yaml", "services: {web: {image: nginx}}\n"))["compose.yaml"] == []


@pytest.mark.parametrize("text", ["", "\0", "a: [", "&a [*a]", "model: {flow: {a: " + "(" * 500 + "}}", "flow:\n\t- x"])
def test_no_text_stops_the_server(editor, wait, text):
    wait(editor.write("configs/broken.yaml", text))
    wait(editor.complete("configs/broken.yaml", f"{text}|"))
    wait(editor.hover("configs/broken.yaml", f"{text}|"))
    wait(editor.definition("configs/broken.yaml", f"{text}|"))
    assert wait(editor.write("configs/graph/head.yaml", HEAD))["head.yaml"] == []


WRONG = "inputs: {x: [B, 4]}\nflow: {a: 'Linear(5, 4)'}\n"
URIS = {
    "as Neovim writes it": ("file://{folder}/a+b%20(x)/configs/x.yaml", ["FC0201"]),
    "with a number sign": ("file://{folder}/c%23/configs/x.yaml", ["FC0201"]),
    "with a percent sign": ("file://{folder}/configs/a%2541.yaml", ["FC0201"]),
    "that is not UTF-8": ("file://{folder}/configs/a%ff.yaml", ["FC0201"]),
    "above its folder": ("file://{folder}/configs/../../configs/x.yaml", ["FC0201"]),
    "of another machine": ("file://machine/configs/x.yaml", ["FC0201"]),
    "with a NUL": ("file://{folder}/configs/x%00.yaml", []),
    "of a new file": ("untitled:configs/x.yaml", []),
    "of a revision": ("git:{folder}/configs/x.yaml?%7B%22ref%22%3A%22~%22%7D", []),
    "without a scheme": ("configs/x.yaml", []),
    "that is empty": ("", []),
}


@pytest.mark.parametrize(("uri", "codes"), URIS.values(), ids=URIS)
def test_a_file_with_a_uri(editor, wait, uri, codes):
    """Its unsaved text is checked, the answers name it as the editor does, and every request is answered."""
    uri = uri.format(folder=editor.folder)
    text = lsp.TextDocumentIdentifier(uri)

    async def ask():
        client, at = editor.client, lsp.Position(1, 12)
        client.text_document_did_open(lsp.DidOpenTextDocumentParams(lsp.TextDocumentItem(uri, "yaml", 1, WRONG)))
        while (shown := await asyncio.wait_for(editor.shown.get(), 60)).uri != uri:
            pass
        await client.text_document_completion_async(lsp.CompletionParams(text, at))
        await client.text_document_hover_async(lsp.HoverParams(text, at))
        await client.text_document_definition_async(lsp.DefinitionParams(text, at))
        client.text_document_did_close(lsp.DidCloseTextDocumentParams(text))
        await client.text_document_hover_async(lsp.HoverParams(text, at))
        return shown

    assert [one.code for one in wait(ask()).diagnostics] == codes


def test_lines_are_those_of_the_editor(editor, wait):
    """Other characters at which Python divides a text do not count."""
    text = WRONG.replace("inputs", "# \u2028 \x85\ninputs")
    assert [one.range.start.line for one in wait(editor.write("configs/lines.yaml", text))["lines.yaml"]] == [2]
    assert "Linear(" in wait(editor.hover("configs/lines.yaml", text.replace("Lin", "Lin|")))


def test_a_text_that_is_too_long_for_a_name_is_defined_nowhere(editor, wait):
    text = f"label: {'x' * 300}.yaml\n{HEAD}"
    assert wait(editor.definition("configs/graph/head.yaml", text.replace("label: x", "label: x|"))) is None
    wait(editor.write("configs/graph/head.yaml", HEAD))


def test_a_check_that_is_cancelled_is_not_overtaken(monkeypatch):
    """State of the process, such as warnings, is changed during a check: two of them must not overlap."""
    from flowconf.editor.server import Server

    monkeypatch.setattr(Server, "documents", {})
    events, goes_on = [], Event()

    def slow():
        events.append("begins")
        goes_on.wait(60)
        events.append("ends")

    async def cancel():
        server = Server()
        first = asyncio.create_task(server.run(slow))
        while not events:
            await asyncio.sleep(0.01)
        first.cancel()
        second = asyncio.create_task(server.run(lambda: events.append("next")))
        await asyncio.sleep(0.1)
        goes_on.set()
        await second

    asyncio.run(cancel())
    assert events == ["begins", "ends", "next"]


def test_messages_that_are_not_valid_are_logged_in_one_line():
    def message(body: str) -> bytes:
        return f"Content-Length: {len(body)}\r\n\r\n{body}".encode()

    sent = [message("{{{"), message("[1]"), message('{"jsonrpc": "2.0", "id": 1, "method": "textDocument/hover"}')]
    sent.append(message('{"jsonrpc": "2.0", "method": "exit"}'))
    done = subprocess.run([sys.executable, "-m", "flowconf", "lsp"], input=b"".join(sent), capture_output=True)
    logged = done.stderr.decode()
    assert "JSONDecodeError" in logged
    assert "Traceback" not in logged
    assert 'File "' not in logged


def test_a_message_without_end_is_refused():
    sent = b"Content-Length: 100000000000\r\n\r\n{}"
    done = subprocess.run([sys.executable, "-m", "flowconf", "lsp"], input=sent, capture_output=True)
    assert done.returncode == 2
    assert done.stderr.decode().startswith("error[FC0001]: the editor sends a message of 100,000,000,000 bytes")


def test_the_lines_of_a_text_are_divided_once_for_all_places(monkeypatch):
    from pygls.workspace import TextDocument

    from flowconf.editor.server import Server

    monkeypatch.setattr(Server, "documents", {"/a.yaml": TextDocument("file:///a.yaml", "flow: {}\n" * 3)})
    server = Server()
    assert server.lines("/a.yaml") is server.lines("/a.yaml")
