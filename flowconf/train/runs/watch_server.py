"""Serves the page of watched runs to a browser on this machine.

A request is answered if it is a GET with the token of the address, and calls this machine by one of its addresses: a
name of another site that leads here (DNS rebinding) is refused. It names no file, only a run by the number that it has
in an answer.
"""

from __future__ import annotations

import hmac
import re
import secrets
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any
from urllib.parse import parse_qs

from flowconf.draw.page.assemble import plain_json, watch_page
from flowconf.report import raised_at
from flowconf.train.runs.watching import Watched

HOST = "127.0.0.1"
CALLED = re.compile(r"(127\.0\.0\.1|localhost)(:\d+)?", re.ASCII)
"""The names by which a browser may call; any port may be forwarded to this one."""
IDLE = 30
"""Seconds after which an idle connection is closed."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class WatchServer(ThreadingHTTPServer):
    """Listens on this machine alone. Raises `OSError` if the port is taken; port 0 takes any."""

    daemon_threads = True

    def __init__(self, watched: Watched, port: int) -> None:
        super().__init__((HOST, port), Answering)
        self.watched = watched
        self.token = secrets.token_urlsafe(16)
        self.page = watch_page().encode()
        self._graphs = Lock()

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Report what went wrong, unless it is a browser that closed its connection."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def graph(self, run_id: str) -> dict[str, Any] | None:
        """The graph of a run, or why it cannot be shown; None if there is no such run."""
        from flowconf.train.runs.report_page import graph_of

        run = self.watched.run(run_id)
        if run is None:
            return None
        with self._graphs:
            found, warnings = graph_of(run.folder)
        return {"graph": found.get(run.folder), "notes": [warning.message for warning in warnings]}


class Answering(BaseHTTPRequestHandler):
    """Answers one request."""

    server: WatchServer
    server_version = "flowconf"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = IDLE

    def do_GET(self) -> None:
        names = self.headers.get_all("Host", [])
        if len(names) != 1 or not CALLED.fullmatch(names[0]):
            self._refuse(HTTPStatus.FORBIDDEN)
            return
        path, _, query = self.path.partition("?")
        token, _, name = path.removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode(errors="replace"), self.server.token.encode()):
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        given = {key: values[0] for key, values in parse_qs(query).items()}
        match name:
            case "":
                self._answer("text/html; charset=utf-8", self.server.page)
            case "changes":
                self._answer_data(self.server.watched.changes(given.get("since", "")))
            case "graph":
                self._answer_graph(given.get("run", ""))
            case _:
                self._refuse(HTTPStatus.NOT_FOUND)

    def _answer_graph(self, run_id: str) -> None:
        try:
            found = self.server.graph(run_id)
        except Exception as error:  # noqa: BLE001 - modules of the project may raise anything
            place = raised_at(error)
            found = {"graph": None, "notes": [f"{type(error).__name__}: {error}" + (f" ({place})" if place else "")]}
        if found is None:
            self._refuse(HTTPStatus.NOT_FOUND)
        else:
            self._answer_data(found)

    def _answer_data(self, data: Mapping[str, Any]) -> None:
        self._answer("application/json", plain_json(data).encode())

    def _refuse(self, status: HTTPStatus) -> None:
        self._answer("text/plain; charset=utf-8", f"{status.value} {status.phrase}\n".encode(), status)

    def _answer(self, kind: str, body: bytes, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: the page asks once a second."""
