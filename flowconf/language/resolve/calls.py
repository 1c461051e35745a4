"""Calls: `Linear(784, width) >> GELU`. Parsed with `ast`, checked against the registry, never evaluated.

Arguments are literals, `true`, `false`, `none`, parameters, arithmetic on them, lists and nested calls.
"""

from __future__ import annotations

import ast
import operator
import re
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from flowconf.language import value_types
from flowconf.language.advice import call_slips, foreign_calls, other_tools, vocabulary
from flowconf.language.arguments import Argument, Call, Hole, ListArgument, Literal
from flowconf.language.registry import CallTable, modules
from flowconf.language.resolve import package_calls, wrong_values
from flowconf.language.signatures import ANYTHING, Signature
from flowconf.report import Advice, Available, Place, Reporter, Suggestion, nearest, shortened, suggest
from flowconf.text.source import within

ParameterScope = Mapping[str, Literal]

LONGEST = 20_000
DEEPEST = 100
CONSTANTS = {"true": True, "false": False, "none": None, "null": None}
OPERATORS: dict[type[ast.operator], tuple[str, Callable[[float, float], float]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Mod: ("%", operator.mod),
    ast.Pow: ("**", operator.pow),
}
INPUT_SIZES = ("in_", "input_size", "num_features", "normalized_shape")
"""How the names of arguments begin that are sizes of the input."""
PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2, "**": 3}


class Refused(Exception):
    """Ends parsing after an error, which is in the reporter."""


