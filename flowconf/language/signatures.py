"""Signatures of classes and functions, read from their source text.

Nothing is imported: the file is found, parsed by `ast` and searched, so that a config is checked against the
installed torch in milliseconds, and overloads keep their argument names (`inspect` loses them for `LSTM`).
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain, repeat
from pathlib import Path
from typing import TypeVar

from flowconf.report import Place

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument. `kind` is "positional", "keyword", "*" or "**"; a positional one can also be passed by name."""

    name: str
    kind: str
    required: bool
    type: str = ""
    """Its annotation as it is written, or empty."""
    default: str = ""
    """Its default as it is written, or empty."""


@dataclass(frozen=True)
class Signature:
    """The arguments of a callable, without `self`."""

    parameters: tuple[Parameter, ...]

    @cached_property
    def names(self) -> list[str]:
        return [p.name for p in self.parameters if p.kind in ("positional", "keyword")]

    @cached_property
    def positional(self) -> list[str]:
        return [p.name for p in self.parameters if p.kind == "positional"]

    @property
    def open(self) -> bool:
        """Whether any further argument name is accepted."""
        return any(p.kind == "**" for p in self.parameters)

    @property
    def variadic(self) -> bool:
        return any(p.kind == "*" for p in self.parameters)

    def takes(self, name: str) -> bool:
        return self.open or name in self.names

    def bound(self, args: Iterable[T], kwargs: Iterable[tuple[str, T]]) -> list[tuple[Parameter, T]]:
        """The arguments of a call with their parameters."""
        in_order = [p for p in self.parameters if p.kind == "positional"]
        rest = [p for p in self.parameters if p.kind == "*"]
        by_name = {p.name: p for p in self.parameters if p.kind in ("positional", "keyword")}
        pairs = list(zip(chain(in_order, *(repeat(p) for p in rest)), args, strict=False))
        return pairs + [(by_name[name], value) for name, value in kwargs if name in by_name]

    def missing(self, positional: int, keywords: set[str]) -> list[str]:
        """The required arguments that are missing in such a call."""
        given = set(self.positional[:positional]) | keywords
        return [p.name for p in self.parameters if p.required and p.name not in given]


@dataclass(frozen=True, slots=True)
class ClassSource:
    """The signatures for calling a module: of its class, or of a function that returns one."""

    init: Signature
    """The arguments of the constructor, or of the function."""
    forward: Signature
    gives: tuple[str, ...] | None = None
    """The fields of the NamedTuple in the return annotation of `forward`."""
    silent: bool = False
    """Whether `forward` has no return annotation."""
    returns: str = ""
    """The return annotation of `forward` as it is written, or empty."""


ROLE = re.compile(r":[\w:]+:`([^`]+)`|``([^`]+)``")
"""A role such as :math:`x`, or code in double back-ticks."""
CALL = re.compile(r"\w+\(.*\)")
MOST_SEARCHED = 200
"""The maximum number of modules that are read to find the one that defines a name."""
ANYTHING = Signature((Parameter("args", "*", False), Parameter("kwargs", "**", False)))


@lru_cache(maxsize=512)
def read_class(module: str, name: str) -> ClassSource:
    """The signatures of the constructor and forward of `module.name`, including inherited ones."""
    node = definition(module, name)
    if isinstance(node, ast.FunctionDef):
        made = node.returns.id if isinstance(node.returns, ast.Name) else ""
        return source_of_factory(_signature(node.args, skip_self=False), _method(module, made, "forward"))
    methods = _methods(node)
    returned = methods["forward"].returns if "forward" in methods else None
    returns = "" if returned is None else ast.unparse(returned)
    gives = _fields_given(module, returned)
    return ClassSource(_method(module, name, "__init__"), _method(module, name, "forward"), gives, returns=returns)


