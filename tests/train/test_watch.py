"""`flowconf watch`: what its server answers, and what it refuses."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest

from flowconf.cli.main import main
from flowconf.train.runs import log_reader, watching
from flowconf.train.runs.predictions import Compared, Shown, write_predictions
from flowconf.train.runs.watch_server import WatchServer
from flowconf.train.runs.watching import Watched
from tests.train.conftest import TINY

HOSTILE = "</script><script>window.ran=1</script>\u202e\x1b"
CONFIG = TINY + "seed: %d\n"
OTHER_HOSTS = [
    "evil.example", "evil.example:7117", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "[::1]", "0.0.0.0", "",
    "localhost:7117x", "localhost\t.evil",
]  # fmt: skip
OTHER_PATHS = [
    "//[::1",
    "/", "/changes", "//changes", "/x/changes", "/%00/", "/%C3%A9/", "/TOKENx/", "/TOKEN/../changes",
    "/TOKEN/../../etc/passwd", "/TOKEN/..%2f..%2fetc%2fpasswd", "/TOKEN//etc/passwd", "/TOKEN/run.json",
    "/TOKEN/digits/one/run.json", "/TOKEN/graph", "/TOKEN/graph?run=../digits/one", "/TOKEN/graph?run=99",
]  # fmt: skip


def make_run(root: Path, name: str, seed: int = 0, **record: object) -> Path:
    folder = root / "digits" / name
    folder.mkdir(parents=True)
    known = {
        "config": "digits.yaml",
        "status": "finished",
        "metrics": {},
        "started": f"2026-01-0{seed + 1}T00:00:00+00:00",
    }
    (folder / "run.json").write_text(json.dumps(known | record), encoding="utf-8")
    (folder / "config.yaml").write_text(CONFIG % seed, encoding="utf-8")
    write_lines(folder, range(1, 4))
    return folder


def write_lines(folder: Path, steps, scale: float = 1.0, mode: str = "a") -> None:
    with (folder / "metrics.jsonl").open(mode, encoding="utf-8") as log:
        log.writelines(json.dumps({"step": step, "train/loss": scale * step}) + "\n" for step in steps)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "BETWEEN_LOOKS", 0.0)
    return tmp_path / "runs"


def steps_of(answer, run_id: str = "1"):
    return answer["runs"][run_id]["curves"]["train/loss"]["steps"]


def test_only_what_is_new_is_sent(root):
    folder = make_run(root, "one")
    watched = Watched([root])
    first = watched.changes()
    assert steps_of(first) == [1, 2, 3]
    assert (first["order"], first["behind"], first["read"]) == (["1"], False, 1.0)
    assert ["seed", "0", ""] in [list(row) for row in first["runs"]["1"]["settings"]]
    assert watched.changes(first["change"])["runs"] == {}
    write_lines(folder, [4, 5])
    second = watched.changes(first["change"])
    assert steps_of(second) == [4, 5]
    assert "settings" not in second["runs"]["1"]
    assert steps_of(watched.changes()) == [1, 2, 3, 4, 5], "who joins late sees all of it"
    assert steps_of(watched.changes("another-17")) == [1, 2, 3, 4, 5], "so does the page of a server before"


def test_predictions_and_resources_are_sent_when_they_appear(root):
    folder = make_run(root, "one")
    watched = Watched([root])
    first = watched.changes()
    assert first["runs"]["1"]["predictions"] is None
    shown = Shown(split="val", step=3, tasks=[Compared(of=["loss.label"], predicted="logits", target="label")])
    write_predictions(folder, shown)
    (folder / "resources.jsonl").write_text('{"step": 3, "rows_per_second": 7, "memory": "much"}\n')
    second = watched.changes(first["change"])["runs"]["1"]
    assert second["predictions"]["tasks"][0]["predicted"] == "logits"
    assert second["curves"]["resources/rows per second"]["values"] == [7]
    assert "resources/memory, MB" not in second["curves"]
    assert watched.changes(watched.changes()["change"])["runs"] == {}


def test_a_long_log_is_a_sketch_until_it_is_read(root, monkeypatch):
    monkeypatch.setattr(watching, "LONG", 1000)
    monkeypatch.setattr(watching, "PORTION", 10)  # ticks of the clock
    monkeypatch.setattr(watching, "time", SimpleNamespace(monotonic=itertools.count().__next__))
    monkeypatch.setattr(log_reader, "SLICE", 10_000)
    write_lines(make_run(root, "one"), range(4, 5000))
    watched = Watched([root])
    answer = first = watched.changes()
    assert (first["behind"], first["read"] < 0.5) == (True, True)
    assert (steps_of(first)[0], steps_of(first)[-1] > 4900) == (1, True)
    while answer["behind"]:
        last, answer = answer["change"], watched.changes(answer["change"])
        assert answer["behind"] == (answer["runs"] == {})
    assert answer["runs"]["1"]["again"]
    assert answer["runs"] == watched.changes(last)["runs"]
    assert (steps_of(answer)[0], steps_of(answer)[-1]) == (1, 4999)
    assert watched.changes(answer["change"])["runs"] == {}


def test_runs_appear_change_and_go(root):
    one = make_run(root, "one", 0)
    watched = Watched([root])
    first = watched.changes()
    assert first["differs"] == []
    two = make_run(root, "two", 1)
    second = watched.changes(first["change"])
    assert second["order"] == ["1", "2"]
    assert second["differs"] == [{"key": "seed", "values": ["0", "1"]}]
    assert list(second["runs"]) == ["2"]
    record = json.loads((two / "run.json").read_text())
    (two / "run.json").write_text(json.dumps(record | {"status": "failed", "metrics": {"val/loss": 2.0}}))
    third = watched.changes(second["change"])
    assert (third["runs"]["2"]["status"], third["runs"]["2"]["metrics"]) == ("failed", {"val/loss": 2.0})
    for file in one.iterdir():
        file.unlink()
    one.rmdir()
    assert watched.changes(third["change"])["order"] == ["2"]


def test_a_resumed_run_replaces_what_it_logs_again(root):
    folder = make_run(root, "one")
    watched = Watched([root])
    first = watched.changes()
    write_lines(folder, range(1, 3), mode="w")
    write_lines(folder, [3, 4], scale=10)
    run = watched.changes(first["change"])["runs"]["1"]
    assert run["again"]
    assert run["curves"]["train/loss"]["values"] == [1, 2, 30, 40]


def test_a_run_whose_process_is_gone_has_died(root):
    import platform

    folder = make_run(root, "one", status="running", host=platform.node())
    watched = Watched([root])
    assert watched.changes()["runs"]["1"]["status"] == "died"
    from flowconf.train.runs import lock

    lines = lock.take(folder)
    try:
        assert watched.changes()["runs"]["1"]["status"] == "running"
    finally:
        lock.release(lines)


def test_links_are_not_followed(root, tmp_path):
    secret = tmp_path / "secret"
    outside = make_run(tmp_path / "elsewhere", "other", 1)
    secret.write_text("seed: 123456789\n", encoding="utf-8")
    make_run(root, "one", 0)
    (root / "digits" / "linked").symlink_to(outside)
    (root / "linked").symlink_to(outside.parent)
    for number, name in enumerate(("config.yaml", "run.json", "metrics.jsonl", "weights.txt", "origins.json"), 2):
        folder = make_run(root, f"has {name}", number)
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(secret if name != "run.json" else outside / "run.json")
    answer = Watched([root]).changes()
    assert "123456789" not in json.dumps(answer)
    names = {run["name"] for run in answer["runs"].values()}
    assert names == {"one", "has metrics.jsonl", "has weights.txt", "has origins.json"}
    assert sum("is a link" in note for note in answer["notes"]) == 2


def test_a_broken_record_is_a_note(root):
    make_run(root, "one")
    (make_run(root, "two") / "run.json").write_text("{", encoding="utf-8")
    answer = Watched([root]).changes()
    assert answer["order"] == ["1"] or answer["order"] == ["2"]
    assert any("not valid JSON" in note for note in answer["notes"])


def test_the_newest_runs_are_watched(root, monkeypatch):
    monkeypatch.setattr(watching, "MOST_RUNS", 2)
    for number in range(3):
        make_run(root, f"2026-01-0{number}", number)
    answer = Watched([root]).changes()
    assert [run["name"] for run in answer["runs"].values()] == ["2026-01-01", "2026-01-02"]
    assert answer["notes"] == ["1 older runs are not shown"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("served") / "runs"
    folder = make_run(root, "one")
    (folder / "weights.txt").write_text(HOSTILE, encoding="utf-8")
    with WatchServer(Watched([root]), 0) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(server, path: str, method: str = "GET", **headers: str):
    with closing(HTTPConnection("127.0.0.1", server.server_port, timeout=120)) as connection:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer, answer.read()


def test_it_listens_on_this_machine_only(server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.address.startswith(f"http://127.0.0.1:{server.server_port}/")


def test_a_page_and_its_data_are_served(server):
    answer, page = ask(server, f"/{server.token}/")
    assert answer.status == 200
    assert b"connect-src &#x27;self&#x27;" in page
    assert ask(server, f"/{server.token}")[1] == page
    assert HOSTILE.encode() not in page
    answer, body = ask(server, f"/{server.token}/changes?since=")
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(body)["runs"]["1"]["name"] == "one"


def test_nothing_of_another_site_reads_an_answer(server):
    for path in ("", "changes", "graph?run=99", "nothing"):
        answer, _ = ask(server, f"/{server.token}/{path}", Origin="http://evil.example")
        headers = {name.lower(): value for name, value in answer.headers.items()}
        assert not any(name.startswith("access-control") for name in headers)
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["content-security-policy"] == "frame-ancestors 'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "python" not in headers["server"].lower()


@pytest.mark.parametrize("host", OTHER_HOSTS)
def test_a_name_of_another_site_is_refused(server, host):
    answer, body = ask(server, f"/{server.token}/changes", Host=host)
    assert answer.status == 403
    assert b"one" not in body


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "localhost:8080"])
def test_a_forwarded_port_is_answered(server, host):
    assert ask(server, f"/{server.token}/changes", Host=host)[0].status == 200


@pytest.mark.parametrize("path", OTHER_PATHS)
def test_nothing_else_is_served(server, path):
    answer, body = ask(server, path.replace("TOKEN", server.token))
    assert answer.status in (400, 404)
    assert b"root:" not in body
    assert b"digits.yaml" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE", "CONNECT"])
def test_only_get_is_answered(server, method):
    answer, _ = ask(server, f"/{server.token}/changes", method)
    assert answer.status == 501
    assert answer.headers["Allow"] is None


def test_the_graph_of_a_run_is_made_when_it_is_asked_for(server):
    run_id = json.loads(ask(server, f"/{server.token}/changes")[1])["order"][0]
    found = json.loads(ask(server, f"/{server.token}/graph?run={run_id}")[1])
    assert found["graph"]["graph"]["parameters"] == 8 * 16 + 16 + 16 * 4 + 4
    assert found["notes"] == []


def test_a_graph_that_is_wrong_is_a_note(root):
    folder = make_run(root, "one")
    (folder / "config.yaml").write_text((CONFIG % 0).replace("Linear(8", "Liner(8"), encoding="utf-8")
    server = WatchServer(Watched([root]), 0)
    server.server_close()
    server.watched.changes()
    assert server.graph("1") == {"graph": None, "notes": ["unknown module `Liner`"]}


def test_a_port_that_is_taken_is_refused(root, monkeypatch, capsys):
    make_run(root, "one")
    monkeypatch.chdir(root.parent)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["watch", "--no-browser", "--port", str(port)]) == 3
    reported = capsys.readouterr().err
    assert f"error[FC0601]: cannot listen on port {port}: address already in use" in reported
    assert "`--port 0`" in reported


def test_a_folder_that_does_not_exist_is_refused(root, capsys):
    assert main(["watch", str(root), "--no-browser"]) == 2
    assert "error[FC0301]" in capsys.readouterr().err


def test_ctrl_c_ends_it(root):
    make_run(root, "one")
    words = [sys.executable, "-m", "flowconf", "watch", str(root), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ) as process:
        address = process.stdout.readline().split()[0]
        port = int(address.split(":")[2].split("/")[0])
        with closing(HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
            connection.request("GET", "/")
            assert connection.getresponse().status == 404
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
