"""A project of one's own, installed nowhere: every command and flag knows what it registers."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch

import flowconf
from flowconf.cli.main import main
from flowconf.language import projects
from flowconf.train.checks import road

PROJECT = Path(__file__).parent / "own_project"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the project as the current folder, of which this process has imported nothing yet."""
    folder = tmp_path / "project"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(projects, "_trust", projects.Trust())
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] in ("mine", "lent")]:
        del sys.modules[name]


@pytest.fixture
def run(project):
    """The folder of a finished run of `own.yaml`."""
    return trained("own.yaml")


def trained(*words):
    """The run folder that `flowconf train` makes."""
    before = set(Path("runs").glob("*/*/run.json"))
    assert main(["train", *words]) == 0
    (new,) = set(Path("runs").glob("own/*/run.json")) - before
    return new.parent


def records(name="own"):
    found = [json.loads(file.read_text()) for file in sorted(Path(f"runs/{name}").glob("*/run.json"))]
    return {" ".join(record["overrides"]): record["status"] for record in found}


def replaced(file, old, new):
    text = Path(file).read_text()
    assert old in text
    Path(file).write_text(text.replace(old, new))


def test_check_knows_it(project, capsys):
    assert main(["check", "own.yaml"]) == 0
    assert "no errors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("Bump(4", "Bmup(4"),
        ("tower(4", "towr(4"),
        ("gain=0.5", "gian=0.5"),
        ("depth=1", "dpeth=1"),
        ("fn: distance", "fn: distence"),
        ("{power: 2.0}", "{powr: 2.0}"),
        ("fn: near", "fn: naer"),
        ("{margin: 1.0}", "{margn: 1.0}"),
        ("name: signed", "name: singed"),
        ("name: dip", "name: dpi"),
        ("depth: 0.2", "dept: 0.2"),
        ("name: waves", "name: wavse"),
        ("{Diary: {}}", "{Dairy: {}}"),
        ("name: shift", "name: shfit"),
        ("start: 0.5", "strat: 0.5"),
        ("Wobble(0.02)", "Wboble(0.02)"),
    ],
)
def test_check_mends_a_typo_in_each_kind_of_name_and_argument(project, right, wrong, capsys):
    before = Path("own.yaml").read_text()
    replaced("own.yaml", right, wrong)
    assert main(["check", "own.yaml"]) == 2
    assert main(["check", "--fix", "own.yaml"]) == 0, capsys.readouterr().out
    assert Path("own.yaml").read_text() == before


def test_training_uses_all_of_it(run):
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    diary = (run / "diary.txt").read_text().splitlines()
    assert diary[0] == "3 val/loss val/loss/fit val/near"
    assert diary[-1] == "finished"


@pytest.mark.parametrize(
    "words",
    [
        ["optimizer.lr=0.01,0.02"],
        pytest.param(
            ["optimizer.lr=0.01,0.02", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], marks=pytest.mark.slow
        ),
        [
            "optimizer.lr=choice(0.01,0.02)",
            "hydra/sweeper=optuna",
            "hydra/sweeper/sampler=grid",
            "hydra.sweeper.direction=maximize",
        ],
    ],
    ids=["basic", "joblib", "optuna"],
)
@pytest.mark.filterwarnings("ignore")
def test_every_launcher_and_sweeper_knows_it(project, words, capfd):
    for word in words:
        if word.startswith("hydra/") and "sampler" not in word:
            pytest.importorskip(f"hydra_plugins.hydra_{word.partition('=')[2]}_{word[6:].partition('=')[0]}")
    assert main(["train", "own.yaml", "-m", "trainer.epochs=1", *words]) == 0, capfd.readouterr().err
    reported = {f"trainer.epochs=1 optimizer.lr={lr}": "finished" for lr in (0.01, 0.02)}
    assert {" ".join(sorted(words.split(), reverse=True)): status for words, status in records().items()} == reported


@pytest.mark.slow
def test_workers_change_no_number(run):
    other = trained("own.yaml", "data.workers=2")
    assert metrics(other) == metrics(run)


