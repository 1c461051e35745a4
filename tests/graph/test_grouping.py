"""Findings of the shape check that have one cause are one mistake, whatever order they were found in."""

from __future__ import annotations

from itertools import permutations

import pytest

from flowconf.graph.shapes.grouping import Contradiction, Finding, Misfit, Several, grouped
from flowconf.report import Diagnostic, Place


def at(line):
    return Place("a.yaml", line, 1)


def misfit(line, expected=8):
    cause = Misfit("wide", at(1), at(2), 16, "16", expected, f"reader_{line}", at(line))
    return Finding(Diagnostic("FC0201", f"`reader_{line}` expects {expected}", at(line), f"reader_{line}"), (cause,))


def several(line, picked=False):
    cause = Several("cell", at(1), at(2), "([B, 4], [B, 4])", picked, "write `take: 0`", f"reader_{line}", at(line))
    return Finding(Diagnostic("FC0201", "takes one tensor", at(line), f"reader_{line}"), (cause,))


def contradiction(line):
    cause = Contradiction("x", at(1), at(2), 4, 8)
    return Finding(Diagnostic("FC0206", f"`mount_{line}` gets 8", at(line), f"mount_{line}"), (cause,))


def size_of_parameter(line):
    return Finding(Diagnostic("FC0202", "must be at least 1, got `n`, which is 0", at(line)), parameters=(at(1),))


@pytest.mark.parametrize(
    ("make", "place"), [(misfit, at(2)), (several, at(2)), (contradiction, at(2)), (size_of_parameter, at(1))]
)
def test_what_has_one_cause_is_one_mistake_at_the_cause(make, place):
    for order in permutations([make(5), make(6), make(7)]):
        (found,) = grouped(order, ())
        assert found.place == place
        assert {label.place.line for label in found.labels} >= ({5, 6, 7} if make is not contradiction else set())


@pytest.mark.parametrize("make", [misfit, several, contradiction, size_of_parameter])
def test_one_alone_stays_where_it_was_found(make):
    finding = make(5)
    assert grouped([finding], ()) == [finding.diagnostic]


def test_readers_that_expect_other_sizes_are_apart():
    assert [one.place.line for one in grouped([misfit(5, 8), misfit(6, 9)], ())] == [5, 6]


def test_a_reader_that_is_found_twice_is_one_reader():
    assert grouped([misfit(5), misfit(5)], ()) == [misfit(5).diagnostic]


def test_a_giver_that_picks_several_is_wrong_for_a_single_reader():
    assert [one.place.line for one in grouped([several(5, picked=True)], ())] == [2]


def test_mounts_are_wrong_by_themselves_where_one_fits_the_declaration():
    assert [one.place.line for one in grouped([contradiction(5), contradiction(6)], {at(1)})] == [5, 6]


def test_a_size_that_its_parameter_makes_wrong_is_reported_with_the_parameter():
    of_parameter = Finding(Diagnostic("FC0123", "`n` must be at least 1", at(1)))
    for order in permutations([of_parameter, size_of_parameter(5), size_of_parameter(6)]):
        assert grouped(order, ()) == [of_parameter.diagnostic]


def test_a_module_that_fits_nowhere_is_reported_where_it_stands_first():
    first = Finding(Diagnostic("FC0201", "cannot be applied to [B, 4]", at(5)))
    again = Finding(Diagnostic("FC0201", "cannot be applied to [B, 2]", at(9)), first=at(5))
    assert grouped([first, again], ()) == [first.diagnostic]
    assert grouped([again], ()) == [again.diagnostic]
