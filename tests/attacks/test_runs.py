"""What any program may have written into the files of a run: read, or refused by a diagnostic, by every command.

The values of records, logs, profiles and of the metadata of checkpoints are replaced by others of any type and size.
The digests of a checkpoint are right: who changes one can compute them.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path

import pytest
import safetensors.torch
from safetensors import safe_open

import flowconf
from flowconf.cli.main import main
from flowconf.graph.weights import seal
from tests.train.conftest import TINY, Folder

DEEP = "[" * 5000
VALUES = [
    None, True, 0, -1, 2**31, 2**64, 10**400, 1e308, 0.5, float("nan"), float("inf"), [], {}, [[]], {"a": {}}, {"": 1},
    {"a/b": float("nan")}, "", "\0", "../../etc/passwd", "\x1b[2J", "${oc.env:HOME}", "a" * 5000, "\ud800", "running",
    "2026-13-45T99:99:99+00:00", "0001-01-01T00:00:00+00:00",
]  # fmt: skip
COMMANDS = [
    ["runs", "--format", "json"],
    ["runs", "--sort", "val/accuracy"],
    ["report", "RUN"],
    ["draw", "RUN/config.yaml", "--heat", "RUN"],
    ["weights", "RUN/checkpoints/last.safetensors"],
    ["eval", "RUN"],
    ["eval", "RUN", "--step", "16"],
    ["train", "--resume", "RUN", "trainer.epochs=3"],
    ["push", "RUN", "me/model", "--dry-run", "out"],
    ["eject", "RUN/config.yaml", "--weights", "RUN"],
]


def test_json_is_read_in_one_place():
    """So that text of any depth and files of any size are refused everywhere."""
    package = Path(flowconf.__file__).parent
    reading = {file.name for file in package.rglob("*.py") if re.search(r"json\.loads?\(", file.read_text())}
    assert reading == {"foreign_json.py"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a run that has as many kinds of files as possible."""
    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        text = TINY.replace("epochs: 2", "epochs: 2, log_every: 5, statistics: {every: 5}, keep: {best: 2}")
        text += "callbacks: {seen: {name: Histograms, read: [stem]}}\nschedule: {name: plateau, value: val/loss}\n"
        run = Folder(place).train(text=text).folder
        assert main(["profile", str(run)]) == 0
    run.rename(place / "runs/tiny/a")
    return place


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return Path("runs/tiny/a")


def write_metadata(file, **changes):
    """Change the metadata of a file of weights, and its digest with it."""
    with safe_open(file, "pt") as opened:
        texts = {**opened.metadata(), **changes}
    texts[seal.DIGEST] = seal._digest_of_texts(texts)
    file.write_bytes(safetensors.torch.save(safetensors.torch.load(file.read_bytes()), texts))


def answers(words, run, capsys):
    """Run a command; gives its code and output, which has no sign of an exception."""
    capsys.readouterr()
    code = main([word.replace("RUN", str(run)) for word in words])
    out = capsys.readouterr()
    assert code in (0, 1, 2, 3)
    assert "FULL_TRACE" not in out.err, (words, out.err)
    assert code == 0 or "error[FC" in out.out + out.err, (words, out)
    return code, out.out + out.err


@pytest.mark.parametrize("digests", ["[", DEEP, "5", "{}"])
@pytest.mark.parametrize("words", [["eval", "RUN"], ["train", "--resume", "RUN", "trainer.epochs=3"]], ids=str)
def test_digests_of_a_checkpoint(run, capsys, words, digests):
    for name in ("best", "last"):
        write_metadata(run / f"checkpoints/{name}.safetensors", digests=digests)
    code, text = answers(words, run, capsys)
    assert code in (1, 2)
    assert "error[FC0306]" in text


def edit(state, path, value):
    """The state of a checkpoint with another value at a dotted path."""
    data = json.loads(state)
    *above, last = path.split("/")
    inner = data
    for key in above:
        inner = inner[key]
    inner[last] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("optimizer/state", {"other": {}}, "`optimizer` is invalid: value error, it has the state of other parameters"),
        ("optimizer/state/stem.weight", {"step": {"@": "none"}}, "its optimizer state is invalid: 'none' is missing"),
        ("optimizer/state/stem.weight", {"step": {"@": []}}, "its optimizer state is invalid: '[]' is missing"),
        ("progress/schedules", [["plateau", {"now": 1}]], "its state of schedules is invalid: 'best' is missing"),
        ("progress/schedules", [["plateau", dict.fromkeys(("now", "best"), "a")]], "its state of schedules is invalid"),
    ],
)
def test_the_state_of_a_checkpoint(run, capsys, path, value, message):
    file = run / "checkpoints/last.safetensors"
    with safe_open(file, "pt") as opened:
        state = edit(opened.metadata()["state"], path, value)
    write_metadata(file, state=state)
    before = {one: one.read_bytes() for one in run.rglob("*") if one.is_file()}
    code, text = answers(["train", "--resume", "RUN", "trainer.epochs=3"], run, capsys)
    assert code == 1
    assert "error[FC0306]" in text
    assert message in text
    assert {one: one.read_bytes() for one in run.rglob("*") if one.is_file()} == before