def _fields_given(module: str, returned: ast.expr | None) -> tuple[str, ...] | None:
    """The fields of the NamedTuple that is the return annotation of `forward`, if its module defines it."""
    given = definition(module, returned.id) if isinstance(returned, ast.Name) else None
    if not isinstance(given, ast.ClassDef) or "NamedTuple" not in map(ast.unparse, given.bases):
        return None
    return tuple(ast.unparse(item.target) for item in given.body if isinstance(item, ast.AnnAssign))


@lru_cache(maxsize=512)
def read_function(module: str, name: str) -> Signature:
    """The signature of the function `module.name`."""
    node = definition(module, name)
    if isinstance(node, ast.FunctionDef):
        return _signature(node.args, skip_self=False)
    if isinstance(node, ast.ClassDef):
        return _method(module, name, "__init__")
    return ANYTHING


@lru_cache(maxsize=64)
def read_constructor(module: str, name: str) -> Signature:
    """The signature of the `__new__` or `__init__` of a class, including inherited ones."""
    new = _method(module, name, "__new__")
    return _method(module, name, "__init__") if new is ANYTHING else new


def read_docstring(module: str, name: str) -> str:
    """The docstring of the class or function `module.name`, if it is a string literal, or empty."""
    node = definition(module, name)
    written = ast.get_docstring(node) if node is not None else None
    for item in getattr(node, "body", ()):
        if written is None and isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == "__doc__":
            texts = [part for part in ast.walk(item.value) if isinstance(part, ast.Constant)]
            first = min(texts, key=lambda part: (part.lineno, part.col_offset), default=None)
            written = first.value if first is not None and isinstance(first.value, str) else None
    return written or ""


def first_sentence(docstring: str) -> str:
    """The first sentence of a docstring, with reStructuredText roles as code; a leading signature is skipped."""
    paragraphs = [" ".join(text.split()) for text in inspect.cleandoc(docstring).split("\n\n")]
    paragraph = next((text for text in paragraphs if not CALL.fullmatch(text)), "")
    text = ROLE.sub(lambda role: f"`{(role[1] or role[2]).lstrip('~').strip()}`", paragraph)
    return re.split(r"(?<=[^.]{2}\.) (?=[A-Z])", text, maxsplit=1)[0].rstrip(":")


@lru_cache(maxsize=64)
def public_names(module: str) -> tuple[str, ...]:
    """The public names of a module: its `__all__`, or else its public classes and functions."""
    for node in _tree(module).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            assert isinstance(node, ast.Assign)
            return tuple(ast.literal_eval(node.value))
    return tuple(name for name in _definitions(module) if not name.startswith("_"))


def has_source(module: str) -> bool:
    """Whether the source of a module can be read."""
    return _file(module) is not None


def place(module: str, name: str) -> Place:
    """Where a module defines a name, or the file if that was not found."""
    node, file = definition(module, name), str(_file(module))
    if node is None:
        return Place(file)
    keyword = "class " if isinstance(node, ast.ClassDef) else "def "
    return Place(file, node.lineno, node.col_offset + len(keyword) + 1, len(name))


def home(module: str, name: str) -> str:
    """The module that defines `name` in `module`: itself, or the one from which it imports the name."""
    return module if name in _definitions(module) else imported_names(module).get(name, module)


@lru_cache(maxsize=8)
def imported_names(module: str) -> dict[str, str]:
    """Imported name -> the module from which it is imported."""
    found: dict[str, str] = {}
    for node in _tree(module).body:
        if isinstance(node, ast.ImportFrom):
            source = _absolute(module, node)
            for alias in node.names:
                found[alias.asname or alias.name] = source
    return found


def definition(module: str, name: str) -> ast.ClassDef | ast.FunctionDef | None:
    """The statement that defines a class or function at the top of a module."""
    return _definitions(module).get(name)


