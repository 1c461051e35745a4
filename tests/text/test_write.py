"""What is written reads back as the same data."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flowconf.report import Place
from flowconf.text.write import describe, dump

TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    [
        "yes",
        "n",
        "Off",
        "NULL",
        "nan",
        "_1",
        "e3",
        "/a",
        "1e-3",
        "0o17",
        "012",
        "1_000",
        "2024-01-01",
        "~",
        "null",
        "a: b",
        "a #b",
        "- a",
        "x:",
        "${a}",
        "...",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=12
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_what_is_written_reads_back(data):
    assert yaml.safe_load(dump(data)) == data


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_comments_change_nothing(data):
    assert yaml.safe_load(dump(data, lambda path: "a.yaml:1:1 (over b.yaml)")) == data


def test_a_config_stays_readable():
    data = {
        "model": {
            "inputs": {"image": ["B", 784]},
            "flow": {"stem": "Linear(784, width) >> GELU", "drop": None, "join": {}},
        },
        "optimizer": {"lr": 1e-05, "betas": [0.9, 0.999]},
    }
    assert dump(data) == (
        "model:\n"
        "  inputs:\n"
        "    image: [B, 784]\n"
        "  flow:\n"
        "    stem: Linear(784, width) >> GELU\n"
        "    drop: null\n"
        "    join: {}\n"
        "optimizer:\n"
        "  lr: 1.0e-05\n"
        "  betas: [0.9, 0.999]\n"
    )


def test_comments_stand_in_one_column():
    notes = {("a", "long_name"): "x.yaml:2:3", ("b",): "y.yaml:4:5"}
    assert dump({"a": {"long_name": 1}, "b": True, "c": 2}, notes.get) == (
        "a:\n  long_name: 1  # x.yaml:2:3\nb: true         # y.yaml:4:5\nc: 2\n"
    )


def test_no_data_is_an_empty_mapping():
    assert dump({}) == "{}\n"


def test_not_a_number_is_written():
    assert math.isnan(yaml.safe_load(dump({"a": math.nan}))["a"])


def test_what_is_no_plain_data_is_refused():
    with pytest.raises(TypeError, match="set is not plain data"):
        dump({"a": {1}})


def test_origins_name_what_they_replace_latest_first():
    earlier = (Place("a.yaml", 1, 2), Place("b.yaml", 3, 4))
    assert describe(Place(word="lr=1")) == "command line, `lr=1`"
    assert describe(Place("c.yaml", 5, 6), earlier) == "c.yaml:5:6 (over b.yaml:3:4, a.yaml:1:2)"
