"""Logs that are read while they are written, and the curves in them."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowconf.train.runs import curves as module
from flowconf.train.runs.curves import Curve, Logged
from flowconf.train.runs.log_reader import SLICE, LogReader
from flowconf.train.runs.moments import Moments

MOST = 8
POINTS = st.lists(st.tuples(st.integers(0, 300), st.floats(-5, 5, width=16)), unique_by=lambda point: point[0])


def line(step: int, **values: object) -> str:
    return json.dumps({"step": step, **values}) + "\n"


def brute(points):
    """The smallest and largest value of each range, for the smallest width that gives few enough ranges."""
    width = 1
    while len({step // width for step, _ in points}) > MOST:
        width *= 2
    ranges: dict[int, list[tuple[int, float]]] = {}
    for step, value in sorted(points):
        ranges.setdefault(step // width, []).append((step, value))
    values = [(min(value for _, value in one), max(value for _, value in one)) for _, one in sorted(ranges.items())]
    return width, values


@given(POINTS)
def test_a_curve_is_the_smallest_and_largest_value_of_each_range(points):
    with patch.object(module, "MOST_RANGES", MOST):
        curve = Curve()
        for step, value in points:
            curve.add(step, value)
        found = curve.points()
    width, values = brute(points)
    assert found["width"] == width
    ranges: dict[int, list[float]] = {}
    for step, value in zip(found["steps"], found["values"], strict=True):
        assert (step, pytest.approx(value, rel=1e-5)) in points
        ranges.setdefault(step // width, []).append(value)
    assert [(min(one), max(one)) for one in ranges.values()] == [pytest.approx(pair, rel=1e-5) for pair in values]
    assert found["steps"] == sorted(found["steps"])


@given(POINTS, st.sets(st.integers(0, 60)))
def test_what_changed_leads_to_the_same_curve(points, reads):
    with patch.object(module, "MOST_RANGES", MOST):
        curve = Curve(1)
        known = {"steps": [], "values": []}
        since = 0
        for number, (step, value) in enumerate(points, 1):
            curve.add(step, value, number)
            if number in reads:
                known, since = merged(known, curve.points(since)), number
        known = merged(known, curve.points(since))
        assert known == {key: curve.points()[key] for key in ("steps", "values")}


def test_a_point_before_the_last_one_is_a_change():
    curve = Curve(1)
    curve.add(5, 1.0, 1)
    curve.add(3, 2.0, 2)
    assert curve.points(1) == {"steps": [3, 5], "values": [2.0, 1.0], "width": 1, "whole": True}


def merged(known, new):
    """What `extended` of `watch.js` does."""
    if new["whole"] or not new["steps"]:
        return {key: new[key] for key in ("steps", "values")} if new["whole"] else known
    start = new["steps"][0] // new["width"] * new["width"]
    kept = [at for at in known["steps"] if at < start]
    return {"steps": kept + new["steps"], "values": known["values"][: len(kept)] + new["values"]}


def read(reader: LogReader):
    restarts, lines = reader.read()
    return restarts, [one["step"] for one in lines]


def test_only_what_is_new_is_read(tmp_path):
    log = tmp_path / "metrics.jsonl"
    reader = LogReader(log)
    assert read(reader) == (False, [])
    log.write_text(line(1) + line(2) + '{"step": 3, "trai', encoding="utf-8")
    assert read(reader) == (False, [1, 2])
    assert read(reader) == (False, [])
    with log.open("a") as more:
        more.write('n/loss": 1}\n' + line(4))
    assert read(reader) == (False, [3, 4])


def test_a_log_that_was_cut_or_replaced_is_read_again(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(line(step, loss=step) for step in range(1, 5)), encoding="utf-8")
    reader = LogReader(log)
    assert read(reader) == (False, [1, 2, 3, 4])
    os.truncate(log, len(line(1, loss=1) + line(2, loss=2)))
    assert read(reader) == (True, [1, 2])
    with log.open("a") as more:  # a resumed run
        more.write(line(3, loss=9))
    assert read(reader) == (False, [3])
    os.truncate(log, len(line(1, loss=1)))
    with log.open("a") as more:  # longer than before, when it is looked at next
        more.write("".join(line(step, loss=7) for step in range(2, 9)))
    assert read(reader) == (True, [1, 2, 3, 4, 5, 6, 7, 8])
    (tmp_path / "other").write_text(line(1) * 50, encoding="utf-8")
    (tmp_path / "other").replace(log)
    assert read(reader) == (True, [1] * 50)
    log.unlink()
    assert read(reader) == (True, [])
    assert reader.behind == 0


def test_a_long_log_is_read_in_slices(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(line(step) for step in range(1, 40_000)), encoding="utf-8")
    reader = LogReader(log)
    steps: list[int] = []
    while found := read(reader)[1]:
        assert len(found) <= SLICE
        steps += found
    assert steps == list(range(1, 40_000))


HOSTILE = {
    "no JSON": "hello\n",
    "nested": "[" * 100_000 + "\n",
    "nested in a line": '{"step": 1, "a": ' + '{"a":' * 5000 + "1" + "}" * 5000 + "}\n",
    "no object": "[1]\n3\nnull\n",
    "two halves": '{"step": 1,\n"loss": 2}\n',
    "no step": '{"loss": 1}\n',
    "steps": "".join(f'{{"step": {step}, "loss": 1}}\n' for step in ("-1", "1e3", "true", "null", "9007199254740993")),
    "huge": '{"step": 5, "loss": 1' + "0" * 400 + ', "epoch": 1' + "0" * 400 + "}\n",
    "not finite": '{"step": 5, "loss": NaN, "accuracy": Infinity, "other": -Infinity, "epoch": NaN, "phase": [1]}\n',
    "digits": '{"step": 5, "loss": ' + "1" * 10_000 + "}\n",
    "a long line": '{"step": 5, "loss": "' + "x" * (2 * SLICE) + '"}\n',
    "bytes": "\udcff\udcfe\x00\n",
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_line_that_is_no_record_is_passed_over(text, tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_bytes((text + line(7, loss=2.5, epoch=0.5, phase="warm")).encode("utf-8", errors="surrogateescape"))
    logged = Logged(log)
    while logged.read() or logged.log.behind:
        pass
    assert list(logged.curves) == ["loss"]
    assert logged.curves["loss"].points()["values"] == [2.5]
    assert (logged.phases[-1]["name"], logged.steps_per_epoch) == ("warm", 14)
    json.dumps([logged.phases, logged.steps_per_epoch], allow_nan=False)


def test_no_link_and_no_pipe_is_opened(tmp_path):
    (tmp_path / "secret").write_text(line(1))
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "missing"):
        assert LogReader(tmp_path / name).read() == (False, [])


def test_curves_without_end_are_bounded(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(line(step, **{f"a{step}": 1}) for step in range(60)), encoding="utf-8")
    with patch.object(module, "MOST_CURVES", 50):
        logged = Logged(log)
        logged.read_all()
    assert len(logged.curves) == 50
    assert logged.has_more_curves


@given(st.integers(1, 300), st.integers(1, 12))
def test_moments_are_spread_over_all_steps_and_end_with_the_latest(count, most):
    moments = Moments()
    for step in range(count):
        moments.add(7 * step, {"value": step}, most)
        moments.add(7 * step, {"value": step}, most)  # the rest of a divided line
    found = moments.all()
    steps = [step for step, _ in found]
    assert (steps[0], steps[-1]) == (0, 7 * (count - 1))
    assert len(found) <= most + 1
    assert [value["value"] for _, value in found] == [step // 7 for step in steps]
    assert len({after - before for before, after in pairwise(steps[:-1])}) <= 1
