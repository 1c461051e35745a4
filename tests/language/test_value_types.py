"""What annotations stand for: which values fit, and what messages say that is wanted."""

from __future__ import annotations

import math

import pytest
from pydantic import BaseModel, create_model

from flowconf.language import value_types
from flowconf.language.section import Section
from flowconf.language.value_types import described, fits, misfit, misfit_item


@pytest.mark.parametrize(
    ("written", "right", "wrong", "words"),
    [
        ("int", [0, -3, 10**30], [True, 1.0, "1", (1,), None], "an integer"),
        ("float", [0, 0.5, -1, math.inf], [True, "1"], "a number"),
        ("Number", [0, 0.5], [True, "1"], "a number"),
        ("bool", [True, False, 0, 1], [2, "yes"], "true or false"),
        ("str", ["", "a"], [1, True], "a string"),
        ("Positive", [1], [0, 1.5, True], "an integer of at least 1"),
        ("Count", [0], [-1], "an integer of at least 0"),
        ("Factor", [0, 2.5], [-0.1, math.inf, math.nan], "a number of at least 0"),
        ("Fraction", [0, 1, 0.5], [-0.1, 1.1, math.nan], "a number from 0 to 1"),
        ("Share", [0, 0.5], [-0.1, 1], "a number of at least 0 and below 1"),
        ("int | None", [3, None], ["a"], "an integer"),
        ("typing.Optional[int]", [3, None], ["a"], "an integer"),
        ("Union[int, str]", [3, "a"], [1.5], "an integer or a string"),
        ("str | Share | None", ["a", 0.5, None], [1], "a string or a number of at least 0 and below 1"),
        ("Literal['a', 'b']", ["a"], ["c", 1], "`a` or `b`"),
        ("typing.Literal[1, 3]", [1, 3], [2, "1"], "`1` or `3`"),
        ("_size_1_t", [3, (3,), [3]], [(3, 3), 1.5], "an integer"),
        ("_size_2_t", [3, (3, 3), [3, 3]], [(3,), (3, 3, 3), (3, 1.5), "a"], "an integer or a list of 2"),
        ("_size_any_t | None", [3, (1, 2, 3), None], [1.5, (1.5,)], "an integer or a list"),
        ("int | Sequence[int]", [3, (1, 2), [1]], ["ab", [1.5]], "an integer or a list of integers"),
        ("Sequence[str]", [["a"], ()], ["ab", [1]], "a list of strings"),
        ("tuple[Positive, Positive]", [[1, 2]], [[0, 1], [1], 1], "a list of 2 integers of at least 1"),
        ("Tuple[float, float]", [(0.9, 0.99)], [(0.9,), 0.9], "a list of 2 numbers"),
        ("'TransformerEncoderLayer'", [], [1, "a"], "a module"),
        ("Module | None", [None], [1, "a"], "a module"),
    ],
)
def test_what_fits_an_annotation(written, right, wrong, words):
    assert all(fits(written, True, value) for value in right)
    assert [misfit(written, value, required=True) for value in wrong] == [words] * len(wrong)


@pytest.mark.parametrize(
    "written", ["", "Tensor", "Tensor | None", "Callable[[int], int]", "a b", "list[", "Literal[x]"]
)
def test_an_annotation_that_says_more_is_left_to_the_callable(written):
    assert misfit(written, object(), required=True) is None
    assert described(written) is None


@pytest.mark.parametrize(
    ("written", "value", "found"),
    [
        ("tuple[Positive, Positive]", [4, 0], (1, "an integer of at least 1")),
        ("_size_2_t", [4, "a"], (1, "an integer")),
        ("int | Sequence[float]", [4, 1.5, "a"], (2, "a number")),
        ("tuple[int, int]", [4], None),
        ("Sequence[int]", 4, None),
        ("Sequence[int]", [4], None),
        ("Tensor", [4], None),
    ],
)
def test_the_one_item_that_does_not_fit(written, value, found):
    assert misfit_item(written, value) == found


def test_null_fits_where_nothing_is_required():
    assert misfit("int", None) is None
    assert misfit("int", None, required=True) == "an integer"


def test_an_argument_that_may_be_a_module_is_not_described():
    assert described("int | None") == "an integer"
    assert described("Module | None") is None


@pytest.mark.parametrize("name", ["Positive", "Count", "Finite", "Factor", "Fraction", "Share"])
@pytest.mark.parametrize("value", [-1, 0, 1, 2, 0.5, math.inf, math.nan, True, "1", [1]], ids=str)
def test_sections_and_signatures_take_the_same_values(name, value):
    model = create_model("One", __base__=Section, field=(getattr(value_types, name), ...))
    assert fits(name, True, value) == _is_taken(model, value)


def _is_taken(model: type[BaseModel], value: object) -> bool:
    try:
        model.model_validate({"field": value})
    except ValueError:
        return False
    return True