@dataclass
class CallParser:
    """Parses the calls of one document; errors are reported to `reporter`."""

    scope: ParameterScope
    reporter: Reporter
    path: str = ""
    steps: Collection[str] = ()
    """The names of the steps."""
    table: CallTable = field(default_factory=lambda: modules)
    """The table of the names that can be called."""

    def chain(self, text: str, place: Place) -> tuple[Call, ...] | None:
        """The calls of `A >> B >> C`; a single call is a chain of one. None after an error."""
        try:
            at = _Spot(place, text)
            if text.rstrip().endswith(","):
                self._refuse("FC0131", "trailing comma after the call", at.at(len(text.strip()) - 1), "remove it")
            node = self._expression(text, place)
            calls = tuple([self._call(member, at) for member in _links(node)])
            before = len(self.reporter.diagnostics)
            for call in calls:
                package_calls.check_step(call, self.reporter, self.path)
            return None if self.reporter.has_errors(before) else calls
        except Refused:
            return None

    def value(self, text: str, place: Place) -> Literal | None:
        """A number, string or list, or an expression of parameters."""
        try:
            found = self._argument(self._expression(text, place), _Spot(place, text))
        except Refused:
            return None
        if isinstance(found, Literal):
            return replace(found, place=place)
        self.reporter.error("FC0131", f"`{text}` must be a value, not a module", place, path=self.path)
        return None

    def _expression(self, text: str, place: Place) -> ast.expr:
        if len(text) > LONGEST:
            self._refuse("FC0131", f"a call of {len(text):,} characters is too long", place)
        if not text.strip():
            self._refuse(
                "FC0131", "expected a call, got an empty string", place, "write the name of a module or a call"
            )
        if thousands := call_slips.THOUSANDS.search(text):
            spot, meant = _Spot(place, text), thousands[0].replace(",", "")
            message = f"`{thousands[0]}` is {thousands[0].count(',') + 1} arguments, because commas separate arguments"
            self._refuse(
                "FC0131", message, spot.at(thousands.start(), len(thousands[0])), Suggestion(meant, thousands[0])
            )
        try:
            with warnings.catch_warnings(action="ignore"):
                in_one_line = re.sub("[\r\n]", " ", text.strip())  # with the same offsets
                node = ast.parse(in_one_line, mode="eval").body
            if len(text) >= DEEPEST and any(_deeper_than(link, DEEPEST) for link in _links(node)):
                raise RecursionError
            return node
        except SyntaxError as problem:
            found = call_slips.unreadable(problem, text.strip())
            at = _Spot(place, text).at(found.offset, found.length)
            self._refuse("FC0131", f"`{shortened(text)}` is not a call: {found.why}", at, found.advice)
        except (RecursionError, MemoryError, ValueError):
            self._refuse("FC0131", "the call is nested too deeply or has invalid characters", place)
        raise AssertionError

    def _reported(self, given: Literal, fits: wrong_values.Fits, wanted: str, use: str) -> bool:
        return wrong_values.report(given, fits, wanted, use, self.reporter, self.path)

    def _refuse(self, code: str, message: str, place: Place, advice: Advice | None = None) -> None:
        self.reporter.error(code, message, place, path=self.path, advice=advice)
        raise Refused

    def _call(self, node: ast.expr, spot: _Spot) -> Call:
        called = node.func if isinstance(node, ast.Call) else node
        name = _dotted(called)
        if name is None or ("." in name and not self.table.is_of_package(name)):
            shown = shortened(ast.unparse(node) if not isinstance(node, ast.Tuple) else spot.text.strip())
            message = f"expected the name of {self.table.one} or a call, got `{shown}`"
            in_our_words = self._in_our_words(node, spot) or call_slips.no_call(node, self.table.names())
            self._refuse("FC0131", message, spot(node), in_our_words or call_slips.of_package(name))
        assert name is not None
        top = name.partition(".")[0]
        if name != top and top in self.scope:
            message = f"`{top}` is a package and a parameter"
            self._refuse("FC0126", message, spot(called), "choose another name for the parameter")
        if name not in self.table:
            advice = self._in_our_words(node, spot)
            if name in self.scope:
                advice = f"`{name}` is a parameter, but a step requires a module"
            elif name in self.steps:
                advice = f"`{name}` is a step; use `reuse: {name}` to apply its module again"
            self.reporter.add(self.table.unknown(name, spot(called), self.path, advice))
            raise Refused
        call = self._arguments(name, node, spot) if isinstance(node, ast.Call) else Call(name, place=spot(node))
        self._check(call, node, spot)
        return call

    def _in_our_words(self, node: ast.expr, spot: _Spot) -> Advice | None:
        """The advice for a whole call: of another tool, or with the package of its module."""
        text, called = spot.part(node), node.func if isinstance(node, ast.Call) else node
        written, why = foreign_calls.translated(node, self.table.names()), ""
        if written is None and isinstance(called, ast.Attribute):
            is_other = other_tools.for_module(called.attr, self.table.names()) is not None
            close = None if is_other else nearest(called.attr, self.table.names())
            written = f"{close}{text[len(ast.unparse(called)) :]}" if close else None
            why = ": modules are written without a package"
        others = tuple(written.partition("(")[:1]) if written is not None and why else ()
        return Suggestion(written, text, spot(node), why, others) if written is not None else None

    def _arguments(self, name: str, node: ast.Call, spot: _Spot) -> Call:
        args: list[Argument] = []
        kwargs, failed = [], False
        items: list[ast.expr | ast.keyword] = [*node.args, *node.keywords]
        for item in items:
            value = item.value if isinstance(item, ast.keyword) else item
            try:
                if isinstance(item, ast.Starred) or (isinstance(item, ast.keyword) and item.arg is None):
                    self._refuse("FC0131", "`*` and `**` are not allowed in a call", spot(value))
                parsed = self._argument(value, spot, partial(self._is_text, name, item, len(args)))
                if isinstance(item, ast.keyword):
                    kwargs.append((str(item.arg), parsed))
                else:
                    args.append(parsed)
            except Refused:
                failed = True
        if failed:
            raise Refused
        return Call(name, tuple(args), tuple(kwargs), spot(node))

    def _is_text(self, name: str, item: ast.expr | ast.keyword, position: int) -> bool:
        """Whether an argument can be a string."""
        if name not in self.table:
            return False
        init = self.table.class_source(name).init
        argument = item.arg if isinstance(item, ast.keyword) else "".join(init.positional[position : position + 1])
        types = [parameter.type for parameter in init.parameters if parameter.name == argument]
        return any(re.search(r"\b(str|Literal)\b", written) for written in types)

    def _argument(self, node: ast.expr, spot: _Spot, is_text: Callable[[], bool] = bool) -> Argument:
        """The value of an argument; `is_text` returns whether it can be a string."""
        match node:
            case ast.Constant(value=value) if isinstance(value, bool | int | float | str) or value is None:
                self._bounded(value, node, spot)
                return Literal(value, repr(value), spot(node))
            case ast.Name(id="_"):
                return Hole(spot(node))
            case ast.Name(id=name) if name in self.scope:
                return Literal(self.scope[name].value, name, spot(node), of=(self.scope[name],))
            case ast.Name(id=name) if name in CONSTANTS:
                return Literal(CONSTANTS[name], repr(CONSTANTS[name]), spot(node))
            case ast.Name(id=name) if name not in self.table:
                close = nearest(name, self.table.names()) if name[:1].isupper() else None
                advice = call_slips.no_parameter(name, self.scope, is_text()) or (
                    Suggestion(close, instead_of=name) if close else None
                )
                if name in self.steps:
                    advice = "values are passed to a module by `using`, as in `{through: Concat(dim=1), using: [NAME]}`"
                advice = advice or suggest(name, self.scope, "parameters") or call_slips.AS_TEXT.format(name)
                self.reporter.missing(
                    name, "FC0134", f"unknown parameter `{name}`", spot(node), path=self.path, advice=advice
                )
                raise Refused
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return self._list([self._argument(item, spot) for item in items], spot(node))
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                return self._signed(node, self._number(operand, spot), spot)
            case ast.BinOp(op=op) if type(op) in OPERATORS:
                return self._arithmetic(node, spot)
            case ast.Name() | ast.Call():
                return self._call(node, spot)
            case ast.Attribute() if self.table.is_of_package(_dotted(node) or ""):
                return self._call(node, spot)
        message = f"`{shortened(ast.unparse(node))}` is not allowed in a call"
        self._refuse("FC0131", message, spot(node), call_slips.no_argument(node, self.scope))
        raise AssertionError

    @staticmethod
    def _list(items: list[Argument], place: Place) -> Argument:
        if all(isinstance(item, Literal) for item in items):
            literals = [item for item in items if isinstance(item, Literal)]
            text = f"[{', '.join(item.text for item in literals)}]"
            values = tuple(item.value for item in literals)
            return Literal(values, text, place, _sources(*literals), items=tuple(literals))
        return ListArgument(tuple(items))

    def _number(self, node: ast.expr, spot: _Spot) -> Literal:
        found = self._argument(node, spot)
        if isinstance(found, Literal) and wrong_values.is_number(found.value):
            return found
        if isinstance(found, Literal) and self._reported(found, wrong_values.is_number, "a number", "arithmetic"):
            raise Refused
        text = shortened(ast.unparse(node))
        is_ = f"is {call_slips.shown(found.value)}" if isinstance(found, Literal) else "is a module"
        self._refuse("FC0131", f"arithmetic requires numbers, but `{text}` {is_}", spot(node))
        raise AssertionError

    def _signed(self, node: ast.UnaryOp, operand: Literal, spot: _Spot) -> Literal:
        assert isinstance(operand.value, int | float)
        if isinstance(node.op, ast.UAdd):
            return operand
        inner = f"({operand.text})" if isinstance(node.operand, ast.BinOp) else operand.text
        return Literal(-operand.value, f"-{inner}", spot(node), operand.of)

    def _arithmetic(self, node: ast.BinOp, spot: _Spot) -> Literal:
        left, right = self._number(node.left, spot), self._number(node.right, spot)
        sign, compute = OPERATORS[type(node.op)]
        a, b = left.value, right.value
        assert isinstance(a, int | float)
        assert isinstance(b, int | float)
        if sign == "**" and (abs(b) > 64 or abs(a) > 1_000_000):
            self._refuse("FC0131", f"`{shortened(ast.unparse(node))}` is too large", spot(node))
        try:
            result = compute(a, b)
        except (ZeroDivisionError, OverflowError) as problem:
            self._refuse("FC0131", f"`{shortened(ast.unparse(node))}`: {str(problem).lower()}", spot(node))
        self._bounded(result, node, spot)
        text = f"{_wrapped(node.left, left, sign)} {sign} {_wrapped(node.right, right, sign, right_side=True)}"
        return Literal(result, text, spot(node), _sources(left, right))

    def _bounded(self, value: object, node: ast.expr, spot: _Spot) -> None:
        if isinstance(value, complex) or (isinstance(value, int | float) and abs(value) >= value_types.LARGEST):
            self._refuse("FC0131", f"`{shortened(ast.unparse(node))}` is too large for a number", spot(node))

    def _check(self, call: Call, node: ast.expr, spot: _Spot) -> None:
        """Check a call against the signature of the constructor."""
        source = self.table.class_source(call.name)
        signature, before = source.init, len(self.reporter.diagnostics)
        if isinstance(node, ast.Call):
            self._check_names(call, signature, node, spot)
        if len(self.reporter.diagnostics) > before:
            raise Refused
        self._check_values(call, signature, call_slips.thousands(spot.part(node)))
        missing = signature.missing(len(call.args), {name for name, _ in call.kwargs})
        if missing:
            listed = ", ".join(f"`{name}`" for name in missing)
            usage = _usage(call.name, signature, spot.part(node))
            if source.forward == ANYTHING:  # a function that does not say which module it returns
                usage += f"; if `{call.name}` is to be applied to the stream, register a class with `forward` instead"
            self._refuse("FC0133", f"`{call.name}` requires {listed}", spot(node), usage)
        package_calls.check(call, self.reporter, self.path)
        if len(self.reporter.diagnostics) > before:
            raise Refused

    def _check_values(self, call: Call, signature: Signature, slip: Advice | None) -> None:
        """Report numbers, strings and modules of the wrong type; `slip` is the advice for a possible cause."""
        for parameter, argument in signature.bound(call.args, call.kwargs):
            use = f"`{parameter.name}` of `{call.name}`"
            if isinstance(argument, Call):
                wanted = value_types.described(parameter.type)
                if wanted is not None:
                    self._refuse("FC0133", f"{use} must be {wanted}, got a module", argument.place)
            elif isinstance(argument, Literal):
                wanted = value_types.misfit(parameter.type, argument.value, parameter.required)
                if wanted is None:
                    continue
                if self._reported(argument, partial(value_types.fits, parameter.type, parameter.required), wanted, use):
                    raise Refused
                message = f"{use} must be {wanted}, got {call_slips.shown(argument.value)}"
                self._refuse("FC0133", message, argument.place, self._instead(argument, wanted, slip))

    def _instead(self, given: Literal, wanted: str, slip: Advice | None) -> Advice | None:
        """What to write instead of a value of the wrong type."""
        advice = call_slips.divided(given.text) or slip
        if advice is None and isinstance(given.value, str):
            return vocabulary.AFTER if foreign_calls.module_named(given.value, self.table.names()) else None
        if advice is None and isinstance(given.value, float) and given.value.is_integer():
            return Suggestion(str(int(given.value)), given.text) if wanted == value_types.WORDS[int] else None
        return advice

    def _check_names(self, call: Call, signature: Signature, node: ast.Call, spot: _Spot) -> None:
        room = len(signature.positional)
        if len(call.args) > room and not signature.variadic:
            message = f"`{call.name}` takes {room} {'argument' if room == 1 else 'arguments'}, got {len(call.args)}"
            offered = Available("arguments", tuple(signature.names)) if signature.names else None
            slip = call_slips.thousands(spot.part(node))
            self.reporter.error("FC0133", message, spot(node.args[room]), path=self.path, advice=slip or offered)
        seen = set(signature.positional[: len(call.args)])
        for keyword in node.keywords:
            name = str(keyword.arg)
            place = spot.span(keyword.col_offset, len(name))
            if not signature.takes(name):
                free = [known for known in signature.names if known not in seen]
                known_as = other_tools.meant(name, vocabulary.ARGUMENTS, free)
                advice = suggest(name, signature.names, "arguments")
                if not isinstance(advice, Suggestion):
                    advice = vocabulary.NO_ARGUMENTS.get(name, advice)
                if known_as is not None:
                    advice = Suggestion(known_as, instead_of=name, otherwise=f"use `{known_as}`")
                self.reporter.error(
                    "FC0133", f"`{call.name}` has no argument `{name}`", place, path=self.path, advice=advice
                )
            elif name in seen:
                self.reporter.error("FC0133", f"`{name}` of `{call.name}` is set twice", place, path=self.path)
            seen.add(name)


