"""A value of the main file that a group replaces by the order of the defaults list alone is reported; no other is."""

from __future__ import annotations

import pytest

from flowconf.text.compose import compose

FILES = {
    "main.yaml": """
        defaults:
          - _self_
          - optimizer: fast
          - pivot: null
        optimizer: {lr: 0.01, betas: [0.9, 0.99]}
        seed: 0
        """,
    "optimizer/fast.yaml": "name: adam\nlr: 0.5\nbetas: [0.9, 0.99]\n",
    "optimizer/slow.yaml": "name: sgd\nlr: 0.001\n",
    "pivot/seeded.yaml": "# @package _global_\nseed: 7\noptimizer: {lr: 0.5}\n",
}


def reported(rules, *overrides: str) -> list[tuple[str, str, int, int]]:
    warnings = compose("main.yaml", overrides, rules).document.warnings
    assert all(warning.severity == "warning" for warning in warnings)
    return [(found.code, found.path, found.place.line, found.place.column) for found in warnings]


def test_a_value_that_the_order_replaces(files, rules):
    files(FILES)
    assert reported(rules) == [("FC0107", "optimizer.lr", 6, 17)]
    (warning,) = compose("main.yaml", [], rules).document.warnings
    assert [(label.place.file.split("/")[-1], label.place.line) for label in warning.labels] == [
        ("fast.yaml", 2),
        ("main.yaml", 4),
    ]
    assert "`- optimizer/fast@optimizer`" in warning.help


def test_what_is_chosen_or_said_on_the_command_line_is_meant(files, rules):
    files(FILES)
    assert reported(rules, "optimizer=slow") == []
    assert reported(rules, "optimizer.lr=0.3") == []
    assert reported(rules, "pivot=seeded", "optimizer=slow") == []


@pytest.mark.parametrize("before", ["optimizer/fast@optimizer", "_self_"])
def test_the_order_that_the_help_names_is_silent(before, files, rules):
    text = FILES["main.yaml"].replace("- _self_\n          - optimizer: fast", f"- {before}\n          - _self_")
    files({**FILES, "main.yaml": text if before != "_self_" else FILES["main.yaml"].replace("lr: 0.01, ", "")})
    assert reported(rules) == []
    assert compose("main.yaml", [], rules).document.data["optimizer"]["lr"] == (0.01 if before != "_self_" else 0.5)
