"""Help for words of the command line and for indentation: what it says to write is accepted."""

from __future__ import annotations

import re

import pytest

import flowconf
from flowconf.cli.main import main

CONFIG = """\
model:
  inputs: {image: [B, 8]}
  flow:
    hidden: Linear(8, 16) >> ReLU
    logits: Linear(16, 4)
data: {name: synthetic, shape: [8], classes: 4}
loss: {label: {fn: cross_entropy, input: logits, target: label}}
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)
    return "config.yaml"


@pytest.mark.parametrize(
    ("word", "better"),
    [
        ("model.hidden=Linear(8, 16)", "model.flow.hidden=Linear(8, 16)"),
        ("model.image=[B, 8]", "model.inputs.image=[B, 8]"),
        ("optimizer=sgdd", "+optimizer=sgd"),
        ("optimizer=sgd", "+optimizer=sgd"),
    ],
)
def test_the_word_to_write_is_accepted(file, word, better):
    with pytest.raises(flowconf.ConfigError) as caught:
        flowconf.compose(file, [word])
    assert f"write `{better}`" in str(caught.value.diagnostics[0].help)
    assert flowconf.check(file, [better]) == []


def test_what_cannot_be_added_is_not_proposed(file):
    with pytest.raises(flowconf.ConfigError) as caught:
        flowconf.compose(file, ["model.flow.hidden.0=Linear(8, 8)"])
    assert str(caught.value.diagnostics[0].help).endswith("to change it, write `model.flow.hidden=...`")


def test_a_group_that_does_not_exist_is_no_key(file, tmp_path):
    with pytest.raises(flowconf.ConfigError) as caught:
        flowconf.compose(file, ["+pivot=wide"])
    (found,) = caught.value.diagnostics
    assert (found.code, found.message) == ("FC0101", "there is no config group `pivot`")
    assert found.help == "`pivot/wide.yaml` was searched for in `.`"
    (tmp_path / "pivot").mkdir()
    (tmp_path / "pivot" / "wide.yaml").write_text("# @package _global_\nseed: 1\n")
    assert flowconf.compose(file, ["+pivot=wide"]).document.data["seed"] == 1
    with pytest.raises(flowconf.ConfigError) as caught:
        flowconf.compose(file, ["+pivto=wide"])
    assert caught.value.diagnostics[0].help == "write `+pivot=wide`"


@pytest.mark.parametrize("indent", [3, 5])
def test_the_nearest_indentation_is_proposed(file, tmp_path, capsys, indent):
    (tmp_path / file).write_text(CONFIG.replace("    logits:", f"{' ' * indent}logits:"))
    assert main(["check", file]) == 2
    said = re.search(r"indent it by (\d) spaces", capsys.readouterr().out)
    assert said is not None
    assert said[1] == "4"


@pytest.mark.parametrize(
    ("schedule", "advice"),
    [
        ("{name: plateau, monitor: val/loss}", "write `value`"),
        ("{name: exponential, gamma: 0.95}", "available arguments: `final`, `warmup`, `until`"),
    ],
)
def test_a_word_of_another_tool_leads_to_an_argument_that_the_schedule_takes(file, schedule, advice):
    (found,) = flowconf.check(file, [f"+schedule={schedule}"])
    assert str(found.help) == advice


def test_named_parts_are_selected_by_name():
    document = {"inputs": {"x": ["B", 8]}, "flow": {"z": "Gaussian", "y": "Linear(4, 2)"}}
    (found,) = flowconf.check(document)
    assert "`take: sample` or `take: mean` or `take: log_variance`" in str(found.help)
    document["flow"]["z"] = {"through": "Gaussian", "take": "sample"}
    assert flowconf.check(document) == []