def test_a_state_of_the_optimizer_with_other_values_starts_fresh(run, capsys):
    file = run / "checkpoints/last.safetensors"
    with safe_open(file, "pt") as opened:
        state = edit(opened.metadata()["state"], "optimizer/state/stem.weight", {"step": "a"})
    write_metadata(file, state=state)
    code, text = answers(["train", "--resume", "RUN", "trainer.epochs=3"], run, capsys)
    assert code == 0
    assert "optimizer state starts fresh for `stem.weight`" in text


@pytest.mark.parametrize(
    "words", [["eval", "RUN"], ["push", "RUN", "me/model", "--dry-run", "out"], ["profile", "RUN"]], ids=str
)
def test_the_weights_of_another_run(run, capsys, words):
    write_metadata(run / "checkpoints/best.safetensors", run="another")
    code, text = answers(words, run, capsys)
    assert code == 2
    assert "is of the run `another`, not of" in text


def test_a_run_that_is_resumed_writes_its_own_weights_again(run, capsys):
    best = run / "checkpoints/best.safetensors"
    write_metadata(best, run="another")
    assert answers(["train", "--resume", "RUN", "trainer.epochs=3"], run, capsys)[0] == 0
    with safe_open(best, "pt") as opened:
        assert opened.metadata()["run"] == json.loads((run / "run.json").read_text())["id"]


def test_a_clock_that_was_set_back(run, capsys):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "started": "2999-01-01T00:00:00+00:00"}))
    _, text = answers(["runs"], run, capsys)
    assert re.search(r"a +finished +- ", text)


def test_the_value_of_weights_that_were_kept(run, capsys):
    write_metadata(run / "checkpoints/step_16.safetensors", value="a")
    _, text = answers(["runs", "--format", "json"], run, capsys)
    assert [entry["step"] for entry in json.loads(text)["kept"]] == [8, 16]


@pytest.mark.parametrize("content", [DEEP, "5", '{"step": {"device": 1}, "graph": [5]}', '{"step": []}'])
def test_a_profile(run, capsys, content):
    (run / "profile/profile.json").write_text(content)
    for words in (["draw", "RUN/config.yaml", "--heat", "RUN"], ["report", "RUN"]):
        code, text = answers(words, run, capsys)
        assert code == 2
        assert "error[FC0301]" in text


def test_a_page_is_json_for_a_browser(run, capsys):
    """Numbers that JSON does not have, and statistics whose norm no number can hold."""
    profile = run / "profile/profile.json"
    profile.write_text(re.sub(r'"share": [\d.e-]+', '"share": Infinity', profile.read_text()))
    norms = {"weight": {"stem.weight": {"norm": 1e308}, "stem.bias": {"norm": 1.7e308}}}
    with (run / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"step": 21, "statistics": norms, "train/loss": float("nan")}) + "\n")
    assert answers(["report", "RUN"], run, capsys)[0] == 0
    data = re.search(r'type="application/json"[^>]*>(.*?)</script>', (run / "report.html").read_text(), re.DOTALL)

    def refuse(constant):
        raise AssertionError(constant)

    assert json.loads(data[1], parse_constant=refuse)["runs"]


def paths(value, above=()):
    yield above
    entries = value.items() if isinstance(value, dict) else enumerate(value[:5]) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from paths(inner, (*above, key))


def changed(text, draw):
    """A JSON text with another value at one place."""
    data = json.loads(text)
    *above, last = draw.choice([path for path in paths(data) if path])
    inner = data
    for key in above:
        inner = inner[key]
    inner[last] = draw.choice(VALUES)
    return json.dumps(data)


FILES = [
    "run.json", "metrics.jsonl", "origins.json", "predictions.json", "profile/profile.json", "resources.jsonl",
    "config.yaml", "weights.txt", "checkpoints/best.safetensors", *["checkpoints/last.safetensors"] * 3,
]  # fmt: skip


def garbled(content, draw):
    """Bytes that are cut, repeated, exchanged, or of which one bit is flipped."""
    first, last = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    flipped = bytes(byte ^ 1 << draw.randrange(8) for byte in content[first : first + 1])
    ways = (
        content[:first],
        content[:first] + content[last:],
        content[:last] + content[first:],
        content[:first] + flipped + content[first + 1 :],
        content[:first] + draw.randbytes(30) + content[first:],
        b"\0" * len(content),
    )
    return draw.choice(ways)


def mutate(run, draw):
    """Change a file of a run: one value, or bytes of it."""
    file = run / draw.choice(FILES)
    if draw.random() < 0.3 or file.suffix in (".yaml", ".txt") or file.stem == "best":
        file.write_bytes(garbled(file.read_bytes(), draw))
        return
    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as opened:
            write_metadata(file, state=changed(opened.metadata()["state"], draw))
        return
    lines = file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]
    at = draw.randrange(len(lines))
    lines[at] = changed(lines[at], draw)
    file.write_text("\n".join(lines) + "\n", errors="backslashreplace")


@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 300))])
def test_a_changed_value(run, capsys, seed):
    draw = random.Random(seed)
    mutate(run, draw)
    for words in draw.sample(COMMANDS, 3):
        answers(words, run, capsys)
