"""The `inputs` of a graph document: names, sizes and dtypes."""

from __future__ import annotations

from flowconf.language import schema
from flowconf.language.advice import call_slips, other_tools, vocabulary
from flowconf.language.open_size import open_size, products
from flowconf.language.plan import Input
from flowconf.language.resolve import reserved_names, wrong_values
from flowconf.language.resolve.calls import CallParser, ParameterScope
from flowconf.report import Advice, Reporter, Suggestion, nearest, suggest
from flowconf.report.origins import Path, dotted

DTYPES = (
    "float32", "float64", "float16", "bfloat16", "complex64", "complex128",
    "int64", "int32", "int16", "int8", "uint8", "bool",
)  # fmt: skip
LARGEST_SIZE = 2**40
OPEN = "write `{}`, or another name that begins with a capital letter, for an unknown size"


def read_inputs(model: schema.GraphDocument, path: Path, scope: ParameterScope, reporter: Reporter) -> list[Input]:
    """The inputs in call order; by default a single input `x`."""
    if not model.inputs:
        if model.inputs is not None:
            reporter.error("FC0123", "a graph requires at least one input", reporter.value((*path, "inputs")))
        return [Input("x")]
    found = []
    for name, given in model.inputs.items():
        at = (*path, "inputs", name)
        sizes = given.shape if isinstance(given, schema.InputSpec) else given
        dtype = given.dtype if isinstance(given, schema.InputSpec) else "float32"
        if dtype not in DTYPES:
            place = reporter.value((*at, "dtype"))
            meant = other_tools.meant(dtype.removeprefix("torch."), vocabulary.DTYPES, DTYPES)
            meant = dtype.removeprefix("torch.") if dtype.removeprefix("torch.") in DTYPES else meant
            advice = Suggestion(meant, instead_of=dtype) if meant else suggest(dtype, DTYPES, "dtypes")
            reporter.error("FC0123", f"unknown dtype `{dtype}`", place, at=at, advice=advice)
        if name in reserved_names.GENERATED:
            reporter.error(
                "FC0126", f"`{name}` cannot be an input: the generated source uses this name", reporter.key(at)
            )
        where = (*at, "shape") if isinstance(given, schema.InputSpec) else at
        shape = tuple(_size(size, (*where, i), scope, reporter) for i, size in enumerate(sizes))
        places = tuple(reporter.value((*where, i)) for i in range(len(sizes)))
        found.append(Input(name, shape, dtype, place=reporter.key(at), places=places))
    return found


def _size(size: int | str, at: Path, scope: ParameterScope, reporter: Reporter) -> int | str:
    place = reporter.value(at)
    if isinstance(size, str) and (found := _open(size, scope)) is not None:
        return found
    value: object = size
    if isinstance(size, str):
        if size.isidentifier() and size not in scope:
            close, letter = nearest(size, scope), "B" if size == "None" else size[:1].upper()
            advice: Advice = f"{OPEN.format(letter)}, or add `{size}` to `params`"
            advice = Suggestion(close, instead_of=size) if close else advice
            reporter.missing(size, "FC0134", f"unknown parameter `{size}`", place, at=at, advice=advice)
            return 1
        literal = CallParser(scope, reporter, dotted(at)).value(size, place)
        if literal is None:
            return 1
        value = literal.value
        if wrong_values.report(literal, _is_size, "an integer of at least 1", "`inputs`", reporter, dotted(at)):
            return 1
    if not _is_size(value):
        message = f"a size must be an integer of at least 1, got {call_slips.shown(value)}"
        instead = OPEN.format("B" if at[-1] == 0 else "T") if value == -1 else call_slips.divided(str(size))
        reporter.error("FC0123", message, place, at=at, advice=instead)
        return 1
    assert isinstance(value, int)
    return value


def _open(size: str, scope: ParameterScope) -> str | None:
    """A symbol, or a multiple of one, where the factor may be a parameter."""
    for factor, symbol in products(size):
        number = scope[factor].value if factor in scope else int(factor) if factor.isdecimal() else None
        if symbol not in scope and isinstance(number, int) and _is_size(number):
            return open_size(number, symbol)
    return None


def _is_size(value: object) -> bool:
    return wrong_values.is_count(value) and isinstance(value, int) and value < LARGEST_SIZE
