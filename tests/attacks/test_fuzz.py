"""Any text and any data: read, or refused by a `ConfigError`; never another exception, and never without a place."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowconf import ConfigError, plan
from flowconf.language import schema
from flowconf.language.arguments import Literal
from flowconf.language.config import ConfigDocument
from flowconf.language.keys.validate import validate
from flowconf.language.resolve.calls import CallParser
from flowconf.report import Place, Reporter, render_json, render_text
from flowconf.text.documents import from_data, read

SCOPE = {"width": Literal(8, "width"), "rate": Literal(0.5, "rate"), "name": Literal("a", "name")}
PLACE = Place("a.yaml", 3, 9, 5)
PIECES = [
    "Linear", "ReLU", "Dropout", "GRU", "width", "rate", "name", "true", "none", "_", "in_features", "p", "lambda",
    "(", ")", "[", "]", "{", "}", ",", "=", ":=", ">>", "->", "+", "-", "*", "**", "/", "//", "%", "@", ".", ":", ";",
    "'", '"', "'''", "\\", "\n", "\t", "#", "0", "1", "2.5", "1e999", "0x1f", "1j", "9" * 400,
    "é", "ℌ", "\u202e", "🦆", "\0", "\ud800",
    " ", "if", "else", "for", "in", "await", "f'{x}'", "b'a'", "...", "not", "==", "<",
]  # fmt: skip
KEYS = [*schema.STEP_KEYS, "flow", "inputs", "outputs", "params", "label", "shape", "dtype", "scale", "path", "config"]
WORDS = [
    "Linear(4, 4)", "Linear(_, 4) >> ReLU", "ReLU", "x", "a", "b", "a.b", "a[0]", "b.a[-1]", "add", "cat", "width", "B",
    "int64", "",
    "normal(std=0.1)", "nothing", "a.b.c", "_a", "params", "error", "SoftmaxRouter(4, 2)", "StateAdd", "a-b", "1", "T",
    "a.", ".b", "a..b", "b[", "a b",
]  # fmt: skip
NAMES = st.sampled_from(["a", "b", "c", "x", "_a", "body", "self", "forward", "class", "a.b", "1", "", "skip"])

scalars = st.one_of(
    st.sampled_from(WORDS),
    st.none(),
    st.booleans(),
    st.integers(-3, 5),
    st.sampled_from([0.5, float("nan"), 10**30, -1]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.sampled_from(KEYS), NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)
calls = st.sampled_from([word for word in WORDS if "(" in word or word == "ReLU"])


@st.composite
def steps(draw, depth=2):
    """Something that is nearly a step."""
    verb = draw(st.sampled_from(schema.VERBS))
    body = calls
    if depth:
        body = st.one_of(calls, st.builds(lambda flow: {"flow": flow}, flows(depth - 1)), scalars)
    if verb in ("split", "gate", "switch"):
        body = st.dictionaries(NAMES, body, max_size=3)
    step = {verb: draw(body)}
    extras = {
        "from": scalars, "using": values, "times": scalars, "router": body, "merge": scalars, "repeat": scalars,
        "tag": NAMES,
        "after": NAMES, "label": NAMES, "frozen": scalars, "init": values, "take": scalars, "over": scalars,
        "dim": scalars,
        "until": body, "max": scalars, "slices": scalars, "batched": scalars, "with": values, "checkpoint": values,
        "skip": body, "tie": values, "follows": values, "adapt": values, "top": scalars,
    }  # fmt: skip
    for key in draw(st.lists(st.sampled_from(sorted(extras)), max_size=3, unique=True)):
        step[key] = draw(extras[key])
    return step


def flows(depth=2):
    return st.dictionaries(NAMES, st.one_of(calls, steps(depth), scalars), min_size=1, max_size=4)


documents = st.fixed_dictionaries(
    {"flow": st.one_of(flows(), values)},
    optional={"inputs": values, "outputs": values, "params": values, "label": scalars, "extra": scalars},
)


def reported(error: ConfigError) -> None:
    """Every diagnostic can be shown in every form."""
    assert error.diagnostics
    assert render_text(error.diagnostics)
    assert render_json(error.diagnostics).count("\n") == len(error.diagnostics)


@settings(max_examples=400)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=14).map("".join)))
def test_any_text_is_a_call_or_refused(text):
    reporter = Reporter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chain = CallParser(SCOPE, reporter).chain(text, PLACE)
        value = CallParser(SCOPE, reporter).value(text, PLACE)
    assert (chain is None or value is None) or not reporter.errors
    if chain is None:
        assert reporter.errors
    for error in reporter.errors:
        assert error.place.file == "a.yaml"
        assert error.place.line == 3
        assert error.place.column >= 1
        assert "\n" not in error.message


@settings(max_examples=300)
@given(
    st.one_of(
        st.text(max_size=200),
        st.lists(st.sampled_from([*PIECES, *"-?&*!|>%@`~<", "---", "...", "<<", "  "]), max_size=40).map("".join),
    ),
    st.sampled_from(["a.yaml", "a.toml"]),
)
def test_any_text_is_a_document_or_refused(text, name):
    try:
        document = read(name, text)
    except ConfigError as error:
        reported(error)
        for diagnostic in error.diagnostics:
            assert diagnostic.place.file is not None
            assert diagnostic.place.file.endswith(name)
    else:
        assert isinstance(document.data, dict)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(documents)
def test_any_data_is_a_graph_or_refused(document):
    try:
        plan(document, origin="notebook")
    except ConfigError as error:
        reported(error)
        for diagnostic in error.diagnostics:
            assert diagnostic.place.file == "notebook", diagnostic


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(["model", "data", "loss", "metrics", "optimizer", "schedule", "trainer", "seed", "more"]),
        values,
    )
)
def test_any_data_is_a_config_or_refused(data):
    document = from_data(data, "notebook")
    reporter = Reporter(document.origins)
    if validate(ConfigDocument, document.data, reporter) is None:
        assert reporter.errors


@pytest.mark.slow
@settings(max_examples=5000, suppress_health_check=[HealthCheck.too_slow])
@given(documents)
def test_any_data_is_a_graph_or_refused_at_length(document):
    try:
        plan(document, origin="notebook")
    except ConfigError as error:
        reported(error)
