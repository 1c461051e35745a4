"""The report of a run: what is in it, when it is written, and what it costs."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest
import torch

from flowconf.cli.main import main
from flowconf.language.points import RunLength
from flowconf.report import RunError
from flowconf.train.callbacks import resources
from flowconf.train.commands.train import resume
from flowconf.train.runs import report_data as module
from flowconf.train.runs import report_page
from flowconf.train.runs.curves import MOST_RANGES
from flowconf.train.runs.report_data import report_data
from flowconf.train.screen import Screen
from tests.train.conftest import TINY

PHASES = "{first: {until: {epoch: 1}}, second: {}}"


def data_in(page: str):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def files(run):
    return {file.name for file in run.folder.iterdir()}


def test_a_report_is_written_unless_it_is_off(folder):
    assert "report.html" not in files(folder.train("trainer.report=false"))
    run = folder.train()
    [shown] = data_in((run.folder / "report.html").read_text(encoding="utf-8"))["runs"]
    assert shown["status"] == "finished"
    assert shown["metrics"] == run.record["metrics"]
    accuracy = [(line["step"], line["val/accuracy"]) for line in run.log if "val/accuracy" in line]
    assert shown["curves"]["val/accuracy"]["steps"] == [step for step, _ in accuracy]
    assert shown["curves"]["val/accuracy"]["values"] == pytest.approx([value for _, value in accuracy], rel=1e-5)
    assert shown["graph"]["graph"]["parameters"] == 8 * 16 + 16 + 16 * 4 + 4
    [rate] = [row for row in shown["settings"] if row[0] == "optimizer.lr"]
    assert rate[1] == "0.01"
    assert rate[2].startswith("tiny.yaml:")


def test_members_have_the_accounts_of_their_weights(folder):
    source = f"checkpoint: {{path: {folder.train('trainer.epochs=1').folder}/checkpoints/best.safetensors, at: stem}}"
    text = TINY.replace("    stem: Linear(8, 16)\n", f"    stem: {{through: 'Linear(8, 16)', {source}}}\n")
    run = folder.train("trainer.epochs=1", text=text)
    [shown] = data_in((run.folder / "report.html").read_text(encoding="utf-8"))["runs"]
    assert list(shown["graph"]["accounts"]) == ["stem"]
    assert shown["graph"]["accounts"]["stem"] == (run.folder / "weights.txt").read_text().splitlines()
    assert shown["graph"]["accounts"]["stem"][0].endswith(": 2 tensors loaded")
    (run.folder / "weights.txt").write_text("  damaged\nby hand\n")
    assert report_data([run.folder], {run.folder: {"overlays": {}}})[0]["runs"][0]["graph"]["accounts"] == {}


def test_a_report_says_what_the_run_took(folder):
    run = folder.train()
    taken = run.record["resources"]
    steps = run.log[-1]["step"]
    assert taken["steps_per_second"] == pytest.approx(steps / taken["seconds"], rel=0.01)
    assert taken["rows_per_second"] == pytest.approx(32 * taken["steps_per_second"], rel=0.01)
    assert taken["memory"] > 1_000_000
    facts = dict(report_data([run.folder], {})[0]["runs"][0]["facts"])
    assert {"throughput", "processors", "memory"} <= facts.keys()
    record = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps(record | {"resources": {"memory": "much"}}))
    assert report_data([run.folder], {})[1][0].code == "FC0702"


def test_a_report_has_what_the_steps_took(folder, monkeypatch):
    monkeypatch.setattr(resources, "BETWEEN", 0.0)
    run = folder.train("trainer.log_every=8")
    lines = [json.loads(line) for line in (run.folder / "resources.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [line["step"] for line in run.log if "train/loss" in line]
    assert all(line["rows_per_second"] > 0 and line["memory"] > 1_000_000 for line in lines)
    [shown] = report_data([run.folder], {})[0]["runs"]
    curve = shown["curves"]["resources/rows per second"]
    assert curve["steps"] == [line["step"] for line in lines]
    assert shown["curves"]["resources/memory, MB"]["values"][0] == pytest.approx(lines[0]["memory"] / 1e6, rel=1e-4)
    assert "resources.jsonl" not in files(folder.train("trainer.report=false"))


CPU = torch.device("cpu")


def test_evaluations_are_no_part_of_the_time_of_steps(monkeypatch):
    clock, logged = [0.0], []
    monkeypatch.setattr(resources.time, "perf_counter", lambda: clock[0])
    trainer = SimpleNamespace(data=SimpleNamespace(batch_size=10))
    job = SimpleNamespace(config=SimpleNamespace(training=trainer), length=RunLength(3, 3), total_steps=3, device=CPU)
    watcher = resources.Resources(job)
    watcher.begin(SimpleNamespace(log_resources=lambda step, found: logged.append((step, found))), None)
    watcher.start(0)
    for step in (1, 2, 3):
        clock[0] += 0.5
        if step > 1:
            watcher.logged(step)
        clock[0] += 100.0  # an evaluation
        watcher.evaluated(step, {})
    assert [(step, found["rows_per_second"]) for step, found in logged] == [(2, 20.0), (3, 20.0)]


def test_what_steps_take_is_logged_at_most_twice_a_second(monkeypatch):
    clock, logged = [0.0], []
    monkeypatch.setattr(resources.time, "perf_counter", lambda: clock[0])
    trainer = SimpleNamespace(data=SimpleNamespace(batch_size=10))
    job = SimpleNamespace(config=SimpleNamespace(training=trainer), length=RunLength(8, 3), total_steps=8, device=CPU)
    watcher = resources.Resources(job)
    watcher.begin(SimpleNamespace(log_resources=lambda step, found: logged.append((step, found))), None)
    watcher.start(0)
    for step in range(1, 9):
        clock[0] += 1 / 8
        watcher.logged(step)
    assert [(step, found["rows_per_second"]) for step, found in logged] == [(4, 80.0), (8, 80.0)]


def test_the_log_of_resources_is_no_link(folder, tmp_path):
    run = folder.train("trainer.epochs=1", "trainer.log_every=8")
    log = run.folder / "resources.jsonl"
    log.unlink()
    log.symlink_to(tmp_path / "other")
    with pytest.raises(RunError, match="cannot write into the run folder"):
        resume(str(run.folder), ["trainer.epochs=2"], Screen(folder.said))
    assert not (tmp_path / "other").exists()


def test_a_run_that_fails_has_a_report_too(folder):
    with pytest.raises(Exception, match="not finite"):
        folder.train("optimizer.lr=1e30", "trainer.log_every=1")
    [shown] = data_in((folder.runs()[0] / "report.html").read_text(encoding="utf-8"))["runs"]
    assert shown["status"] == "failed"


def test_reports_of_a_run_take_a_hundredth_of_its_time(folder, monkeypatch):
    run = folder.train()
    clock = [0.0]
    written = []
    monkeypatch.setattr(report_page.time, "monotonic", lambda: clock[0])

    def write(data, file):
        written.append(clock[0])
        clock[0] += 0.5

    monkeypatch.setattr(report_page, "write_page", write)
    monkeypatch.setattr(report_page, "facts_of_graph", lambda graph: None)
    monkeypatch.setattr(report_page, "picture", lambda plan, facts, **options: None)
    monkeypatch.setattr(report_page, "as_data", lambda whole, facts, origins: {})

    class Graph:
        plan = None

    reports = report_page.Reports(run.folder, Graph(), None, print, began=0.0)
    reports.write(False)
    assert not written, "a run of some milliseconds has its report at the end only"
    for _ in range(1000):
        clock[0] += 1
        reports.write(False)
    assert 0 < reports.spent <= 0.01 * clock[0] + 0.5
    before = len(written)
    reports.write(True)
    assert len(written) == before + 1


def test_a_mistake_in_a_report_does_not_end_the_run(folder, monkeypatch):
    def fail(folders, graphs):
        raise KeyError("no such thing")

    monkeypatch.setattr(report_page, "report_data", fail)
    assert folder.train().record["status"] == "finished"
    assert "no report: KeyError: 'no such thing'" in folder.said.getvalue()


def test_phases_are_the_steps_between_their_changes(folder):
    run = folder.train(f"+phases={PHASES}", "trainer.log_every=5")
    data, _ = report_data([run.folder], {})
    [shown] = data["runs"]
    assert [phase["name"] for phase in shown["phases"]] == ["first", "second"]
    assert shown["phases"][0]["from"] == 0
    assert shown["phases"][0]["to"] == shown["phases"][1]["from"]
    assert shown["phases"][1]["to"] == run.log[-1]["step"]
    assert shown["steps_per_epoch"] == pytest.approx(run.log[-1]["step"] / run.log[-1]["epoch"], rel=0.01)


def test_a_long_curve_keeps_its_peaks(folder):
    run = folder.train()
    lines = [{"step": step, "train/loss": 100.0 if step == 33_333 else 1.0 / step} for step in range(1, 50_001)]
    (run.folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    [shown] = report_data([run.folder], {})[0]["runs"]
    curve = shown["curves"]["train/loss"]
    assert shown["thinned"]
    assert len(curve["steps"]) <= 2 * MOST_RANGES
    assert curve["values"][curve["steps"].index(33_333)] == 100
    assert curve["steps"] == sorted(curve["steps"])


def test_what_is_no_number_is_no_point(folder):
    run = folder.train()
    with (run.folder / "metrics.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"step": 99, "val/loss": NaN, "val/accuracy": "high"}\n[1]\n{"step": 100, "val/lo')
    [shown] = report_data([run.folder], {})[0]["runs"]
    assert 99 not in shown["curves"]["val/loss"]["steps"]
    json.dumps(shown["curves"], allow_nan=False)


def test_the_command_writes_into_the_run_folder(folder, capsys):
    run = folder.train()
    assert main(["report", str(run.folder)]) == 0
    assert capsys.readouterr().out.strip() == str(run.folder / "report.html")
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert data_in(page)["runs"][0]["graph"]["graph"]["name"]
    assert len(page) <= 250_000
    members = {one["id"]: one for one in data_in(page)["runs"][0]["graph"]["graph"]["inside"]["members"]}
    assert members["stem"]["origin"] == {"file": "tiny.yaml", "line": 5}
    assert members["stem"]["place"]["file"].endswith("config.yaml")


def test_several_runs_are_compared(folder, capsys):
    one, two = folder.train("seed=1"), folder.train("seed=2")
    assert main(["report", str(one.folder), str(two.folder), "-o", "both.html"]) == 0
    data = data_in((folder.path / "both.html").read_text(encoding="utf-8"))
    assert data["differs"] == [{"key": "seed", "values": ["1", "2"]}]
    assert [run["name"] for run in data["runs"]] == [one.folder.name, two.folder.name]


def test_what_is_no_run_is_refused(folder, capsys):
    assert main(["report", "nowhere"]) == 2
    assert "error[FC0301]" in capsys.readouterr().err
    assert not (folder.path / "report.html").exists()


def test_a_run_whose_graph_is_unknown_is_reported_without_it(folder, capsys):
    run = folder.train()
    config = run.folder / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace("ReLU", "RelU"), encoding="utf-8")
    assert main(["report", str(run.folder)]) == 0
    assert "warning[FC0132]: unknown module `RelU`" in capsys.readouterr().err
    assert data_in((run.folder / "report.html").read_text(encoding="utf-8"))["runs"][0]["graph"] is None


def test_the_version_is_part_of_the_data(folder):
    run = folder.train()
    data, warnings = report_data([run.folder], {})
    assert (data["format"], data["version"], warnings) == ("flowconf report", module.VERSION, [])


def test_the_report_of_a_sweep_compares_its_runs(folder):
    file = folder.write()
    assert main(["train", file, "-m", "seed=0,1", "trainer.epochs=1", "trainer.report=false"]) == 0
    found = folder.runs()
    assert main(["report", *map(str, found), "-o", "all.html"]) == 0
    assert main(["report", str(next(one for one in found if one.name.startswith("sweep_"))), "-o", "sweep.html"]) == 0
    for page in ("all.html", "sweep.html"):
        assert len(data_in((folder.path / page).read_text(encoding="utf-8"))["runs"]) == 2
