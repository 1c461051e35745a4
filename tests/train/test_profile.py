"""What a step costs by path: each moment of it in some row, operations counted, the run unmoved by being measured."""

from __future__ import annotations

import json
import re
from contextlib import chdir

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from flowconf.api import load
from flowconf.cli.main import main
from flowconf.graph import tracing
from flowconf.graph.weights.sources import find_run
from flowconf.report import ConfigError
from flowconf.train import loop
from flowconf.train.commands.profile import profile
from flowconf.train.prepare import prepare
from flowconf.train.screen import Screen
from flowconf.train.taking import taking
from tests.train.conftest import TINY, Folder, assert_same, go_on, killed, same, weights
from tests.train.teams import team

NET = """
model:
  label: net
  inputs: {image: [B, 8]}
  flow:
    stem: Linear(8, 16) >> ReLU
    both:
      split: {a: "Linear(16, 16)", b: Tanh}
      merge: add
    think:
      loop:
        flow:
          one: Linear(16, 16)
          two: Dropout(0.1)
      times: 3
    again: {reuse: both.a}
    logits: Linear(16, 4)
data: {name: synthetic, shape: [8], classes: 4, rows: 320, batch_size: 32}
loss:
  label: {fn: cross_entropy, input: logits, target: label}
  size: {fn: value, input: think, weight: 0.001}
trainer: {epochs: 2, devices: cpu, profile: {wait: 3, warmup: 2, active: 2}}
"""
PATHS = [
    "",
    "stem",
    "stem.0",
    "stem.1",
    "both",
    "both.a",
    "both.b",
    "think",
    "think.one",
    "think.two",
    "again",
    "logits",
]
LINEAR = 2 * 32 * 16 * 16
"""Floating-point operations of a Linear(16, 16) for a batch: a multiplication and an addition for each weight."""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The folder of a measured run, and its numbers."""
    path = tmp_path_factory.mktemp("profile")
    with chdir(path):
        folder = Folder(path)
        run = folder.train(text=NET)
    return run.folder / "profile", json.loads((run.folder / "profile" / "profile.json").read_text()), folder


def rows(numbers, part="graph"):
    return {row["path"]: row for row in numbers[part]}


def test_the_rows_are_the_paths_in_the_order_of_the_graph(found):
    _, numbers, _ = found
    assert [row["path"] for row in numbers["graph"]] == PATHS
    assert [row["path"] for row in numbers["parts"] if "." not in row["path"]][-1] == "the rest"
    assert {"data", "loss", "loss.label", "loss.size", "backward", "optimizer"} <= set(rows(numbers, "parts"))
    assert {path: row["calls"] for path, row in rows(numbers).items() if row["calls"] != 1} == {
        "think.one": 3,
        "think.two": 3,
    }


def test_the_speed_is_compared_with_a_product_of_matrices(found):
    folder, numbers, _ = found
    assert numbers["flops_per_second"] == pytest.approx(numbers["step"]["flops"] / numbers["step"]["cpu"] * 1000)
    assert numbers["peak_flops_per_second"] > numbers["flops_per_second"]
    last = (folder / "profile.txt").read_text().splitlines()[-1]
    assert re.fullmatch(r"[\d.]+ .?FLOP/s: [\d.]+ % of the [\d.]+ .?FLOP/s of a product of large matrices", last)


def test_the_rows_account_for_the_whole_step(found):
    folder, numbers, _ = found
    events = json.loads((folder / "steps.pt.trace.json").read_text())["traceEvents"]
    steps = [event["dur"] for event in events if event.get("name") == "training step" and event.get("ph") == "X"]
    assert len(steps) == numbers["steps"] == 2
    assert numbers["step"]["cpu"] == pytest.approx(sum(steps) / 2 / 1000, rel=1e-3)
    outermost = [rows(numbers)[""], *(row for row in numbers["parts"] if "." not in row["path"])]
    times = [row["forward"]["cpu"] + row["backward"]["cpu"] for row in outermost]
    assert sum(times) == pytest.approx(numbers["step"]["cpu"])
    assert sum(row["share"] for row in outermost) == pytest.approx(1)


@pytest.mark.parametrize("side", ["forward", "backward"])
@pytest.mark.parametrize("number", ["cpu", "memory", "flops"])
def test_a_graph_costs_what_its_members_cost_at_least(found, side, number):
    measured = rows(found[1])
    for path in ("", "stem", "both", "think"):
        inside = [row for name, row in measured.items() if name and name.rpartition(".")[0] == path]
        below = sum(row[side][number] for row in inside)
        assert measured[path][side][number] >= below * 0.999
        assert number == "flops" or measured[path][side][number] > 0


def test_operations_are_counted_at_every_place_and_in_every_iteration(found):
    measured = rows(found[1])
    assert measured["both.a"]["forward"]["flops"] == LINEAR
    assert measured["again"]["forward"]["flops"] == LINEAR
    assert measured["think.one"]["forward"]["flops"] == 3 * LINEAR
    for path in ("both.a", "again", "think.one"):
        assert measured[path]["backward"]["flops"] == 2 * measured[path]["forward"]["flops"]
    assert measured["stem"]["backward"]["flops"] == measured["stem"]["forward"]["flops"]  # none for the input


def test_all_operations_are_those_of_a_model_written_by_hand(found):
    a, one = nn.Linear(16, 16), nn.Linear(16, 16)
    stem, logits = nn.Linear(8, 16), nn.Linear(16, 4)
    with FlopCounterMode(display=False) as counter:
        x = stem(torch.randn(32, 8)).relu()
        x = a(x) + x.tanh()
        for _ in range(3):
            x = one(x)
        (logits(a(x)).sum() + x.sum()).backward()
    assert found[1]["step"]["flops"] == counter.get_total_flops()


def test_memory_is_what_the_operations_allocate(found):
    measured = rows(found[1])
    assert measured["stem.0"]["forward"]["memory"] == measured["stem.1"]["forward"]["memory"] == 32 * 16 * 4
    assert measured["think.one"]["forward"]["memory"] == 3 * 32 * 16 * 4


def test_the_report_is_a_table_a_trace_and_a_picture(found):
    folder, numbers, made = found
    table = (folder / "profile.txt").read_text()
    assert table.rstrip() in made.said.getvalue()
    assert "    one " in table
    assert "100.0 %" in table
    names = {event.get("name") for event in json.loads((folder / "steps.pt.trace.json").read_text())["traceEvents"]}
    assert {"step think.one", "step both.a", "part loss.label"} <= names
    share = f"{rows(numbers)['again']['share']:.1%}"
    picture = (folder / "graph.dot").read_text()
    assert share in picture
    assert 'fillcolor="#ff' in picture


def test_being_measured_changes_nothing(folder, found):
    plain = folder.train("trainer.profile=null", text=NET)
    measured = folder.train(text=NET)
    assert same(weights(plain), weights(measured))
    assert plain.log == measured.log
    assert not (plain.folder / "profile").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["trainer.accumulate=2", "trainer.ema=0.9", "trainer.clip=1"],
        ["+loss.size.updates=think"],
        ["+phases={first: {until: {step: 5}, freeze: stem}}"],
        ["trainer.precision=bf16"],
    ],
    ids=["parts", "routes", "a change of phase", "bf16"],
)
def test_whatever_a_step_is_made_of(folder, words):
    plain = folder.train("trainer.profile=null", *words, text=NET)
    measured = folder.train(*words, text=NET)
    assert same(weights(plain), weights(measured))
    numbers = json.loads((measured.folder / "profile" / "profile.json").read_text())
    assert [row["path"] for row in numbers["graph"]] == PATHS
    assert rows(numbers)["think.one"]["forward"]["flops"] == 3 * LINEAR


def test_without_it_the_loop_takes_the_bare_step(folder):
    job = prepare(load(folder.write(TINY)), folder.path)
    with taking(job, None, None) as take:
        assert take is loop.one_step


def test_a_run_that_is_too_short_is_refused(folder):
    with pytest.raises(ConfigError) as raised:
        folder.train(text=NET.replace("epochs: 2", "epochs: 2, steps: 6"))
    (reported,) = raised.value.diagnostics
    assert reported.message == "the profile ends after step 7, but the run after step 6"
    assert (reported.code, reported.place.line) == ("FC0123", NET.count("\n"))


def test_a_run_that_is_killed_meanwhile_goes_on(folder):
    whole = folder.train("trainer.checkpoint_every=2", text=NET)
    killed(lambda: folder.train("trainer.checkpoint_every=2", text=NET), 5)
    assert_same(go_on(folder), whole)


def test_a_run_that_ends_meanwhile_leaves_nothing_behind(folder, monkeypatch):
    def stop(self, step):
        if step == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(Screen, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        folder.train(text=NET)
    assert tracing._trail is None
    assert not (folder.runs()[0] / "profile").exists()
    monkeypatch.undo()
    monkeypatch.chdir(folder.path)
    folder.train(text=NET)


def test_a_config_is_measured_without_a_run(folder, capsys):
    file = folder.write(NET)
    assert main(["profile", file, "trainer.profile=null"]) == 0
    said = capsys.readouterr().out
    assert "think" in said
    assert "runs/tiny/profile" in said
    assert find_run(file, "runs") is None
    assert main(["profile", file, "-o", "there", "--format", "json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers == json.loads((folder.path / "there" / "profile.json").read_text())
    for form in ("text", "dot", "mermaid", "html", "json"):
        assert main(["draw", file, "--heat", "there", "--format", form]) == 0
        assert f"{rows(numbers)['again']['share']:.1%}".rstrip("%") in capsys.readouterr().out


def test_a_run_is_measured_with_its_weights_and_left_as_it_is(folder):
    run = folder.train("trainer.profile=null", text=NET)
    before = {file: file.stat().st_mtime_ns for file in run.folder.rglob("*") if file.is_file()}
    where, numbers = profile(run.folder, ["trainer.profile={wait: 0, active: 1}"])
    assert where == run.folder / "profile"
    assert numbers["steps"] == 1
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_what_is_no_profile_is_refused(folder, capsys):
    file = folder.write(NET)
    assert main(["draw", file, "--heat", "nowhere"]) == 2
    assert "`nowhere` does not contain a profile" in capsys.readouterr().err
    (folder.path / "profile.json").write_text("{}", encoding="utf-8")
    assert main(["draw", file, "--heat", "profile.json"]) == 2
    assert "`profile.json` is not a profile" in capsys.readouterr().err
    assert main(["profile", file, "--format", "xml"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_the_first_of_two_processes_is_measured(folder, strategy):
    words = [f"trainer.strategy={strategy}"]
    plain = team(folder, NET, *words, "trainer.profile=null")
    measured = team(folder, NET, *words)
    assert same(weights(plain), weights(measured))
    numbers = json.loads((measured.folder / "profile" / "profile.json").read_text())
    assert [row["path"] for row in numbers["graph"]] == PATHS
    assert rows(numbers)["think.one"]["forward"]["flops"] == 3 * LINEAR / 2


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_search_among_two_processes_changes_no_number(folder, strategy):
    words = [f"trainer.strategy={strategy}", "trainer.profile=null"]
    plain, searched = (team(folder, NET, *words, *more) for more in ([], ["trainer.find_nan=true"]))
    assert same(weights(plain), weights(searched))


@pytest.mark.gpu
def test_the_time_of_a_device_is_distinguished(folder):
    numbers = json.loads((folder.train("trainer.devices=cuda", text=NET).folder / "profile/profile.json").read_text())
    outermost = [rows(numbers)[""], *(row for row in numbers["parts"] if "." not in row["path"])]
    times = [row["forward"]["device"] + row["backward"]["device"] for row in outermost]
    assert sum(times) == pytest.approx(numbers["step"]["device"])
    assert rows(numbers)["think.one"]["backward"]["device"] > 0
