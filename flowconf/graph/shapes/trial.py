"""The trial of one module in the shape check: it is built, called on a fake value, and what does not fit is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from torch import Tensor, nn

from flowconf.diagnostics import NOWHERE, Collector, Diagnostic, Label, Place
from flowconf.graph.shapes import blame
from flowconf.graph.shapes.fakes import UNKNOWN, Scope, Source, WantsNumbers, as_list, called
from flowconf.graph.shapes.marks import call_place
from flowconf.graph.shapes.recover import as_declared
from flowconf.graph.shapes.sizes import EXPECTS, Expectation, Sizes, expectation, first_line
from flowconf.graph.source.emit import Sizes as KnownSizes
from flowconf.language import causes
from flowconf.language.advice import slips
from flowconf.language.plan import (
    Applied,
    Argument,
    Call,
    Hole,
    Instance,
    Literal,
    Module,
    Sequence,
    Shared,
    Step,
    Value,
    join,
)
from flowconf.language.registry import modules


@dataclass
class Inference:
    """What the check found: shapes and parameter sizes by full path, the sizes behind `_`, and the mistakes."""

    shapes: dict[str, str] = field(default_factory=dict)
    holes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, tuple[int, ...]] = field(default_factory=dict)
    collector: Collector = field(default_factory=Collector)
    certain: bool = True
    """Whether every value is known: none depends on numbers, and every input says its shape."""

    @property
    def sizes(self) -> KnownSizes:
        """What the source needs of it."""
        return KnownSizes(self.holes, self.ranks, self.kinds)


@dataclass
class Rehearsal:
    """What the check found, and the values that it found it with: `modules` by the path at which they stand."""

    inference: Inference
    scope: Scope
    modules: dict[str, nn.Module]
    sizes: Sizes

    def value(self, value: Value) -> Any:
        """A value as a loss gets it: that of every iteration where there are several."""
        return self.scope.seen(value)


class Poisoned(Exception):
    """The value cannot be known; why is in the collector, or lies before."""


@dataclass
class Trial:
    """Builds and calls modules. The mistakes go into the result's collector.

    Equal calls share one module, unless the graph `trains`: then each path has its own.
    """

    result: Inference
    sizes: Sizes
    built: dict[tuple[Call, tuple[int, ...]], nn.Module] = field(default_factory=dict)

    standing: dict[str, nn.Module] = field(default_factory=dict)
    disputes: set[tuple[Place, int, int]] = field(default_factory=set)
    """Who gives which size where another is expected, as far as it was told."""
    trains: bool = False

    @property
    def told(self) -> int:
        """How many mistakes are told so far."""
        return len(self.result.collector.diagnostics)

    def build(self, module: Module, applied: Applied, stream: Any, step: Step, scope: Scope) -> nn.Module:
        """The module that stands at a path; one that is reused stands where it was first."""
        path = scope.standing(applied.home)
        if path in self.standing and (self.trains or isinstance(applied.module, Shared)):
            built = self.standing[path]
        else:
            made = module.module if isinstance(module, Instance) else self._made(module, path, stream, step, scope)
            assert isinstance(made, nn.Module)
            built = self.standing[path] = made
        here = join(scope.path, applied.path)
        self.result.parameters |= {join(here, name): tuple(p.shape) for name, p in built.named_parameters()}
        return built

    def _made(self, module: Module, path: str, stream: Any, step: Step, scope: Scope) -> nn.Module:
        assert isinstance(module, Call)
        sizes = tuple(self._holes(module, stream, step, scope))
        if sizes:
            self.result.holes[path] = sizes
        if self.trains:
            return self._construct(module, iter(sizes), step, scope)
        key = (module, sizes)
        if key not in self.built:
            self.built[key] = self._construct(module, iter(sizes), step, scope)
        return self.built[key]

    def _construct(self, call: Call, sizes: Iterator[int], step: Step, scope: Scope) -> nn.Module:
        def value(argument: Argument) -> Any:
            match argument:
                case Literal(value=tuple(items)):
                    return as_list(items)
                case Literal(value=plain):
                    return plain
                case Hole():
                    return next(sizes)
                case Sequence(items):
                    return [value(item) for item in items]
                case Call():
                    return self._construct(argument, sizes, step, scope)

        args = [value(argument) for argument in call.args]
        kwargs = {name: value(argument) for name, argument in call.kwargs}
        try:
            made = modules.load(call.name)(*args, **kwargs)
        except Exception as problem:  # noqa: BLE001 - a constructor may raise anything
            words = first_line(problem)
            self._check_sizes(call, None, words, step, scope)
            self._unbuilt(call, words, step, scope)
        self._check_sizes(call, made, "", step, scope)
        if not isinstance(made, nn.Module):
            self.error(
                "FC0202",
                f"`{call.name}` made a `{type(made).__name__}`, and a step needs a module",
                call.place,
                step,
                scope,
            )
        return made

    def _check_sizes(self, call: Call, made: object, words: str, step: Step, scope: Scope) -> None:
        """Refuse sizes of less than 1: where they are written, or where the parameter is set that makes them so."""
        found = blame.no_size(call, made if isinstance(made, nn.Module) else None, words)
        if found is None:
            return
        name, given = found
        wanted, what = "at least 1", f"`{name}` of `{call.name}`"
        path = join(scope.path, step.path)
        if causes.told(given, causes.is_count, wanted, what, self.result.collector, path):
            raise Poisoned
        got = f"`{given.text}`, which is {slips.shown(given.value)}" if given.of else slips.shown(given.value)
        message, labels = f"{what} must be {wanted}, got {got}", tuple(self._set_by(given))
        if any(self._has_in_common(label.place, given.place) for label in labels):
            raise Poisoned
        self.error("FC0202", message, given.place, step, scope, labels)

    def _has_in_common(self, parameter: Place, use: Place) -> bool:
        """Whether a size is told already that the same parameter makes wrong; then it is told where that is set."""
        told = self.result.collector.diagnostics
        for index, known in enumerate(told):
            if known.place == parameter and known.severity == "error":
                return True
            if known.code == "FC0202" and parameter in [label.place for label in known.labels]:
                uses = (Label("it is used here", known.place), Label("and here", use))
                told[index] = replace(known, place=parameter, labels=uses)
                return True
        return False

    def _unbuilt(self, call: Call, words: str, step: Step, scope: Scope) -> NoReturn:
        """Tell why a module cannot be made: at the argument, or at the parameter that it is."""
        given = blame.argument(call, words)
        message = f"`{call}` cannot be built: {words}"
        if given is None:
            self.error("FC0202", message, call.place, step, scope)
        origin = [given, *causes.bare(given)][-1]
        self.error("FC0202", message, origin.place, step, scope, (Label("it is used here", given.place),))

    def _holes(self, call: Call, stream: Any, step: Step, scope: Scope) -> Iterator[int]:
        """The sizes behind the `_` of a call, in the order in which they are written."""
        positional = modules.class_source(call.name).init.positional
        given = [(positional[i] if i < len(positional) else "", argument) for i, argument in enumerate(call.args)]
        for name, argument in (*given, *call.kwargs):
            if isinstance(argument, Call):
                yield from self._holes(argument, stream, step, scope)
            if not isinstance(argument, Hole):
                continue
            axis = EXPECTS.get(name)
            if axis is None:
                offered = ", ".join(f"`{known}`" for known in EXPECTS)
                self.error(
                    "FC0204",
                    f"`_` cannot stand for `{name}` of `{call.name}`",
                    argument.place,
                    step,
                    scope,
                    help=f"write the number; `_` stands for one of {offered}",
                )
            if not isinstance(stream, Tensor) or stream.dim() < (2 if axis == 1 else 1):
                known = (
                    "nothing is known of the shape"
                    if stream is UNKNOWN
                    else f"{self.sizes.show(stream)} has no such size"
                )
                reported = stream is UNKNOWN and bool(self.result.collector.errors)
                if reported:
                    raise Poisoned
                self.error(
                    "FC0204",
                    f"`_` in `{call}` has nothing to be filled in from: {known} that arrives",
                    argument.place,
                    step,
                    scope,
                    help="give the graph `inputs` with shapes, or write the number",
                )
            size = int(stream.shape[axis])
            if self.sizes.number(size) != str(size):
                message = f"`_` in `{call}` cannot be `{self.sizes.number(size)}`, a size that is open"
                self.error("FC0204", message, argument.place, step, scope, help="write the number")
            yield size

    def run(
        self,
        built: nn.Module,
        applied: Applied,
        whole: Applied,
        stream: Any,
        using: dict[str, Any],
        source: Source,
        step: Step,
        scope: Scope,
    ) -> Any:
        call = applied.target
        if isinstance(call, Call) and (blame.wrong_type(call, stream) or blame.wrong_dim(call, stream)):
            self._misfit(built, applied, whole, stream, using, source, step, scope, IndexError("no such dimension"))
        try:
            return called(built, stream, using)
        except WantsNumbers:
            self.result.certain = False
            return UNKNOWN
        except Exception as problem:  # noqa: BLE001 - a module may raise anything
            try:
                self._misfit(built, applied, whole, stream, using, source, step, scope, problem)
            except Poisoned:
                if not isinstance(call, Call) or (given := as_declared(built, call, stream, using)) is UNKNOWN:
                    raise
                return given

    def _misfit(
        self,
        built: nn.Module,
        applied: Applied,
        whole: Applied,
        stream: Any,
        using: dict[str, Any],
        source: Source,
        step: Step,
        scope: Scope,
        problem: Exception,
    ) -> NoReturn:
        labels = [Label(f"`{source.name}` gives {self.sizes.show(stream)}", source.place)]
        module, path = applied.target, join(scope.path, whole.path)
        shared = whole.module if isinstance(whole.module, Shared) else None
        why = self.sizes.reworded(first_line(problem))
        kind = blame.stream(module, stream, source.name, self.sizes) if isinstance(module, Call) else None
        found = expectation(built, module, stream) if isinstance(module, Call) and kind is None else None
        fault = self._fault(module, applied, using, str(problem), stream) if isinstance(module, Call) else None
        spot = fault.place if fault is not None else None
        homes = (found.place if found is not None else spot, call_place(module, step))
        if shared is not None and any(known.place in homes for known in self.result.collector.diagnostics):
            raise Poisoned  # it does not fit where it stands first either
        place = shared.place if shared is not None else call_place(module, step)
        if kind is not None:
            self.error("FC0201", f"`{path}`: {kind.message}", place, step, scope, tuple(labels), kind.help)
        if found is not None:
            gives = f"`{source.name}` gives {self.sizes.number(found.actual)}"
            message = f"`{path}` expects {found.expected} {found.unit}, but {gives}"
            text, repaired = str(module), found.repaired if shared is None else None
            advice = blame.repair(text, repaired, stream, found.expected, found.actual, self.sizes)
            if shared is not None:
                labels.append(Label(f"made for {found.expected} {found.unit}", found.place))
                self.error("FC0201", message, place, step, scope, tuple(labels), advice)
            told = (source.place, found.actual, found.expected)
            if told in self.disputes:
                raise Poisoned  # what gives it is wrong, or both that take it are
            self.disputes.add(told)
            outer = self._set_outside(found, step, scope)
            if outer is not None:
                labels.append(Label("it is used here", found.place))
                advice = f"`{outer.text}` is {outer.value} here, and {found.actual} would fit"
                self.error("FC0201", message, outer.place, step, scope, tuple(labels), advice)
            labels += self._set_by(found.written)
            self.error("FC0201", message, found.place, step, scope, tuple(labels), advice)
        for (name, value), given in zip(applied.using, using.values(), strict=True):
            labels.append(Label(f"`{value}` gives {self.sizes.show(given)}, as `{name}`", scope.source(value).place))
        extra = "".join(f", `{name}` {self.sizes.show(value)}" for name, value in using.items())
        message = f"`{path}`: `{module}` cannot take {self.sizes.show(stream)}{extra}: {why}"
        if fault is not None and shared is None:
            origin = [fault, *(causes.bare(fault) if isinstance(fault, Literal) else ())][-1]
            place = origin.place
            labels.append(Label("it is used here", fault.place))
        self.error("FC0201", message, place, step, scope, tuple(labels))

    @staticmethod
    def _set_by(written: Literal | None) -> list[Label]:
        """Where the parameters that a number is written in terms of have their values."""
        known = written.of if written is not None else ()
        return [Label(f"`{of.text}` is {of.value} here", of.place) for of in known if of.place != NOWHERE]

    @staticmethod
    def _set_outside(found: Expectation, step: Step, scope: Scope) -> Literal | None:
        """The parameter behind a wrong size when it is set from outside of its document, and wrong only there.

        What the document says of it would fit, or the stream comes from outside as well.
        """
        if found.written is None:
            return None
        outer = [given for given in causes.bare(found.written) if given.outer]
        if not outer:
            return None
        default = dict(scope.graph.params).get(outer[0].text)
        fits = default is not None and default.value == found.actual
        return outer[-1] if fits or scope.graph.input(step.stream.member) is not None else None

    def _fault(
        self, call: Call, applied: Applied, using: dict[str, Any], words: str, stream: Any
    ) -> Literal | Value | None:
        """The argument that does not fit: a number or text of the call, or what `using` brings."""
        given = blame.wrong_dim(call, stream) or blame.argument(call, words)
        culprit = blame.further(using, words) if given is None else None
        return next((value for name, value in applied.using if name == culprit and value.place.line), given)

    def error(
        self,
        code: str,
        message: str,
        place: Place,
        step: Step,
        scope: Scope,
        labels: tuple[Label, ...] = (),
        help: str | None = None,
    ) -> NoReturn:
        labels = tuple(label for label in labels if label.place != place)
        path = join(scope.path, step.path)
        self.result.collector.diagnostics.append(Diagnostic(code, message, place, path, labels, help))
        raise Poisoned
