"""A server on loopback that speaks the protocol of the Hugging Face hub, as far as weights need it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Hub:
    """Repositories in a folder, as `org/model/file`; the only revisions are `main` and its commit."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked, self.uploaded = folder, list[str](), dict[str, bytes]()

    @property
    def commit(self) -> str:
        """The commit of all repositories: a digest of their files."""
        digest = hashlib.sha1()
        for file in sorted(self.folder.rglob("*")):
            if file.is_file():
                digest.update(str(file).encode() + file.read_bytes())
        return digest.hexdigest()

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve within the block; gives the address."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self._file(with_content=False)

    def do_GET(self) -> None:
        self._file(with_content=True)

    def _file(self, with_content: bool) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        repo, _, rest = self.path.partition("?")[0].lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        folder = self.hub.folder / repo
        if not folder.is_dir() or not rest:
            self._refuse("RepoNotFound")
        elif revision not in ("main", self.hub.commit):
            self._refuse("RevisionNotFound")
        elif not (folder / name).is_file():
            self._refuse("EntryNotFound")
        else:
            content = (folder / name).read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            headers = {"ETag": f'"{digest}"', "X-Repo-Commit": self.hub.commit, "X-Linked-Size": str(len(content))}
            self._answer(200, content, headers, with_content)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append(f"{self.command} {self.path}")
        if self.path.endswith("/repos/create"):
            given = json.loads(body)
            repo = "/".join(filter(None, [given.get("organization"), given["name"]]))
            self._json({"url": f"http://{self.headers['Host']}/{repo}", "id": repo})
        elif "/preupload/" in self.path:
            files = [{"path": one["path"], "uploadMode": "regular"} for one in json.loads(body)["files"]]
            self._json({"files": [{**one, "shouldIgnore": False, "oid": None} for one in files]})
        elif "/commit/" in self.path:
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.hub.uploaded[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            repo = self.path.removeprefix("/api/models/").partition("/commit/")[0]
            commit = f"http://{self.headers['Host']}/{repo}/commit/{'0' * 40}"
            self._json({"commitUrl": commit, "commitOid": "0" * 40})
        else:
            self._json({"type": "yaml", "errors": [], "warnings": []})

    def _json(self, data: object) -> None:
        self._answer(200, json.dumps(data).encode(), {"Content-Type": "application/json"}, with_content=True)

    def _refuse(self, code: str) -> None:
        self._answer(404, b"", {"X-Error-Code": code, "X-Error-Message": code}, with_content=True)

    def _answer(self, status: int, content: bytes, headers: dict[str, str], with_content: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_content:
            self.wfile.write(content)