@pytest.mark.slow
def test_two_processes_know_it(project):
    folder = trained("own.yaml", "trainer.devices=2")
    assert records() == {"trainer.devices=2": "finished"}
    assert (folder / "diary.txt").read_text().splitlines()[-1] == "finished"


def test_further_sets_and_draws_of_it(project):
    words = ["data.evaluate.later={seed: 5, rows: 16}", "data.evaluate.all={split: test}", "trainer.best=later/near"]
    one = trained("own.yaml", *words, "data.sample.rows=20")
    assert {"later/near", "all/loss"} <= metrics(one).keys()
    unit = json.loads((one / "data.json").read_text())["unit"]
    two = trained("own.yaml", *words, "data.mixture.more={seed: 9, weight: 0.5}")
    assert json.loads((two / "data.json").read_text())["unit"] == unit
    assert main(["eval", str(two), "--split", "later", "data.seed=3"]) == 0


def metrics(run):
    return json.loads((run / "run.json").read_text())["metrics"]


def test_a_run_is_resumed(run):
    assert main(["train", "--resume", str(run), "trainer.epochs=3"]) == 0
    assert (run / "diary.txt").read_text().count("finished") == 2


def test_prerequisites_are_trained_first(project, capsys):
    assert main(["train", "student.yaml"]) == 0
    assert records() == records("student") == {"": "finished"}


def test_a_prerequisite_with_other_settings_is_reported(project, capsys):
    trained("own.yaml", "trainer.epochs=1")
    capsys.readouterr()
    assert main(["train", "student.yaml"]) == 0
    said = capsys.readouterr().out
    assert "that run differs from `own.yaml`: `trainer.epochs` is `1` in the run, `2` now" in said
    assert "to use the config as it is: `flowconf train own.yaml`, or add `where: {trainer.epochs: 2}`" in said
    trained("own.yaml")
    capsys.readouterr()
    assert main(["train", "student.yaml"]) == 0
    assert "differs" not in capsys.readouterr().out


def test_eval_gives_what_training_gave(run, capsys):
    capsys.readouterr()
    assert main(["eval", str(run)]) == 0
    assert f"test/near      {metrics(run)['test/near']:.4f}" in capsys.readouterr().out


def test_predict(run):
    x = numpy.ones((3, 4), dtype="float32")
    numpy.savez("x.npz", x=x)
    assert main(["predict", str(run), "-i", "x.npz", "-o", "out.npz", "--value", "out", "--value", "bump"]) == 0
    graph = flowconf.load_run(run)
    assert numpy.allclose(numpy.load("out.npz")["out"], graph(torch.from_numpy(x)).detach())


def test_predict_reads_rows_with_the_data_set_of_the_project(run):
    Path("rows.txt").write_text("1 2 3 4\n5 6 7 8\n")
    assert main(["predict", str(run), "-i", "rows.txt", "-o", "out.npz", "--with", "x"]) == 0
    found, unit = numpy.load("out.npz"), json.loads((run / "data.json").read_text())["unit"]
    x = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]) / unit
    assert torch.equal(torch.from_numpy(found["x"]), x)
    assert numpy.allclose(found["out"], flowconf.load_run(run)(x).detach())


LENT = "    lent: {through: 'lent.Mixer(4, hidden=3)', take: 0, frozen: true, init: {up.bias: 0.1}}\n    out:"
"""A member from a package that the project lists, beside one of its own."""


def lent():
    """Add it to `own.yaml`."""
    replaced("own.yaml", "    out:", LENT)


@pytest.mark.parametrize(("right", "wrong"), [("lent.Mixer(4", "lent.Mxier(4"), ("hidden=3", "hiden=3")])
def test_check_mends_a_typo_in_a_name_of_a_listed_package(project, right, wrong, capsys):
    lent()
    before = Path("own.yaml").read_text()
    replaced("own.yaml", right, wrong)
    assert main(["check", "own.yaml"]) == 2
    assert main(["check", "--fix", "own.yaml"]) == 0, capsys.readouterr().out
    assert Path("own.yaml").read_text() == before


