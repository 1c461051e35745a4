"""Members from packages that a project lists: `torchvision.models.resnet18()`.

A listed package offers its public classes of modules, its functions whose return annotation is one, and further classes
as arguments of those that are annotated with them: `transformers.BertModel(transformers.BertConfig())`. Names and
signatures are read from source where that is certain, and else from the imported package.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import typing
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from types import ModuleType

from flowconf.language import signatures
from flowconf.language.confined import confined
from flowconf.language.signatures import ClassSource, Signature
from flowconf.report import Advice, Suggestion, nearest, suggest

MODULE = ("torch.nn.modules.module", "Module")
"""Where the base class of all modules is defined."""
MODULES, ARGUMENT = "modules", "argument"
"""The role of a class or function: it makes modules, or it is an argument of one that does."""


class NotOffered(Exception):
    """A name that a listed package does not offer. The message follows the name; `advice` is the text to write."""

    def __init__(self, message: str, advice: Advice | None = None) -> None:
        super().__init__(message)
        self.message, self.advice = message, advice


@dataclass(frozen=True)
class Foreign:
    """A class or function that a listed package offers."""

    name: str
    """Its name in calls, with the modules above it."""
    module: str
    """The module in which it is looked up."""
    home: str
    """The module that defines it."""
    use: str
    source: ClassSource

    def load(self) -> typing.Any:
        """The class or function itself; imports its module."""
        return getattr(importlib.import_module(self.module), self.name.rpartition(".")[2])


@lru_cache(maxsize=512)
def find(package: str, name: str) -> Foreign:
    """The object that a listed package offers as `name`, which begins with it. Raises `NotOffered`."""
    top, names = package.partition(".")[0], name.removeprefix(f"{package}.").split(".")
    if importlib.util.find_spec(top) is None:
        raise NotOffered(f"the package `{top}` is not installed", f"install it: `pip install {top}`")
    if any(part.startswith("_") for part in names):
        raise NotOffered("names that begin with `_` are private to their package")
    found = _read(package, names, name) or _imported(package, names, name)
    if found.home.partition(".")[0] != top:
        raise NotOffered(f"it is defined in `{found.home}`", f"list `{found.home.partition('.')[0]}` under `packages`")
    return found


# from source text


def _read(package: str, names: list[str], name: str) -> Foreign | None:
    """What the source of a package says about a name; None if it is not certain."""
    module, *rest = package, *names
    while len(rest) > 1 and signatures.has_source(f"{module}.{rest[0]}"):
        module = f"{module}.{rest.pop(0)}"
    defined = signatures.defined_in(module, rest[0]) if len(rest) == 1 else None
    if defined is None:
        return None
    home, own = defined
    node = signatures.definition(home, own)
    if isinstance(node, ast.ClassDef):
        is_module = _is_module(home, own)
        if not is_module:
            return None
        return Foreign(name, module, home, MODULES, replace(signatures.read_class(home, own), silent=True))
    if isinstance(node, ast.FunctionDef) and node.returns is not None:
        made = _class_of(home, node.returns)
        if made is None or not _is_module(*made):
            return None
        forward = signatures.read_class(*made).forward
        arguments = signatures.read_function(home, own)
        return Foreign(name, module, home, MODULES, signatures.source_of_factory(arguments, forward))
    return None


def _class_of(module: str, annotation: ast.expr) -> tuple[str, str] | None:
    """The class that an annotation names: its module, and its name there."""
    match annotation:
        case ast.Constant(value=str(text)) if text.isidentifier():
            return signatures.defined_in(module, text)
        case ast.Name(id=name):
            return signatures.defined_in(module, name)
        case ast.Attribute(value=ast.Name(id="nn"), attr="Module"):
            return MODULE
        case ast.Attribute(value=ast.Attribute(value=ast.Name(id="torch"), attr="nn"), attr="Module"):
            return MODULE
    return None


def _is_module(module: str, name: str, depth: int = 0) -> bool:
    """Whether the source shows that a class derives from `torch.nn.Module`."""
    if (module, name) == MODULE:
        return True
    node = signatures.definition(module, name)
    if not isinstance(node, ast.ClassDef) or depth > 12:
        return False
    bases = (_class_of(module, base) for base in node.bases)
    return any(base is not None and _is_module(*base, depth + 1) for base in bases)


# from the imported package


def _imported(package: str, names: list[str], name: str) -> Foreign:
    """What an imported package says about a name. Raises `NotOffered`."""
    holder, rest = _module(package), list(names)
    while len(rest) > 1:
        part = rest.pop(0)
        inner = _member(holder, part)
        if isinstance(inner, type):
            advice = f"write `{package}.{part}(...)`, and its weights with `checkpoint`"
            raise NotOffered(f"`{rest[0]}` is a method of `{part}`", advice if _derives(inner) else None)
        if not isinstance(inner, ModuleType) or not inner.__name__.startswith(f"{holder.__name__}."):
            raise NotOffered(f"`{holder.__name__}` has no module `{part}`")
        holder = inner
    found = _member(holder, rest[0])
    home = getattr(found, "__module__", None) or holder.__name__
    if isinstance(found, type):
        use = MODULES if _derives(found) else ARGUMENT
        return Foreign(name, holder.__name__, home, use, replace(signatures.of_class(found), silent=True))
    if isinstance(found, ModuleType):
        raise NotOffered("it is a module of Python, not a class or function")
    if not inspect.isroutine(found):
        raise NotOffered(f"it is a `{type(found).__name__}`, not a class or function")
    source = signatures.of_factory(found)
    if not _derives(signatures.returned(found)):
        advice = "call it in a function of your project, and register that with `@flowconf.register`"
        raise NotOffered("it has no return annotation that is a module", advice)
    return Foreign(name, holder.__name__, home, MODULES, source)


def _module(name: str) -> ModuleType:
    try:
        with warnings.catch_warnings(action="ignore"):  # about its own dependencies
            return importlib.import_module(name)
    except (Exception, SystemExit) as problem:  # a package may raise anything
        raise NotOffered(f"`{name}` cannot be imported: {type(problem).__name__}: {problem}") from problem


def _member(holder: ModuleType, name: str) -> object:
    """A name in a module, or a module below it. Raises `NotOffered`."""
    try:
        return getattr(holder, name)
    except AttributeError:
        pass
    except Exception as problem:  # a lazy module imports then
        raise NotOffered(f"it cannot be imported: {type(problem).__name__}: {problem}") from problem
    if hasattr(holder, "__path__") and importlib.util.find_spec(f"{holder.__name__}.{name}") is not None:
        return _module(f"{holder.__name__}.{name}")
    close = nearest(name, [one for one in dir(holder) if not one.startswith("_")])
    advice = Suggestion(close, instead_of=name) if close else None
    raise NotOffered(f"`{holder.__name__}` has no `{name}`", advice)


def _derives(found: object) -> bool:
    """Whether an object is a class of modules."""
    bases = found.__mro__ if isinstance(found, type) else ()
    return any((base.__module__, base.__name__) == MODULE for base in bases)


# arguments that are objects of a package


def wanted(called: object, argument: str) -> list[type]:
    """The classes in the annotation of an argument of a class or function, or of an attribute of that name."""
    function = getattr(called, "__init__") if isinstance(called, type) else called  # noqa: B009
    for annotated in (function, called):
        found = _hints(annotated).get(argument)
        if found is not None:
            return [one for one in (found, *typing.get_args(found)) if isinstance(one, type)]
    return []


def _hints(annotated: object) -> dict[str, object]:
    try:
        return typing.get_type_hints(annotated)
    except Exception:  # noqa: BLE001 - an annotation may be anything
        return {}


def ignored(cls: type, signature: Signature, names: typing.Iterable[str]) -> Iterator[tuple[str, Advice | None]]:
    """The arguments that an object of a class would take and never read, with the advice.

    A class with `**` takes all names; those that are neither arguments nor attributes of its objects have no effect.
    """
    strange = [name for name in names if name not in signature.names]
    if not strange or not signature.open:
        return
    try:
        with confined():
            plain = cls()
    except Exception:  # noqa: BLE001 - it may have required arguments
        return
    known = [one for one in (*signature.names, *vars(plain), *dir(cls)) if not one.startswith("_")]
    for name in strange:
        if not hasattr(plain, name):
            yield name, suggest(name, dict.fromkeys(known), "arguments")
