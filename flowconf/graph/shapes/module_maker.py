"""Constructs the modules of a graph in the shape check, and locates the cause of an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from torch import Tensor, nn

from flowconf.graph.shapes import adapting, faults
from flowconf.graph.shapes.fake_values import UNKNOWN
from flowconf.graph.shapes.findings import Poisoned, ShapeFindings, set_by
from flowconf.graph.shapes.inference import Inference
from flowconf.graph.shapes.known_calls import Prototype, constructed, prototype, prototypes
from flowconf.graph.shapes.sizes import EXPECTS, Sizes, named_arguments, reworded
from flowconf.graph.shapes.visit import Visit
from flowconf.language.advice import call_slips
from flowconf.language.arguments import Argument, Call, Hole, python_value
from flowconf.language.confined import ConfinedError
from flowconf.language.paths import join
from flowconf.language.plan import Instance, Shared
from flowconf.language.registry import modules
from flowconf.language.resolve import package_calls, wrong_values
from flowconf.language.settings import Adapter
from flowconf.report import Label, Place, Reporter, first_line, raised_here


@dataclass
class ModuleMaker:
    """Constructs modules. Equal calls share one, unless the graph `trains`: then each path has a separate module."""

    result: Inference
    sizes: Sizes
    findings: ShapeFindings
    trains: bool
    made: dict[tuple[Call, tuple[int, ...], Adapter | None, tuple[Adapter, ...]], nn.Module] = field(
        default_factory=dict
    )
    standing: dict[str, nn.Module] = field(default_factory=dict)
    """The modules by path."""
    prototypes: dict[nn.Module, Prototype] = field(default_factory=dict)
    """Facts about modules that equal calls make."""

    def __post_init__(self) -> None:
        self.adapters = adapting.of_modules(self.result.plan)
        self.inside = adapting.inside_modules(self.result.plan)

    def module(self, visit: Visit) -> nn.Module:
        """The module of a visit; a reused module has the path of its first use."""
        applied, scope = visit.applied, visit.scope
        path = scope.home_of(applied)
        filled = self.result.holes.get(self.result.written(path)) if self.result.holes else None
        if filled is not None and not isinstance(applied.module, Shared):
            self._check_holes(visit, filled)
        if path in self.standing and (self.trains or isinstance(applied.module, Shared)):
            built = self.standing[path]
        else:
            built = self.standing[path] = self._new(visit, path)
        here = join(scope.path, applied.path)
        self.result.parameters |= {join(here, name): tuple(p.shape) for name, p in built.named_parameters()}
        return built

    def check_nesting(self, built: nn.Module, visit: Visit) -> None:
        """Reject a module that contains itself, which its constructor or its `forward` may have caused."""
        found = _path_to_itself(built, "", {})
        if found is not None:
            call, message = visit.applied.target, f"`{type(built).__name__}` contains itself, as `{found}`"
            advice = "put a reference to a module that is not a child into a tuple: `self.parent = (parent,)`"
            place = call.place if isinstance(call, Call) else visit.step.place
            self.findings.error(visit, "FC0202", message, place, _constructor_of(built), advice=advice)

    def _check_holes(self, visit: Visit, filled: tuple[int, ...]) -> None:
        """Reject a call whose `_` differ from those of its first run, because all copies are constructed alike."""
        call = visit.applied.target
        assert isinstance(call, Call)
        for first, now in zip(filled, self._holes(call, visit), strict=True):
            if first != now:
                differs = f"{first} first, but {now} when `{visit.path}` runs again"
                if self.result.written(visit.path) != visit.path:
                    differs = f"one size for all copies: {first} first, but {now} in `{visit.path}`"
                message = f"`_` in `{call}` is {differs}"
                self.findings.error(visit, "FC0204", message, call.place, (visit.arrives(self.sizes),))

    def _new(self, visit: Visit, path: str) -> nn.Module:
        call = visit.applied.target
        if isinstance(call, Instance):
            assert isinstance(call.module, nn.Module)
            return call.module
        assert isinstance(call, Call)
        sizes = tuple(self._holes(call, visit))
        if sizes:
            self.result.holes[self.result.written(path)] = sizes
            self.result.filled[self.result.written(path)] = call
        adapter = self.adapters.get(path)
        inside = tuple(self.inside.get(path, ())) if adapter is None else ()
        key = (call, sizes, adapter, inside)
        if not self.trains and key in self.made:
            return self.made[key]
        known = prototypes(call, sizes) if adapter is None and not inside else None
        if known == []:
            known.append(prototype(self._construct(call, iter(sizes), visit)))
        made = known[0].copy() if known else self._construct(call, iter(sizes), visit)
        made = adapting.extended(made, adapter, path, self.findings)
        for one in inside:
            found = adapting.selected_inside(made, one, path)
            self.result.adapted[path, one.selector] = tuple(found)
            for name in found:
                adapting.extended(made.get_submodule(name), one, join(path, name), self.findings)
        if not self.trains:
            self.made[key] = made
        if known is not None:
            self.prototypes[made] = known[0]
        return made

    def _construct(self, call: Call, sizes: Iterator[int], visit: Visit, is_argument: bool = False) -> Any:
        def value(argument: Argument) -> Any:
            return python_value(
                argument, lambda hole: next(sizes), lambda call: self._construct(call, sizes, visit, is_argument=True)
            )

        args = [value(argument) for argument in call.args]
        kwargs = {name: value(argument) for name, argument in call.kwargs}
        if layers := faults.endless(call):
            name, given = layers
            message = f"`{name}` of `{call.name}` must be at most {faults.MOST_LAYERS:,}, got {given.value:,}"
            self.findings.error(visit, "FC0202", message, given.place)
        try:
            made = constructed(modules.load(call.name), args, kwargs)
        except ConfinedError as problem:
            message = f"`{call.name}` cannot be built: it would {problem}"
            self.findings.error(visit, "FC0202", message, call.place, advice=package_calls.without_loading(call))
        except Exception as problem:  # noqa: BLE001 - a constructor may raise anything
            words = first_line(problem)
            self._check_sizes(call, None, words, visit)
            self._refused(call, words, raised_here(problem), visit)
        if isinstance(made, nn.Module) and "_parameters" not in vars(made):
            self._refused(call, "its `__init__` does not call `super().__init__()`", _constructor_of(made), visit)
        if isinstance(made, nn.Module) and type(made).__hash__ is None:
            words = "its class has `__eq__` without `__hash__`, as of `@dataclass`, which requires `eq=False` here"
            self._refused(call, words, _constructor_of(made), visit)
        self._check_sizes(call, made, "", visit)
        if not isinstance(made, nn.Module) and not (is_argument and package_calls.is_object(call)):
            message = f"a step requires a module, but `{call.name}` returned a `{type(made).__name__}`"
            self.findings.error(visit, "FC0202", message, call.place)
        return made

    def _check_sizes(self, call: Call, made: object, words: str, visit: Visit) -> None:
        """Reject sizes below 1, at the argument, or where the parameter is set that causes them."""
        found = faults.no_size(call, made if isinstance(made, nn.Module) else None, words)
        if found is None:
            return
        name, given = found
        wanted, what, of_parameter = "at least 1", f"`{name}` of `{call.name}`", Reporter()
        if wrong_values.report(given, wrong_values.is_count, wanted, what, of_parameter, visit.path):
            self.findings.add(of_parameter.diagnostics[0])
            raise Poisoned
        got = f"`{given.text}`, which is {call_slips.shown(given.value)}" if given.of else call_slips.shown(given.value)
        message, labels = f"{what} must be {wanted}, got {got}", tuple(set_by(given))
        parameters = tuple(label.place for label in labels)
        self.findings.error(visit, "FC0202", message, given.place, labels, parameters=parameters)

    def _refused(self, call: Call, words: str, raised: tuple[Label, ...], visit: Visit) -> NoReturn:
        """Report the error of a constructor, at the argument, or where the parameter in it is set."""
        strange = re.search(r"unexpected keyword argument '(\w+)'", words)
        if strange is not None and strange[1] in dict(call.kwargs):
            message, place = f"`{call.name}` has no argument `{strange[1]}`", package_calls.name_place(call, strange[1])
            self.findings.error(visit, "FC0133", message, place, raised)
        given = faults.argument(call, words)
        message = f"`{call}` cannot be built: {faults.with_values(call, reworded(words))}"
        if given is None:
            self.findings.error(visit, "FC0202", message, call.place, raised)
        origin = [given, *wrong_values.bare(given)][-1]
        self.findings.error(visit, "FC0202", message, origin.place, (Label("used here", given.place), *raised))

    def _holes(self, call: Call, visit: Visit) -> Iterator[int]:
        """The inferred sizes for the `_` of a call, in the order in which they are written."""
        for name, argument in named_arguments(call):
            if isinstance(argument, Call):
                yield from self._holes(argument, visit)
            elif isinstance(argument, Hole):
                yield self._inferred(argument, name, call, visit)

    def _inferred(self, hole: Hole, name: str, call: Call, visit: Visit) -> int:
        """The inferred size of `_` as the argument `name`."""
        stream, axis = visit.stream, EXPECTS.get(name)
        if axis is None:
            offered = ", ".join(f"`{known}`" for known in EXPECTS)
            message = f"`_` is not allowed for `{name}` of `{call.name}`"
            advice = f"write the value; `_` can only be inferred for {offered}"
            self.findings.error(visit, "FC0204", message, hole.place, advice=advice)
        if not isinstance(stream, Tensor) or stream.dim() < (2 if axis == 1 else 1):
            if stream is UNKNOWN and self.findings:
                raise Poisoned
            why = f"its input {self.sizes.show(stream)} has no such dimension"
            why = "the shape of its input is unknown" if stream is UNKNOWN else why
            message = f"`_` in `{call}` cannot be inferred: {why}"
            advice = "declare the `inputs` of the graph with shapes, or write the size"
            self.findings.error(visit, "FC0204", message, hole.place, advice=advice)
        size = int(stream.shape[axis])
        if self.sizes.number(size) != str(size):
            message = f"`_` in `{call}` cannot be inferred: `{self.sizes.number(size)}` is an unknown size"
            advice = faults.ONE_NUMBER if stream.dim() == 1 else "write the size"
            self.findings.error(visit, "FC0204", message, hole.place, advice=advice)
        return size


def _path_to_itself(module: nn.Module, path: str, around: dict[nn.Module, bool]) -> str | None:
    """The path of a descendant that is one of the modules around it; `around`: modules that were seen, true if open."""
    if module in around:
        return path if around[module] else None
    around[module] = True
    children = ((name, child) for name, child in module._modules.items() if child is not None)
    found = (_path_to_itself(child, join(path, name), around) for name, child in children)
    first = next((one for one in found if one is not None), None)
    around[module] = False
    return first


def _constructor_of(module: nn.Module) -> tuple[Label, ...]:
    """Where the constructor of a module is written: one label, or none."""
    code = getattr(type(module).__init__, "__code__", None)
    return () if code is None else (Label("written here", Place(code.co_filename, code.co_firstlineno)),)