def test_every_command_knows_a_member_of_a_listed_package(project, tmp_path, capsys):
    lent()
    words = ["trainer.epochs=1", "data.workers=1", "trainer.statistics={every: 2, of: [weight], at: lent}"]
    words += ["+callbacks.inside={name: Look, every: 4, read: [lent.norm]}"]
    assert pickle.loads(pickle.dumps(road.begin("own.yaml", words).to(road.END))).plan is not None
    run = trained("own.yaml", *words)
    graph = flowconf.load_run(run)
    assert not graph.lent.up.weight.requires_grad
    assert (
        main(["train", "--resume", str(run), "trainer.epochs=2", "+phases={late: {when: {epoch: 1}, thaw: lent.up}}"])
        == 0
    )
    assert not torch.equal(graph.lent.up.weight, flowconf.load_run(run, last=True).lent.up.weight)
    numpy.savez("x.npz", x=numpy.ones((3, 4), dtype="float32"))
    for command in (
        ["check", "own.yaml"],
        ["eval", str(run)],
        ["predict", str(run), "-i", "x.npz", "-o", "out.npz", "--value", "lent.norm"],
        ["predict", str(run), "--split", "test", "-o", "out.csv", "--with", "y"],
        ["profile", "own.yaml", "-o", "profile", "trainer.profile={wait: 0, active: 1}"],
        ["diff", "own.yaml", "model.flow.lent.through='lent.Mixer(4)'"],
        ["show", "own.yaml"],
        ["weights", str(run / "checkpoints" / "best.safetensors")],
        ["report", str(run), "-o", "report.html"],
        ["push", str(run), "org/model", "--dry-run", "pushed"],
        ["export", "own.yaml", "--weights", str(run), "-o", "own.pt2"],
        ["draw", "own.yaml", "-o", "own.dot"],
        ["summary", "own.yaml"],
    ):
        capsys.readouterr()
        assert main(command) == 0, (command, capsys.readouterr())
    assert "lent.Mixer(4, hidden=3)" in capsys.readouterr().out
    assert "lent.Mixer(4, hidden=3)" in Path("own.dot").read_text()
    assert numpy.load("out.npz")["lent.norm"].shape == (3, 3)
    assert main(["eject", "own.yaml", "--weights", str(run), "-o", str(tmp_path / "model.py")]) == 0
    text = (tmp_path / "model.py").read_text()
    assert "import lent\n" in text
    assert "self.lent = lent.Mixer(4, hidden=3)" in text
    assert "flowconf" not in text.split("class ", 1)[1]


