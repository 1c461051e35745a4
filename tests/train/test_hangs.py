"""A process of a team that does not respond is given up, named, and leaves nothing behind."""

from __future__ import annotations

import os
import threading
from datetime import timedelta

import pytest

from flowconf.cli.main import main
from flowconf.train.screen import Screen
from flowconf.train.team import watch
from tests.train.conftest import assert_same
from tests.train.teams import go_on_together, team, together
from tests.train.test_teams import PLAIN

pytestmark = pytest.mark.slow


def never(self, step):
    if step == 7:
        threading.Event().wait()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_hangs(folder, capfd, rank):
    whole = team(folder, PLAIN)
    file = folder.write(PLAIN)
    capfd.readouterr()

    def hangs(number):
        watch.GRACE = timedelta(seconds=5)
        watch.is_own_file = lambda file: file == __file__
        if number == rank:
            Screen.step = never
        return main(["train", file, "trainer.devices=2", "trainer.timeout=20"])

    assert together(hangs) == [1, 1]
    said = capfd.readouterr().err
    run = folder.runs()[-1]
    assert said.count("error[FC0702]") == 1, said
    line = never.__code__.co_firstlineno + 2
    assert f"the process of rank {rank} did not respond for 20 s: it is at {__file__}:{line}, in `never`" in said
    assert f"to resume: flowconf train --resume {run.relative_to(folder.path)}" in said
    assert folder.run(run).record["status"] == ("failed" if rank else "running")
    go_on_together(run)
    assert_same(folder.run(run), whole)


def test_a_process_that_does_not_even_answer(folder, capfd):
    file = folder.write(PLAIN)

    def hangs(number):
        watch.GRACE = timedelta(seconds=5)
        if number == 1:
            watch.Watch._answer = lambda self, store: None
            Screen.step = lambda self, step: threading.Event().wait(60) if step == 7 else None
        code = main(["train", file, "trainer.devices=2", "trainer.timeout=20"])
        os._exit(code)

    together(hangs)
    said = capfd.readouterr().err
    assert "the process of rank 1 did not respond for 20 s, and does not answer" in said


def test_all_of_a_team_wait_for_one(folder, capfd):
    file = folder.write(PLAIN)

    def hangs(number):
        watch.GRACE = timedelta(seconds=5)
        if number == 1:
            Screen.step = never
        return main(["train", file, "trainer.devices=3", "trainer.timeout=20"])

    assert together(hangs, 3) == [1, 1, 1]
    said = capfd.readouterr().err
    assert said.count("error[FC0702]") == 1, said
    assert said.count("did not respond") == 1, said
    assert "the process of rank 1 did not respond" in said