@lru_cache(maxsize=1024)
def defined_in(module: str, name: str) -> tuple[str, str] | None:
    """The module that defines what `module` calls `name`, and its name there; None if that is not certain.

    Imports are followed, those with `*` as well; a search that would read too many modules is given up.
    """
    asked: set[tuple[str, str]] = set()

    def look(home: str, wanted: str) -> tuple[str, str] | None:
        if (home, wanted) in asked or len(asked) > MOST_SEARCHED:
            return None
        asked.add((home, wanted))
        text = _text(home)
        if wanted not in text and "import *" not in text:
            return None
        if wanted in _definitions(home):
            return home, wanted
        for node in _imports(home):
            for alias in node.names:
                if alias.name == "*" or (alias.asname or alias.name) == wanted:
                    found = look(_absolute(home, node), wanted if alias.name == "*" else alias.name)
                    if found is not None:
                        return found
        return None

    return look(module, name)


def _imports(module: str) -> list[ast.ImportFrom]:
    """The statements `from ... import` at the top of a module, also below an `if` or `try`, the last first."""
    found: list[ast.ImportFrom] = []
    level: list[ast.stmt] = list(_tree(module).body)
    while level:
        found += [node for node in level if isinstance(node, ast.ImportFrom)]
        level = [inner for node in level if isinstance(node, ast.If | ast.Try) for inner in (*node.body, *node.orelse)]
    return found[::-1]


def class_constant(module: str, name: str, attribute: str) -> object:
    """The constant that a class, or the first of its bases that has one, assigns to an attribute; None without one."""
    found = defined_in(module, name)
    node = definition(*found) if found is not None else None
    if found is None or not isinstance(node, ast.ClassDef):
        return None
    for item in node.body:
        if not isinstance(item, ast.Assign | ast.AnnAssign):
            continue
        targets = item.targets if isinstance(item, ast.Assign) else [item.target]
        if any(isinstance(target, ast.Name) and target.id == attribute for target in targets):
            return item.value.value if isinstance(item.value, ast.Constant) else None
    values = (class_constant(found[0], base.id, attribute) for base in node.bases if isinstance(base, ast.Name))
    return next((value for value in values if value is not None), None)


def decorators(module: str, name: str) -> list[ast.Call]:
    """The calls that decorate the function `module.name`."""
    node = definition(module, name)
    return [decorator for decorator in node.decorator_list if isinstance(decorator, ast.Call)] if node else []


def source_of_factory(arguments: Signature, forward: Signature) -> ClassSource:
    """The signatures of a function that returns a module; without an annotation, `forward` accepts any arguments."""
    return ClassSource(arguments, forward if forward.names else ANYTHING, silent=True)


def of_factory(function: Callable[..., object]) -> ClassSource:
    """The signatures of a function object that returns a module."""
    made = returned(function)
    return source_of_factory(of_function(function), of_class(made).forward if isinstance(made, type) else ANYTHING)


def of_class(cls: type) -> ClassSource:
    """The signatures of a class object, whose source may not be available."""
    forward: Callable[..., object] = getattr(cls, "forward", cls.__call__)
    init = vars(cls).get("__init__") or getattr(cls, "__init__")  # noqa: B009
    given = returned(forward)
    gives = getattr(given, "_fields", None) if isinstance(given, type) and issubclass(given, tuple) else None
    returns = _shown(getattr(forward, "__annotations__", {}).get("return", inspect.Parameter.empty))
    return ClassSource(_inspected(init), _inspected(forward), gives, given is None, returns)


def returned(function: Callable[..., object]) -> object:
    """The return annotation of a function, or None."""
    try:
        return typing.get_type_hints(function).get("return")
    except Exception:  # noqa: BLE001 - an annotation may be anything
        return getattr(function, "__annotations__", {}).get("return")


def of_function(function: Callable[..., object]) -> Signature:
    """The signature of a function object."""
    return _inspected(function, skip=0)