def test_a_process_that_has_imported_nothing_builds_a_member_of_a_listed_package(project):
    lent()
    command = [sys.executable, "-m", "flowconf", "check", "own.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_sweeps_and_two_processes_know_a_member_of_a_listed_package(project):
    lent()
    assert main(["train", "own.yaml", "-m", "trainer.epochs=1", "seed=1,2"]) == 0
    read = "+callbacks.inside={name: Look, every: 4, read: [lent.norm]}"
    trained("own.yaml", "trainer.devices=2", "trainer.epochs=1", "model.flow.lent.frozen=false", read)


def test_profile_and_heat(project, capsys):
    assert main(["profile", "own.yaml", "-o", "profile", "trainer.profile={wait: 0, active: 1}"]) == 0
    assert "bump" in capsys.readouterr().out
    assert main(["draw", "own.yaml", "--heat", "profile", "-o", "own.dot"]) == 0
    assert "Bump(4, gain=0.5)" in Path("own.dot").read_text()


def test_diff_show_summary_schema_and_list(run, capsys):
    assert main(["diff", "own.yaml", "schedule.depth=0.1"]) == 0
    assert main(["diff", str(run), "own.yaml"]) == 0
    assert main(["show", "own.yaml"]) == 0
    assert main(["summary", "own.yaml"]) == 0
    assert main(["schema", "-o", "schemas"]) == 0
    assert '"waves"' in Path("schemas/config.schema.json").read_text()
    capsys.readouterr()
    for table, name in {
        "modules": "Bump(", "losses": "distance(", "metrics": "near(", "optimizers": "signed(", "schedules": "dip(",
        "data": "waves(", "loggers": "Diary(", "adapters": "shift(", "callbacks": "Look(",
    }.items():  # fmt: skip
        assert main(["list", table]) == 0
        assert f"\n{name}" in f"\n{capsys.readouterr().out}"


def alone(file):
    """What a file prints in a folder and a process that know nothing of the project and of flowconf."""
    code = f"import sys; sys.modules['flowconf'] = None; sys.argv = [{str(file)!r}]; " + (
        f"import runpy; runpy.run_path({str(file)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd="/", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ejected_code_runs_alone(run, tmp_path):
    file = tmp_path / "elsewhere" / "model.py"
    assert main(["eject", "own.yaml", "--weights", str(run), "-o", str(file)]) == 0
    assert "mine" not in file.read_text()
    assert "(bump): Bump()" in alone(file)
    space = {"__name__": "ejected"}
    exec(compile(file.read_text(), file, "exec"), space)
    from safetensors.torch import load_model

    model = space["Graph"]()
    load_model(model, file.with_suffix(".safetensors"))
    x = torch.randn(5, 4)
    assert torch.equal(model(x), flowconf.load_run(run)(x))


MORE = """
from __future__ import annotations

from dataclasses import dataclass

import torch
from flowconf import register
from torch import nn


@dataclass
class Widths:
    width: int
    later: Later | None = None


@register(name="wide")
@torch.no_grad()
def wide(width: int):
    return nn.Linear(Widths(width).width, 4)
"""


def test_ejected_code_keeps_decorators_and_postponed_annotations(project, tmp_path):
    Path("mine/more.py").write_text(MORE)
    replaced("pyproject.toml", '["mine"]', '["mine", "mine.more"]')
    Path("g.yaml").write_text("inputs: {x: [B, 4]}\nflow: {a: wide(4)}\n")
    assert main(["eject", "g.yaml", "-o", str(tmp_path / "model.py")]) == 0
    text = (tmp_path / "model.py").read_text()
    assert "@dataclass\nclass Widths" in text
    assert "@torch.no_grad()\ndef wide" in text
    assert "@register" not in text
    assert alone(tmp_path / "model.py") == ""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("class Odd(flowconf.graph.blocks.Reshape):\n    pass", "it uses `flowconf`, which is `flowconf"),
        ("def Odd(size):\n    return nn.Linear(4, size // mine.helpers.ONE)", "it uses `mine`, which is `mine"),
        ("def Odd(size):\n    return nn.Linear(4, size // ONE)", "it uses `ONE`, which is not defined at the top"),
        ("def Graph():\n    return 1\n\n\ndef Odd(size):\n    return nn.Linear(4, size // Graph())", "`Graph` means"),
    ],
)
def test_what_cannot_be_copied_is_imported_and_a_comment_says_why(project, body, reason, tmp_path):
    head = "import flowconf.graph.blocks\nimport mine.helpers\nfrom torch import nn\n\nif True:\n    ONE = 1\n"
    Path("mine/odd.py").write_text(f"{head}\n\n{body}\n\n\nflowconf.register(Odd)\n")
    replaced("pyproject.toml", '["mine"]', '["mine", "mine.odd"]')
    Path("g.yaml").write_text("inputs: {x: [B, 4]}\nflow: {a: Bump(4), b: Odd(4)}\n")
    assert main(["eject", "g.yaml", "-o", str(tmp_path / "model.py")]) == 0
    text = (tmp_path / "model.py").read_text()
    assert "from mine.odd import Odd\n" in text
    assert f"# needs `mine.odd`: `Odd` is imported, because {reason}" in text
    assert "class Bump(nn.Module)" in text