@dataclass(frozen=True)
class _Spot:
    """Maps the nodes of a parsed text to their places in the file."""

    place: Place
    text: str

    def at(self, offset: int, length: int = 1) -> Place:
        if self.place.file is None or not self.place.line:
            return self.place
        lead = len(self.text) - len(self.text.lstrip())
        if self.place.length not in (len(self.text), len(self.text) + 2):
            found = within(self.place, self.text, lead + offset, max(length, 1))
            if found is not None or "\n" in self.text or self.place.length > len(self.text):
                return found or self.place
        quote = 1 if self.place.length == len(self.text) + 2 else 0
        place = self.place
        return Place(place.file, place.line, place.column + quote + lead + offset, max(length, 1), place.word)

    def part(self, node: ast.expr) -> str:
        """The text of a node."""
        return self.text.strip().encode()[node.col_offset : node.end_col_offset].decode(errors="ignore")

    def span(self, offset: int, length: int) -> Place:
        stripped = self.text.strip().encode()
        return self.at(len(stripped[:offset].decode(errors="ignore")), length)

    def __call__(self, node: ast.expr) -> Place:
        end = node.end_col_offset if node.end_col_offset is not None else node.col_offset + 1
        return self.span(node.col_offset, end - node.col_offset)


def _dotted(node: ast.expr) -> str | None:
    """The name that a call begins with, such as `torchvision.models.resnet18`; None for another expression."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else None


def _deeper_than(node: ast.AST, most: int) -> bool:
    """Whether an expression is nested deeper than `most`, without recursion."""
    level: list[ast.AST] = [node]
    for _ in range(most):
        level = [child for parent in level for child in ast.iter_child_nodes(parent)]
        if not level:
            return False
    return True


def _links(node: ast.expr) -> list[ast.expr]:
    """The calls of a chain, without recursion, because a chain may be long."""
    links: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.RShift):
        links.append(node.right)
        node = node.left
    return [node, *reversed(links)]


def _sources(*operands: Literal) -> tuple[Literal, ...]:
    """The parameters from which a value of several operands was computed."""
    return tuple(dict.fromkeys(source for operand in operands for source in operand.of))


def _wrapped(node: ast.expr, operand: Literal, sign: str, right_side: bool = False) -> str:
    """An operand, in parentheses if the result would differ without them."""
    if not isinstance(node, ast.BinOp):
        signed = operand.text.startswith("-") and (sign == "**" or right_side)
        return f"({operand.text})" if signed else operand.text
    inner = OPERATORS[type(node.op)][0]
    binds = PRECEDENCE[inner] - PRECEDENCE[sign]
    return operand.text if binds > 0 or (binds == 0 and not right_side and sign != "**") else f"({operand.text})"


def _usage(name: str, signature: Signature, text: str) -> str:
    """How a call with too few arguments is written, and with `_` for the size of the input if only that is missing."""
    required = [p.name for p in signature.parameters if p.required]
    usage = f"write `{name}({', '.join(required)})`"
    if not required[0].startswith(INPUT_SIZES) or "_" in text:
        return usage
    given = text.removeprefix(name).strip().removeprefix("(").removesuffix(")")
    short = f"{name}(_, {given})" if given else f"{name}(_{', ...' * (len(required) > 1)})"
    return f"{usage}, or `{short}` to infer `{required[0]}` from the input"
