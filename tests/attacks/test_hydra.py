"""What a config or a word says to Hydra: whatever imports, calls, writes, logs or reads the environment is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flowconf import check, load
from flowconf.report import ConfigError
from flowconf.train.commands.sweep import sweep
from tests.train.conftest import TINY

CONFIG = TINY.replace("epochs: 2", "epochs: 1").replace("rows: 320", "rows: 64")
RAN = "ran"
LOGGING = "{version: 1, handlers: {h: {%s}}, root: {handlers: [h]}}"
SECTIONS = [
    "job_logging: " + LOGGING % "'()': evil.call",
    "job_logging: " + LOGGING % "class: logging.FileHandler, filename: ran, mode: w",
    "hydra_logging: " + LOGGING % "'()': evil.call",
    "callbacks: {x: {_target_: evil.call}}",
    "env: {x: 1}",
    "job: {env_set: {LD_PRELOAD: evil.so}}",
    "job: {env_copy: [HOME]}",
    "job: {name: x}",
    "run: {dir: ran}",
    "sweep: {dir: ran}",
    "sweep: {subdir: ../../ran}",
    "output_subdir: ran",
    "mode: MULTIRUN",
    "verbose: true",
    "help: {template: ran}",
    "searchpath: ['pkg://evil']",
    "searchpath: ['structured://evil']",
    "searchpath: ['${oc.env:HOME}']",
    "searchpath: {a: b}",
    "sweeper: {_target_: evil.call}",
    "sweeper: {_partial_: true}",
    "sweeper: {_recursive_: true}",
    "sweeper: {custom_search_space: evil.call}",
    "sweeper: {storage: 'sqlite:///ran'}",
    "sweeper: {search_space: {a: {type: int}}}",
    "sweeper: {n_trials: {_target_: evil.call}}",
    "sweeper: {n_trials: '${oc.env:HOME}'}",
    "sweeper: {n_trials: '${oc.decode:1}'}",
    "sweeper: {n_trials: [1, 2]}",
    "sweeper: [1]",
    "sweeper: evil.call",
    "sweeper: {sampler: {_target_: evil.call}}",
    "sweeper: {sampler: {independent_sampler: {_target_: evil.call}}}",
    "sweeper: {sampler: {constraints_func: {_target_: evil.call}}}",
    "sweeper: {params: {seed: '${oc.env:HOME}'}}",
    "sweeper: {params: {seed: {_target_: evil.call}}}",
    "sweeper: {params: {hydra.job.env_set.A: b}}",
    "sweeper: {params: {'+hydra.callbacks.x._target_': evil.call}}",
    "sweeper: {params: {'~hydra/env': default}}",
    "sweeper: {params: {'optimizer@hydra.launcher': adam}}",
    "launcher: {_target_: evil.call}",
    "launcher: {pre_dispatch: '__import__(\"evil\")'}",
    "launcher: {backend: evil}",
    "launcher: {temp_folder: ran}",
    "launcher: {setup: ['touch ran']}",
    "launcher: {srun_args: ['--task-prolog=ran']}",
    "launcher: {additional_parameters: {wrap: ran}}",
    "launcher: {partition: \"a\\ntouch ran\"}",
    "launcher: {submitit_folder: ran}",
    "launcher: {ray: {init: {address: 'evil:10001'}}}",
    "launcher: {ray: {init: {runtime_env: {py_modules: [evil]}}}}",
    "'${oc.env:HOME}': 1",
]  # fmt: skip
LISTS = [
    "override hydra/job_logging: stdout",
    "override hydra/hydra_logging: hydra_debug",
    "override hydra/env: default",
    "override hydra/callbacks: evil",
    "override /hydra/output: default",
    "override hydra/help: default",
    "override hydra/sweeper: ${oc.env:HOME}",
    "override hydra/launcher: ../../evil",
    "hydra/launcher@evil: joblib",
    "hydra/sweeper/../env: default",
    "group@hydra: evil",
    "group@hydra.launcher: evil",
    "group@_global_.hydra.launcher: evil",
    "optional group@hydra.job_logging: evil",
]
WORDS = [
    "hydra.job_logging.handlers.x.filename=ran",
    "+hydra.callbacks.x._target_=evil.call",
    "++hydra.sweeper._target_=evil.call",
    "hydra={job_logging: null}",
    "+hydra.job.env_set.A=b",
    "~hydra.launcher._target_",
    "hydra.launcher={_target_: evil.call}",
    "hydra.sweeper.custom_search_space=evil.call",
    "hydra.sweeper.n_trials=${oc.env:HOME}",
    "hydra.sweep.dir=ran",
    "hydra.searchpath=[pkg://evil]",
    "hydra/job_logging=stdout",
    "hydra/env@x=default",
    "+group@hydra.launcher=evil",
    "hydra/launcher=../../../evil",
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a module and a config of a group wait to be called."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("evil.py").write_text(f"open({str(tmp_path / RAN)!r}, 'w')\ndef call(*a, **k): pass\n")
    for group in ("group", "hydra/launcher", "hydra/env"):
        Path(group).mkdir(parents=True)
        Path(group, "evil.yaml").write_text("_target_: evil.call\n")
    yield tmp_path
    sys.modules.pop("evil", None)


def refused(text: str, *words: str) -> None:
    """It is refused by `check` and by a sweep alike, at its place, and nothing of it happens."""
    file = Path("a.yaml")
    file.write_text(text)
    found = check("a.yaml", words)
    assert "FC0108" in {reported.code for reported in found}, found
    assert all(reported.place.line or reported.place.word for reported in found)
    with pytest.raises(ConfigError) as caught:
        sweep("a.yaml", ["seed=0", *words])
    assert "FC0108" in {reported.code for reported in caught.value.diagnostics}
    assert not Path(RAN).exists()
    assert "evil" not in sys.modules
    assert not Path("runs").exists()


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_is_refused(section, folder):
    refused(f"hydra: {{{section}}}\n{CONFIG}")


@pytest.mark.parametrize("section", [SECTIONS[0], SECTIONS[19], SECTIONS[22]])
def test_a_section_of_an_included_file_is_refused(section, folder):
    Path("group/more.yaml").write_text(f"# @package _global_\nhydra: {{{section}}}\n")
    refused(f"defaults: [_self_, {{group: more}}]\n{CONFIG}")


@pytest.mark.parametrize("entry", LISTS)
def test_an_entry_of_a_defaults_list_is_refused(entry, folder):
    refused(f"defaults:\n  - _self_\n  - {entry}\n{CONFIG}")


@pytest.mark.parametrize("entry", ["/hydra/env/default@x", "hydra/launcher/evil@x"])
def test_a_config_of_hydras_is_not_included(entry, folder):
    refused(f"defaults:\n  - _self_\n  - {entry}\n{CONFIG}")


@pytest.mark.parametrize("word", WORDS)
def test_a_word_is_refused(word, folder):
    refused(CONFIG, word)


@pytest.mark.parametrize("header", ["# @package hydra.launcher", "# @package hydra", "# @package _global_.hydra.env"])
def test_a_file_that_says_it_belongs_to_hydra_is_refused(header, folder):
    Path("group/more.yaml").write_text(f"{header}\n_target_: evil.call\n")
    Path("a.yaml").write_text(f"defaults: [_self_, {{group: more}}]\n{CONFIG}")
    assert [reported.code for reported in check("a.yaml")] == ["FC0108"]
    with pytest.raises(ConfigError):
        sweep("a.yaml", ["seed=0"])
    assert "evil" not in sys.modules


def test_a_launcher_in_the_folders_of_configs_is_refused(folder):
    Path("a.yaml").write_text(f"defaults: [_self_, {{override hydra/launcher: evil}}]\n{CONFIG}")
    assert [reported.code for reported in check("a.yaml")] == ["FC0108"]
    with pytest.raises(ConfigError):
        sweep("a.yaml", ["seed=0", "hydra/launcher=evil"])
    assert "evil" not in sys.modules


ALLOWED = [
    ("hydra: {sweeper: {max_batch_size: 1}}", []),
    ("hydra: {sweeper: {params: {seed: '0,1'}}}", []),
    ("hydra: {searchpath: [group]}", []),
    ("", ["hydra.sweeper.max_batch_size=2"]),
    ("defaults: [_self_, {override hydra/launcher: basic}]", ["hydra/sweeper=basic"]),
]


@pytest.mark.parametrize(("head", "words"), ALLOWED, ids=range(len(ALLOWED)))
def test_plain_arguments_of_what_is_installed_are_taken(head, words, folder):
    Path("a.yaml").write_text(f"{head}\n{CONFIG}")
    sweep("a.yaml", ["optimizer.lr=0.01", *words])
    assert len(list(Path("runs/a").glob("20*"))) == (2 if "params" in head else 1)


def test_the_environment_is_read_by_an_ordinary_value(folder, monkeypatch):
    monkeypatch.setenv("DATA", "synthetic")
    Path("a.yaml").write_text(CONFIG.replace("name: synthetic", "name: '${oc.env:DATA}'"))
    assert check("a.yaml") == []


@pytest.mark.parametrize(
    "words",
    [
        ["seed=range(0,1000000000)"],
        ["optimizer.lr=range(0.1,1,0.0)"],
        ["optimizer.lr=range(0,1,1e-12)"],
        [f"+model.params.p{number}=1,2" for number in range(40)],
    ],
)
def test_a_sweep_without_an_end_is_refused(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(CONFIG)
    with pytest.raises(ConfigError, match="the sweep has more than 10,000 runs"):
        sweep("tiny.yaml", words)
    assert not Path("runs").exists()


@pytest.mark.parametrize("values", ["range(0.1, 1, 0.0)", "range(0, nan)", "range(0, inf)", "range(0, 1e308, 1e-308)"])
def test_a_search_without_values_is_refused(values, tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(f"{CONFIG}\nsweep: {{trials: 2, over: {{optimizer.lr: '{values}'}}}}\n")
    with pytest.raises(ConfigError, match="no values that a search can try"):
        load(file)


@pytest.mark.parametrize(
    "word", ["seed=range(0,nan)", "seed=range(3,0)", "seed=range(0,3,-1)", "seed=glob(*)", "optimizer.name=glob(*)"]
)
def test_a_sweep_without_values_is_refused(word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(CONFIG)
    with pytest.raises(ConfigError, match="has no values to try") as caught:
        sweep("tiny.yaml", [word])
    assert [(one.code, one.place.word) for one in caught.value.diagnostics] == [("FC0103", word)]
    assert not Path("runs").exists()


@pytest.mark.parametrize("value", ["choice(choice(1,2),3)", "[choice(1,2),3]", "{a: glob(*)}", "range(0,3),5"])
@pytest.mark.parametrize("run", [load, sweep])
def test_values_to_try_inside_of_a_value_are_refused(run, value, tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(CONFIG)
    with pytest.raises(ConfigError, match="the values of a sweep are inside another value"):
        run(str(file), [f"optimizer.betas={value}"])


def test_a_long_word_is_cut_where_it_is_shown(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(CONFIG)
    with pytest.raises(ConfigError) as caught:
        load(str(file), [f"seed={'a' * 100_000}"])
    assert len(str(caught.value)) < 1000


def test_a_word_that_a_sweeper_cannot_pass_on_is_refused(folder):
    Path("tiny.yaml").write_text(TINY)
    with pytest.raises(ConfigError, match=r"FC0103.*the sweeper makes `seed=\$\\{oc\+>>HOME\\}` of it"):
        sweep("tiny.yaml", ["seed=${oc+>>HOME}"])
    assert not Path("runs").exists()