def test_adapters_are_merged_when_asked(run, tmp_path):
    file = tmp_path / "elsewhere" / "model.py"
    assert main(["eject", "own.yaml", "--weights", str(run), "--merge", "-o", str(file)]) == 0
    assert "shift" not in file.read_text()
    space = {"__name__": "ejected"}
    exec(compile(file.read_text(), file, "exec"), space)
    from safetensors.torch import load_model

    model = space["Graph"]()
    load_model(model, file.with_suffix(".safetensors"))
    x = torch.randn(5, 4)
    torch.testing.assert_close(model(x), flowconf.load_run(run)(x))


def test_export(run, tmp_path):
    assert main(["export", "own.yaml", "--weights", str(run), "-o", str(tmp_path / "own.pt2")]) == 0
    x = torch.randn(6, 4)
    program = torch.export.load(tmp_path / "own.pt2").module()
    assert torch.allclose(program(x), flowconf.load_run(run)(x))


def test_a_run_is_loaded_from_another_folder(run, tmp_path, monkeypatch):
    expected = flowconf.load_run(run)(torch.ones(1, 4))
    run = run.absolute()
    forget(monkeypatch)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with pytest.raises(flowconf.ConfigError) as refused:
        flowconf.load_run(run)
    reported = {one.message: one for one in refused.value.diagnostics}["unknown module `plain`"]
    assert f"or `cd {tmp_path / 'project'}`" in str(reported.help)
    assert torch.equal(flowconf.load_run(run, trust=True)(torch.ones(1, 4)), expected)


def forget(monkeypatch):
    """From here on this process has imported nothing of the project."""
    from flowconf.language.registry import TABLES

    monkeypatch.setattr(projects, "_trust", projects.Trust())
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]
    for table in TABLES.values():
        for name in [name for name, item in table.registered.items() if item.__module__.split(".")[0] == "mine"]:
            del table.registered[name]


# errors in the project's own code

FAILS = "raise RuntimeError('of the project')"
"""A line that fails, put before a line of the project."""


@pytest.mark.parametrize(
    ("before", "commands"),
    [
        ("import math", [["check", "own.yaml"], ["train", "own.yaml", "-m", "seed=0,1"], ["list"], ["schema"]]),
        ("        super().__init__()", [["check", "own.yaml"], ["summary", "own.yaml"], ["train", "own.yaml"]]),
        ("        return scaled(x", [["check", "own.yaml"], ["train", "own.yaml"], ["eject", "own.yaml"]]),
        ("    return nn.Linear(width, width)", [["check", "own.yaml"], ["profile", "own.yaml"]]),
        ("    return (predicted - target).abs() ** power", [["check", "own.yaml"], ["train", "own.yaml"]]),
        ("    return ((predicted", [["check", "own.yaml"], ["train", "own.yaml"]]),
        ('    return Signed(params, {"lr"', [["check", "own.yaml"], ["train", "own.yaml"]]),
        ("    return 1 - depth", [["check", "own.yaml"], ["train", "own.yaml"]]),
        ("    x = torch.randn(rows", [["train", "own.yaml"], ["train", "own.yaml", "-m", "seed=0,1"]]),
        ('        return {"x": self.x[row]', [["train", "own.yaml"]]),
        ("        for group in self.param", [["train", "own.yaml"], ["train", "own.yaml", "-m", "seed=0,1"]]),
        ("        self.path = run.folder", [["train", "own.yaml"]]),
    ],
)
def test_an_error_in_its_code_is_reported_with_file_and_line(project, before, commands, capfd, monkeypatch):
    file = Path("mine/__init__.py")
    lines = file.read_text().splitlines()
    number = next(number for number, line in enumerate(lines) if line.startswith(before))
    indent = " " * (len(before) - len(before.lstrip()))
    file.write_text("\n".join([*lines[:number], indent + FAILS, *lines[number:]]))
    for command in commands:
        forget(monkeypatch)
        main(command)
        said = capfd.readouterr()
        assert f"mine/__init__.py:{number + 1}:" in said.err + said.out, command
        assert "of the project" in said.err + said.out
        assert "Traceback" not in said.err


