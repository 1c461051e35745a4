"""Loggers: what they are reported, that they cost the run nothing, and that a broken one is no reason to end."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from flowconf.api import load
from flowconf.cli.main import main
from flowconf.language import registry
from flowconf.report import ConfigError, MachineError
from flowconf.train.commands.train import resume
from flowconf.train.runs import loggers
from flowconf.train.screen import Screen
from tests.train.conftest import TINY, killed, module


class Kept:
    """A logger that keeps what it is reported."""

    def __init__(self, run, **args):
        self.run, self.args, self.reported, self.status = run, args, [], None

    def log(self, step, values):
        self.reported.append((step, dict(values)))

    def close(self, status):
        self.status = status


@pytest.fixture
def kept(monkeypatch):
    """Registers the logger `kept`; gives what was made of it."""
    made = []

    def make(run, *, where="here"):
        made.append(Kept(run, where=where))
        return made[-1]

    monkeypatch.setitem(registry.loggers.registered, "kept", make)
    return made


def test_a_logger_gets_every_line_of_the_log(folder, kept):
    run = folder.train("+loggers.kept.where=there")
    (logger,) = kept
    lines = [{key: value for key, value in line.items() if "/" in key or key == "lr"} for line in run.log]
    assert logger.reported == [(line["step"], values) for line, values in zip(run.log, lines, strict=True)]
    assert logger.args == {"where": "there"}
    assert logger.status == "finished"
    assert logger.run.config["data"]["name"] == "synthetic"
    assert logger.run.record["seed"] == 0
    assert logger.run.folder == run.folder


def test_a_run_that_goes_on_is_the_same_run_to_its_loggers(folder, kept):
    text = TINY + "loggers: {kept: {}}\n"
    killed(lambda: folder.train(text=text), 15)
    (run,) = folder.runs()
    resume(run, screen=Screen(folder.said))
    (logger,) = kept
    assert logger.run.id == folder.run(run).record["id"]
    assert logger.reported[0][0] > 10


def test_one_that_fails_is_reported_once_and_changes_nothing(folder, monkeypatch):
    def broken(run):
        raise ConnectionError("no route to host")

    def later(run):
        return SimpleNamespace(log=lambda step, values: 1 / 0)

    monkeypatch.setitem(registry.loggers.registered, "broken", broken)
    monkeypatch.setitem(registry.loggers.registered, "later", later)
    alone = folder.train()
    run = folder.train("+loggers.broken={}", "+loggers.later={}")
    assert run.record["status"] == "finished"
    assert folder.said.getvalue().count("the logger `broken` failed, the run continues without it: no route") == 1
    assert folder.said.getvalue().count("the logger `later` failed") == 1
    first, second = (load_file(one.folder / "checkpoints" / "best.safetensors") for one in (alone, run))
    assert all(first[name].equal(second[name]) for name in first)


def test_one_that_never_answers_is_left_behind(folder, monkeypatch):
    free = threading.Event()
    monkeypatch.setattr(loggers, "PATIENCE", 0.05)
    monkeypatch.setitem(registry.loggers.registered, "stuck", lambda run: free.wait())
    run = folder.train("+loggers.stuck={}")
    free.set()
    assert run.record["status"] == "finished"
    assert "the logger `stuck` does not respond" in folder.said.getvalue()


def test_a_failed_run_says_so(folder, kept):
    with pytest.raises(Exception, match="finite"):
        folder.train("optimizer.lr=1e38", "+loggers.kept={}", "trainer.log_every=1")
    assert kept[0].status == "failed"


def test_a_missing_package_is_reported_before_anything_runs(folder, monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(MachineError) as caught:
        folder.train(text=TINY + "loggers: {wandb: {}}\n")
    (reported,) = caught.value.diagnostics
    assert (reported.code, reported.message) == ("FC0601", "the logger `wandb` requires the package `wandb`")
    assert reported.help == "run `pip install 'flowconf[wandb]'`"
    assert reported.place.line == 16
    assert not (folder.path / "runs").exists()


@pytest.mark.parametrize(
    ("section", "code", "message", "column"),
    [
        ("{wandbb: {}}", "FC0401", "unknown logger `wandbb`", 11),
        ("{wandb: {projet: a}}", "FC0133", "`wandb` takes no argument `projet`", 19),
        ("{wandb: {project: 3}}", "FC0123", "`loggers.wandb.project` must be a string, got `3`", 28),
    ],
)
def test_mistakes_have_places(folder, section, code, message, column):
    with pytest.raises(ConfigError) as caught:
        load(folder.write(TINY + f"loggers: {section}\n"))
    (reported,) = caught.value.diagnostics
    assert (reported.code, reported.message, reported.place.column) == (code, message, column)


def test_null_takes_a_logger_away(folder, kept):
    folder.train("loggers.kept=null", text=TINY + "loggers: {kept: {}}\n")
    assert kept == []


def test_the_commands_of_a_project_see_what_it_registers(folder, capsys):
    (folder.path / "pyproject.toml").write_text('[tool.flowconf]\nmodules = ["own_logger"]\n')
    (folder.path / "own_logger.py").write_text(OWN)
    folder.write(TINY + "loggers: {lines: {file: reported.txt}}\n")
    try:
        assert main(["train", "tiny.yaml", "trainer.epochs=1"]) == 0
    finally:
        registry.loggers.registered.pop("lines", None)
        sys.modules.pop("own_logger", None)
    assert "val/accuracy" in (folder.path / "reported.txt").read_text()


OWN = """
from pathlib import Path
import flowconf