def _inspected(function: Callable[..., object], skip: int = 1) -> Signature:
    try:
        parameters = list(inspect.signature(function).parameters.values())[skip:]
    except (TypeError, ValueError):
        return ANYTHING
    kinds: dict[object, str] = {
        inspect.Parameter.VAR_POSITIONAL: "*",
        inspect.Parameter.VAR_KEYWORD: "**",
        inspect.Parameter.KEYWORD_ONLY: "keyword",
    }
    return Signature(
        tuple(
            Parameter(
                p.name,
                kinds.get(p.kind, "positional"),
                p.default is inspect.Parameter.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD),
                _shown(p.annotation),
                "" if p.default is p.empty else repr(p.default),
            )
            for p in parameters
        )
    )


def _shown(annotation: object) -> str:
    """The text of an annotation object."""
    if annotation is inspect.Parameter.empty:
        return ""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _text(module: str) -> str:
    file = _file(module)
    return file.read_text(encoding="utf-8") if file is not None and file.suffix == ".py" else ""


@lru_cache(maxsize=128)
def _tree(module: str) -> ast.Module:
    return ast.parse(_text(module))


def _file(module: str) -> Path | None:
    """The source file of a module, found without importing its parents."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        return None
    if not rest:
        return Path(spec.origin)
    base = Path(spec.origin).parent.joinpath(*rest)
    candidates = (base.with_name(base.name + ".py"), base / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


@lru_cache(maxsize=128)
def _definitions(module: str) -> dict[str, ast.ClassDef | ast.FunctionDef]:
    return {node.name: node for node in _tree(module).body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    file = _file(module)
    parts = module.split(".")
    is_package = file is not None and file.name == "__init__.py"
    parts = parts[: len(parts) - node.level + (1 if is_package else 0)]
    return ".".join([*parts, node.module] if node.module else parts)


def _method(module: str, name: str, method: str, depth: int = 0) -> Signature:
    node = definition(module, name)
    if not isinstance(node, ast.ClassDef):
        source = imported_names(module).get(name)
        return _method(source, name, method, depth + 1) if source and depth < 8 else ANYTHING
    own = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == method]
    for candidate in own:
        signature = _signature(candidate.args)
        if signature.names or not signature.open:
            return signature
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id not in ("Module", "object") and depth < 8:
            signature = _method(module, base.id, method, depth + 1)
            if signature is not ANYTHING:
                return signature
    inherits_nothing = method == "__init__" and not own
    return Signature(()) if inherits_nothing else ANYTHING


def _methods(node: ast.stmt | None) -> dict[str, ast.FunctionDef]:
    return {item.name: item for item in getattr(node, "body", ()) if isinstance(item, ast.FunctionDef)}


def _signature(args: ast.arguments, skip_self: bool = True) -> Signature:
    positional = [*args.posonlyargs, *args.args]
    required = len(positional) - len(args.defaults)
    defaults = [*[None] * required, *args.defaults]
    found = [
        Parameter(a.arg, "positional", i < required, _written(a) or _kind_of(default), _default(default))
        for i, (a, default) in enumerate(zip(positional, defaults, strict=True))
    ]
    if skip_self:
        found = found[1:]
    if args.vararg:
        found.append(Parameter(args.vararg.arg, "*", False, _written(args.vararg)))
    for a, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        found.append(Parameter(a.arg, "keyword", default is None, _written(a), _default(default)))
    if args.kwarg:
        found.append(Parameter(args.kwarg.arg, "**", False))
    return Signature(tuple(found))


def _kind_of(default: ast.expr | None) -> str:
    """The type of an argument without an annotation, if its default is a `bool` or a `float`."""
    value = default.value if isinstance(default, ast.Constant) else None
    return type(value).__name__ if isinstance(value, bool | float) else ""


def _default(default: ast.expr | None) -> str:
    return ast.unparse(default) if default is not None else ""


def _written(argument: ast.arg) -> str:
    return ast.unparse(argument.annotation) if argument.annotation is not None else ""


@lru_cache(maxsize=4096)
def names_in(expression: str) -> tuple[str, ...]:
    """The names that an expression of a call reads, in order of appearance."""
    found = [node.id for node in ast.walk(ast.parse(expression, mode="eval")) if isinstance(node, ast.Name)]
    return tuple(dict.fromkeys(found))
