"""Checks of calls of what listed packages offer, besides their signatures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from flowconf.language import foreign
from flowconf.language.advice.vocabulary import LOADING
from flowconf.language.arguments import Argument, Call, ListArgument, Literal
from flowconf.language.registry import modules
from flowconf.report import Place, Reporter


def is_object(call: Call) -> bool:
    """Whether a call gives an object that only other calls take, such as the configuration of a module."""
    known = modules.foreign(call.name)
    return known is not None and known.use == foreign.ARGUMENT


def check_step(call: Call, reporter: Reporter, path: str) -> None:
    """Report a call of a step that gives no module."""
    if is_object(call):
        message = f"a step requires a module, but `{call.name}` is only an argument of modules"
        reporter.error("FC0132", message, call.place, path=path)


def check(call: Call, reporter: Reporter, path: str) -> None:
    """Report arguments that load weights, objects in the wrong place, and arguments that would have no effect."""
    known = modules.foreign(call.name)
    if known is not None:
        _check_weights(call, reporter, path)
    if any(isinstance(one, Call) and is_object(one) for argument in call.arguments for one in _parts(argument)):
        _check_objects(call, reporter, path)
    if known is not None and known.use == foreign.ARGUMENT:
        names = dict(call.kwargs)
        for name, advice in foreign.ignored(known.load(), known.source.init, names):
            message = f"`{call.name}` has no argument `{name}`"
            reporter.error("FC0133", message, name_place(call, name), path=path, advice=advice)


def without_loading(call: Call) -> str:
    """The advice for a constructor that would load weights or anything else: what to write in its call."""
    given = dict(call.kwargs)
    switches = [name for name in modules.class_source(call.name).init.names if name in LOADING and name not in given]
    written = ", ".join(f"`{name}=none`" for name in switches)
    first = f"write {written}; " if switches else ""
    return f"{first}weights are loaded by `checkpoint: ...` at the step, never by a constructor"


def name_place(call: Call, name: str) -> Place:
    """The place of the name of an argument in a call: before its value."""
    value = dict(call.kwargs)[name]
    place = call.place if isinstance(value, ListArgument) else value.place
    before = len(name) + 1
    return replace(place, column=place.column - before, length=len(name)) if place.column > before else place


def _parts(argument: Argument) -> Iterator[Argument]:
    yield argument
    if isinstance(argument, ListArgument):
        yield from argument.items


def _check_weights(call: Call, reporter: Reporter, path: str) -> None:
    for parameter, argument in _bound(call):
        loads = isinstance(argument, Literal) and (argument.value is True or isinstance(argument.value, str))
        if parameter in LOADING and loads:
            assert isinstance(argument, Literal)
            message = f"`{parameter}` of `{call.name}` would load weights in a constructor"
            advice = f"remove `{parameter}`, and write `checkpoint: ...` at the step"
            reporter.error("FC0133", message, argument.place, path=path, advice=advice)


def _check_objects(call: Call, reporter: Reporter, path: str) -> None:
    """Objects are taken only by arguments whose annotation names their class."""
    called = modules.load(call.name)
    called = getattr(called, "__wrapped__", called)
    for parameter, argument in _bound(call):
        for one in _parts(argument):
            if not isinstance(one, Call) or not is_object(one):
                continue
            known = modules.foreign(one.name)
            assert known is not None
            wanted = foreign.wanted(called, parameter)
            if not any(issubclass(known.load(), cls) for cls in wanted):
                names = " or ".join(f"a `{cls.__name__}`" for cls in wanted if cls is not type(None))
                needs = f"must be {names}" if names else "has no annotation with a class of objects"
                message = f"`{parameter}` of `{call.name}` {needs}, got a `{one.name}`"
                reporter.error("FC0133", message, one.place, path=path)


def _bound(call: Call) -> Iterator[tuple[str, Argument]]:
    """The arguments of a call by name; those that only `**` takes too."""
    signature = modules.class_source(call.name).init
    yield from zip(signature.positional, call.args, strict=False)
    yield from call.kwargs