@flowconf.register_logger
def lines(run, *, file: str):
    return Lines(Path(file))

class Lines:
    def __init__(self, file):
        self.file = file.open("w")

    def log(self, step, values):
        print(step, values, file=self.file)

    def close(self, status):
        self.file.close()
"""


# the clients


def test_weights_and_biases(folder, monkeypatch):
    calls = []
    tracked = SimpleNamespace(
        define_metric=lambda *args, **more: calls.append(("define", args, more)),
        log=lambda values: calls.append(("log", values)),
        finish=lambda exit_code: calls.append(("finish", exit_code)),
    )
    begun = {}

    def init(**arguments):
        begun.update(arguments)
        return tracked

    module(monkeypatch, "wandb", init=init, Settings=lambda **settings: settings)
    run = folder.train("+loggers.wandb={project: digits, mode: offline}", "trainer.epochs=1")
    assert (begun["project"], begun["mode"], begun["resume"]) == ("digits", "offline", "allow")
    assert (begun["id"], begun["dir"]) == (run.record["id"], str(run.folder))
    assert begun["config"]["optimizer"]["lr"] == 0.01
    assert "git" in begun["config"]["run"]
    assert [values["step"] for kind, values in calls[2:-1]] == [line["step"] for line in run.log]
    assert calls[-1] == ("finish", 0)


class Server:
    """What the MLflow logger uses of MLflow's client."""

    def __init__(self, uri):
        self.uri, self.runs, self.metrics, self.params, self.ended = uri, [], [], [], None

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name):
        return f"number of {name}"

    def search_runs(self, experiments, filter_string):
        return [run for run in self.runs if f"'{run.tags['flowconf.id']}'" in filter_string]

    def create_run(self, experiment, run_name, tags):
        self.runs.append(SimpleNamespace(info=SimpleNamespace(run_id=str(len(self.runs))), tags=tags))
        return self.runs[-1]

    def log_batch(self, number, metrics=(), params=()):
        assert len(params) <= 100
        self.metrics += metrics
        self.params += params

    def set_terminated(self, number, status):
        self.ended = (number, status)


def test_mlflow(folder, monkeypatch):
    servers = {}

    def client(uri):
        return servers.setdefault(uri, Server(uri))

    entities = SimpleNamespace(Param=lambda key, value: (key, value), Metric=lambda *metric: metric)
    module(monkeypatch, "mlflow", MlflowClient=client, entities=entities)
    text = TINY + "loggers: {mlflow: {tracking_uri: here, tags: {team: red}}}\n"
    run = folder.train("trainer.epochs=1", text=text)
    server = servers["here"]
    assert server.ended == ("0", "FINISHED")
    assert server.runs[0].tags["team"] == "red"
    assert ("optimizer.lr", "0.01") in server.params
    assert {step for _, _, _, step in server.metrics} == {line["step"] for line in run.log}
    assert {name for name, *_ in server.metrics} >= {"lr", "val/loss", "val/loss.label", "val/accuracy"}
    resume(run.folder, ["trainer.epochs=2"], Screen(folder.said))
    assert len(server.runs) == 1
    assert max(step for _, _, _, step in server.metrics) == 16