@pytest.mark.slow
def test_an_error_in_a_worker_or_another_process_is_reported_with_file_and_line(project, capfd):
    replaced("mine/__init__.py", '        return {"x"', f'        if row > 9: {FAILS}\n        return {{"x"')
    for words in (["data.workers=2"], ["trainer.devices=2"]):
        assert main(["train", "own.yaml", *words]) == 1
        assert "mine/__init__.py:" in capfd.readouterr().err


def test_a_syntax_error_is_reported_with_file_and_line(project, capsys):
    replaced("mine/helpers.py", "SCALE = 0.5", "SCALE = = 0.5")
    assert main(["check", "own.yaml"]) == 2
    assert "mine/helpers.py:3:9" in capsys.readouterr().out


# what a project gives is checked


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("[]", "gives a `list`, and must give a mapping of fields"),
        ("None", "gives a `NoneType`, and must give a mapping of fields"),
        ("{'x': (4,)}", "gives `(4,)` for the field `x`, and must give its shape and dtype"),
        ("{'x': ((4.0,), torch.float32)}", "gives the shape `(4.0,)` for the field `x`, and must give one size"),
        ("{'x': (4, torch.float32)}", "gives the shape `4` for the field `x`, and must give one size"),
        ("{'x': ((-2,), torch.float32)}", "gives the shape `(-2,)` for the field `x`, and must give one size"),
        ("{'x': ((4,), 'float32')}", "gives the dtype `'float32'` for the field `x`, and must give one of torch"),
        ("{'x': ((4,), torch.int64, 'ten')}", "gives `'ten'` classes for the field `x`, and must give their number"),
        ("{}['x']", "fails: KeyError: 'x'"),
    ],
)
def test_a_wrong_declaration_of_a_data_set_is_refused(project, given, message, capsys):
    replaced("mine/__init__.py", '{"x": ((4,), torch.float32), "y": ((2,), torch.float32)}', given)
    assert main(["check", "own.yaml"]) == 2
    said = capsys.readouterr().out
    assert f"`shapes` of the data set `waves` {message}" in said
    assert "own.yaml:11:14" in said


def test_a_declaration_that_does_not_take_the_arguments_is_refused(project, capsys):
    replaced("mine/__init__.py", "shapes=lambda **_:", "shapes=lambda:")
    assert main(["check", "own.yaml"]) == 2
    assert "name those it needs, and add `**others`" in capsys.readouterr().out


@pytest.mark.parametrize("size", ["'T'", "None", "-1"])
def test_a_data_set_may_declare_open_sizes(project, size, capsys):
    replaced("mine/__init__.py", '"y": ((2,), torch.float32)', f'"y": (({size},), torch.float32)')
    assert main(["check", "own.yaml"]) == 0, capsys.readouterr().out
    assert main(["train", "own.yaml"]) == 0


def test_a_loss_that_gives_a_mean_of_values_of_the_graph_needs_no_declared_fields(project, capsys):
    replaced("mine/__init__.py", '@flowconf.provides("x", "y", shapes=lambda **_: ', "DECLARED = (")
    replaced("mine/__init__.py", ", rows=rows_of)", ")")
    replaced("mine/__init__.py", "def waves(", "def unused():\n    pass\n\n\n@flowconf.register_dataset\ndef waves(")
    replaced("mine/__init__.py", "@flowconf.register_dataset\nDECLARED", "DECLARED")
    replaced("mine/__init__.py", "def distance(predicted: Tensor, target: Tensor, *, ", "def distance(predicted, *, ")
    replaced("mine/__init__.py", "(predicted - target).abs() ** power", "(predicted**2).mean() * power")
    replaced("own.yaml", "fn: distance, input: out, target: y", "fn: distance, input: out")
    assert main(["check", "own.yaml"]) == 0, capsys.readouterr().out
    assert main(["train", "own.yaml"]) == 0
