"""Power cuts and errors of the disk at every call of a run: it can be resumed, or is refused with the way on."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import traceback
import warnings
from contextlib import chdir

import pytest

from flowconf.api import load
from flowconf.cli.main import main
from flowconf.train.runs.state import Snapshot
from flowconf.train.runs.writer import Writer
from flowconf.train.screen import Screen
from tests.train.conftest import TINY, Folder, assert_same, killed, train
from tests.train.disk import CUTS, Disk
from tests.train.teams import dying, go_on_together, team, together

pytestmark = pytest.mark.slow

TEXT = TINY.replace("rows: 320", "rows: 120").replace(
    "epochs: 2", "epochs: 2, checkpoint_every: 2, evaluate_every: 3, log_every: 2, keep: {best: 1, every: 4}"
)
"""Six steps, with saves after steps 2, 3, 4 and 6, best weights of steps 3 and 6, and kept weights of 3, 4 and 6."""
LAST = "last.safetensors"
TRAIN, RESUME = ["train", "tiny.yaml"], ["train", "--resume", "runs/tiny"]


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A working folder with a run that was killed after step 3."""
    path = tmp_path_factory.mktemp("begun")
    with chdir(path):
        killed(lambda: Folder(path).train(text=TEXT), 3)
    return path


def one_after_the_other():
    """Saves are waited for, so that the calls of the disk have the same order each time."""
    begin = Writer.begin
    Writer.begin = lambda self, write: (begin(self, write), self.wait())


def noting_saves(saved):
    """Write the step of each checkpoint that the run relies on to a file descriptor."""
    write = Snapshot.write

    def noted(self, file):
        write(self, file)
        if file.name == LAST:
            os.write(saved, f"{self.step}\n".encode())

    Snapshot.write = noted


def carried_out(words, disk, in_order=True):
    """A command in a process of its own, on a disk: its exit code or minus its signal, the step of the latest
    checkpoint that it has saved, and the number of calls of the disk."""
    reads, writes = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        noting_saves(writes)
        if in_order:
            one_after_the_other()
        try:
            with disk.attached():
                code = main(words)
            os.write(writes, f"calls {len(disk.calls)}\n".encode())
        except BaseException:  # noqa: BLE001 - it ends here, for the child must not go on as a test
            traceback.print_exc()
            os._exit(99)
        os._exit(code)
    os.close(writes)
    with os.fdopen(reads) as pipe:
        lines = pipe.read().split("\n")
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    steps = [int(line) for line in lines if line.isdecimal()]
    calls = [int(line.split()[1]) for line in lines if line.startswith("calls")]
    return code, max(steps, default=0), sum(calls)


@pytest.fixture
def folders(tmp_path, monkeypatch, begun):
    """Makes new working folders, with the config, or with a run that was killed."""

    def make(number, words):
        place = tmp_path / str(number)
        if words == RESUME:
            shutil.copytree(begun, place)
        else:
            place.mkdir()
        monkeypatch.chdir(place)
        folder = Folder(place)
        folder.write(TEXT)
        return folder

    return make


@pytest.fixture
def calls(folders):
    """The number of calls of a command in which nothing happens."""

    def count(words):
        code, _, found = carried_out(words, Disk(folders(f"whole {words[1]}", words).path))
        assert code == 0
        return found

    return count


def assert_goes_on(folder, whole, saved, capfd, at):
    """The run that is left is not behind its latest checkpoint, and ends as the one in which nothing happens."""
    capfd.readouterr()
    resumed = main(RESUME)
    said = capfd.readouterr()
    if resumed == 0:
        gone_on = int((said.out.split("resuming after step ")[1:] or ["0"])[0].split("\n")[0])
        assert gone_on >= saved, (at, said)
    elif "is finished" not in said.err:
        assert saved == 0, (at, said)
        assert said.err.count("error[") == 1, (at, said)
        assert "  = help: " in said.err, (at, said)
        assert main(TRAIN) == 0
    assert_same(folder.run(folder.runs()[-1]), whole)


@pytest.mark.parametrize("words", [TRAIN, RESUME], ids=["a run", "a resumed run"])
@pytest.mark.parametrize("name", CUTS)
def test_a_power_cut_at_every_call(folders, calls, whole, capfd, name, words):
    number = calls(words)
    assert number > 50
    for at in range(number):
        folder = folders(at, words)
        code, saved, _ = carried_out(words, Disk(folder.path, at=at, cut=CUTS[name]))
        assert code == -signal.SIGKILL
        assert_goes_on(folder, whole, max(saved, 2 if words == RESUME else 0), capfd, at)


@pytest.mark.parametrize("name", CUTS)
def test_a_power_cut_while_training_goes_on(folders, calls, whole, capfd, name):
    """The calls of training and of saves are mixed as it happens."""
    for at in range(0, calls(TRAIN), 3):
        folder = folders(at, TRAIN)
        code, saved, _ = carried_out(TRAIN, Disk(folder.path, at=at, cut=CUTS[name]), in_order=False)
        assert code in (0, -signal.SIGKILL)
        assert_goes_on(folder, whole, saved, capfd, at)


@pytest.mark.parametrize("words", [TRAIN, RESUME], ids=["a run", "a resumed run"])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_an_error_at_every_call(folders, calls, whole, capfd, number, lasting, words):
    failed = 0
    for at in range(calls(words)):
        folder = folders(at, words)
        capfd.readouterr()
        code, saved, _ = carried_out(words, Disk(folder.path, at=at, error=number, lasting=lasting))
        said = capfd.readouterr()
        if code != 0:
            failed += 1
            assert code == 1, (at, said)
            assert said.err.count("error[FC0702]") == 1, (at, said)
            assert os.strerror(number).lower() in said.err, (at, said)
        assert_goes_on(folder, whole, max(saved, 2 if words == RESUME else 0), capfd, at)
    assert failed > 50


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_of_two_dies_after_every_step(tmp_path, monkeypatch, rank):
    monkeypatch.chdir(tmp_path)
    folder = Folder(tmp_path)
    whole = team(folder, TEXT)
    config = load(folder.write(TEXT), ["trainer.devices=2"])

    for step in range(1, 7):

        def dies(number, step=step):
            dying(step, ranks=(rank,))
            train(config, Screen(folder.said))

        ended = together(dies)
        assert ended[rank] == -signal.SIGKILL
        assert ended[1 - rank] in (0, 1)
        run = folder.runs()[-1]
        go_on_together(run)
        assert_same(folder.run(run), whole)


@pytest.mark.parametrize("name", ["empty files", "lost names"])
def test_the_power_of_two_processes_is_cut(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = Folder(tmp_path)
    whole = team(folder, TEXT)
    config = load(folder.write(TEXT), ["trainer.devices=2"])

    for at in range(40, 100, 7):
        disk = Disk(tmp_path / "runs", at=at, cut=CUTS[name])

        def cut(rank, disk=disk):
            if rank:
                return train(config, Screen(folder.said)) and None
            one_after_the_other()
            with disk.attached():
                return train(config, Screen(folder.said)) and None

        assert together(cut)[0] == -signal.SIGKILL
        run = folder.runs()[-1]
        go_on_together(run)
        assert_same(folder.run(run), whole)
