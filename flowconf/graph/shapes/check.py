"""The shape check: every module is built and called once on fake tensors, step by step, before anything real exists.

It fills in `_`, finds every size that does not fit, and knows the shape of every step. A step whose input is not known
(no declared shape, or a mistake before it) is built but not called, so that one cause gives one diagnostic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from flowconf.diagnostics import Label
from flowconf.graph.shapes import blame
from flowconf.graph.shapes.fakes import (
    MERGES,
    UNKNOWN,
    Held,
    Scope,
    Source,
    difference,
    each,
    faked,
    kind_of,
    part_at,
    parts_of,
    repeat_rows,
    stacked,
)
from flowconf.graph.shapes.marks import call_place, changed_in, number_in, place_of, says
from flowconf.graph.shapes.sizes import Sizes, misfits
from flowconf.graph.shapes.starts import check_starts
from flowconf.graph.shapes.trial import Inference, Poisoned, Rehearsal, Trial
from flowconf.graph.source.demand import without_copies
from flowconf.language.plan import Applied, Call, Chain, GraphPlan, Input, Literal, Mount, Step, Value, join
from flowconf.language.wiring import unfilled

MOST_ROUNDS = 64
"""Nested loops in a rehearsal run their innermost body so often at most."""


def infer(graph: GraphPlan) -> Inference:
    """Check a whole graph. Mistakes are in the result's collector."""
    with faked():
        checker = _Checker(Inference(), Sizes())
        checker.whole(graph, {})
        return checker.result


def rehearse(graph: GraphPlan, given: Mapping[str, Any], sizes: Sizes) -> Rehearsal:
    """The check as a step of training, within a block of `faked`: values with their history, a module for each path.

    `given` are inputs of which more is known than the graph says.
    """
    checker = _Checker(Inference(), sizes, trains=True)
    scope = checker.whole(graph, given)
    return Rehearsal(checker.result, scope, checker.standing, sizes)


class _Checker(Trial):
    """Runs graphs step by step; the trial of each module is `Trial`'s."""

    rounds = 1
    """How often the loops around the graph at hand run their bodies."""

    def whole(self, graph: GraphPlan, given: Mapping[str, Any]) -> Scope:
        """Check the outermost graph."""
        values = {entry.name: given.get(entry.name, UNKNOWN) for entry in graph.inputs}
        values = {e.name: self.declared(e) if values[e.name] is UNKNOWN else values[e.name] for e in graph.inputs}
        self.result.certain = not any(value is UNKNOWN for value in values.values())
        _, scope = self.graph(graph, "", values, {})
        if not self.told:
            check_starts(graph, self.result.parameters, self.result.collector)
        return scope

    def declared(self, entry: Input) -> Any:
        """A fake tensor of an input's declared shape."""
        if entry.shape is None:
            return UNKNOWN
        shape = [self.sizes.of(size) for size in entry.shape]
        try:
            return torch.empty(shape, dtype=getattr(torch, entry.dtype))
        except RuntimeError:
            message = f"the input `{entry.name}` is larger than any tensor can be"
            self.result.collector.error("FC0123", message, entry.place, path=entry.name)
            return UNKNOWN

    def graph(
        self,
        graph: GraphPlan,
        path: str,
        values: dict[str, Any],
        origins: Mapping[str, Source],
        mounted: Mount | None = None,
        home: str = "",
        shared: Mapping[str, str] | None = None,
    ) -> tuple[Any, Scope]:
        """Run one graph on fake values: its output, and everything it held. `home` and `shared` are the scope's."""
        local = {
            entry.name: self._input(entry, values.get(entry.name, UNKNOWN), path, origins.get(entry.name), mounted)
            for entry in graph.inputs
        }
        for entry in graph.inputs:
            self._record(join(path, entry.name), local[entry.name])
        places = {entry.name: Source(entry.name, entry.place) for entry in graph.inputs}
        places |= origins
        scope = Scope(graph, path, local, places, home, dict(shared or {}))
        for step in graph.steps:
            before = self.told
            try:
                local[step.name] = self._step(step, scope)
            except Poisoned:
                local[step.name] = UNKNOWN
            self._note_wrong(step, scope, self.told > before)
            self._record(join(path, step.name), local[step.name])
            places[step.name] = Source(step.name, step.place)
        self._states(graph, scope)
        self._indices(graph, scope)
        outputs = {name: scope.value(value) for name, value in graph.outputs}
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs, scope

    def _note_wrong(self, step: Step, scope: Scope, told: bool) -> None:
        """Keep which members are wrong, and count those that could not be checked because of them."""
        if told:
            scope.wrong.add(step.name)
        elif scope.local[step.name] is UNKNOWN and any(value.member in scope.wrong for value in step.reads()):
            scope.wrong.add(step.name)
            self.result.collector.unchecked.append(join(scope.path, step.path))

    def _states(self, graph: GraphPlan, scope: Scope) -> None:
        """What is kept from call to call must have the shape of the zeros that the first call reads."""
        for step in graph.steps:
            for value in step.reads():
                if not value.recurrent or {step.name, value.member} & scope.wrong:
                    continue
                kept, like = scope.value(value.now), scope.zeros(step)
                if difference(kept, like) is not None:
                    shown = f"`{value.now}` gives {self.sizes.show(kept)}"
                    message = f"`{step.name}` starts with zeros like its stream, {self.sizes.show(like)}, and {shown}"
                    labels = (Label(shown, scope.places[value.member].place),)
                    self.result.collector.error("FC0205", message, value.place, path=step.path, labels=labels)

    def _indices(self, graph: GraphPlan, scope: Scope) -> None:
        """An index into the slices of a map must be one of them, where their number is known."""
        read = [value for step in graph.steps for value in step.reads()] + [value for _, value in graph.outputs]
        for value in dict.fromkeys(read):
            count, index = scope.slices(value), value.innermost_index
            if count is not None and index is not None and not -count <= index < count:
                message, advice = f"`{value}` has {count} slices, and no `[{index}]`", f"the last is `[{count - 1}]`"
                self.result.collector.error("FC0141", message, value.place, path=scope.path, help=advice)

    def _record(self, path: str, value: Any) -> None:
        if value is not UNKNOWN:
            self.result.shapes.setdefault(path, self.sizes.show(value))
            self._note_kind(path, value)

    def _note_kind(self, name: str, value: Any) -> None:
        """What a value is, and each of its parts."""
        if kind_of(value):
            self.result.kinds[name] = kind_of(value)
        for part, inner in (parts_of(value) or {}).items():
            self._note_kind(f"{name}[{part}]", inner)

    def _input(self, entry: Input, value: Any, path: str, source: Source | None, mounted: Mount | None) -> Any:
        """Hold what arrives against what the input declares; `mounted` is the mount of a graph of another file."""
        if value is UNKNOWN or entry.shape is None:
            return self.declared(entry) if value is UNKNOWN and not entry.captured else value
        if not path or entry.captured:
            return value
        wrong = misfits(entry, value)
        if wrong is None:
            return value
        shown = f"[{', '.join(str(size) for size in entry.shape)}]"
        message = f"the input `{entry.name}` of `{path}` is declared as {shown}, and gets {self.sizes.show(value)}"
        labels = [Label(f"`{source.name}` gives {self.sizes.show(value)}", source.place)] if source else []
        place = entry.places[wrong] if 0 <= wrong < len(entry.places) else entry.place
        if mounted is not None:
            labels.append(Label(f"declared as {shown}", place))
            place = says(mounted, entry.shape[wrong] if wrong >= 0 else None)
        self.result.collector.error("FC0206", message, place, path=path, labels=tuple(labels))
        return UNKNOWN

    # steps

    def _step(self, step: Step, scope: Scope) -> Any:
        held = scope.held[step.name] = Held()
        scope.before = scope.zeros(step)
        value = scope.value(step.stream)
        source = scope.source(step.stream)
        copies = step.repeat.value if step.repeat is not None and isinstance(step.repeat.value, int) else 1
        for copy in range(copies):
            before, known = value, self.told
            try:
                value = held.all_of_them = self._verb(step, value, source, scope)
            finally:
                if copy and self.told > known:
                    self._tell_of_copies(step, known)
            if step.take is not None and not step.takes_each and value is not UNKNOWN:
                value = self._taken(step, value, scope)
            source = Source(f"{step.name}.{copy}", step.place)
            if difference(before, value) is None or self.told > known:
                break
        if not step.iterates:
            held.once = value
        self._note_kind(f"{join(scope.path, step.name)}[]", held.once)
        return value

    def _tell_of_copies(self, step: Step, known: int) -> None:
        """Only a later copy of a repeated step does not fit: the first one changes the stream."""
        told = self.result.collector.diagnostics
        advice = f"`{step.name}` is repeated: each copy must give back the shape that it takes"
        told[known:] = [replace(diagnostic, help=advice) for diagnostic in told[known:]]

    def _verb(self, step: Step, stream: Any, source: Source, scope: Scope) -> Any:
        match step.verb:
            case "also":
                return self._also(step, stream, source, scope)
            case "split":
                branches = {name: self._attempt(name, stream, source, scope, step) for name, _ in step.parts}
                return self._merged(step, branches, scope)
            case "gate" | "switch":
                return self._routed(step, stream, source, scope)
            case "loop":
                return self._loop(step, stream, source, scope)
            case "map":
                return self._map(step, stream, source, scope)
        return self._apply("", stream, source, scope, step)

    def _attempt(self, spot: str, stream: Any, source: Source, scope: Scope, step: Step) -> Any:
        """What a part gives that is held against another; unknown when there is a mistake in it."""
        before = self.told
        try:
            value = self._apply(spot, stream, source, scope, step)
        except Poisoned:
            return UNKNOWN
        return UNKNOWN if self.told > before else value

    def _also(self, step: Step, stream: Any, source: Source, scope: Scope) -> Any:
        change = self._attempt("", stream, source, scope, step)
        if step.take is not None and change is not UNKNOWN:
            change = self._taken(step, change, scope)
        kept = stream if step.skip is None else self._attempt("skip", stream, source, scope, step)
        if kept is UNKNOWN or change is UNKNOWN:
            return UNKNOWN
        try:
            if isinstance(kept, Tensor) and isinstance(change, Tensor):
                return kept + change
            raise TypeError  # tuples would be put one behind the other
        except (RuntimeError, TypeError):
            what = "its stream" if step.skip is None else "what `skip` gives"
            shown = f"{self.sizes.show(change)} cannot be added to {what}, {self.sizes.show(kept)}"
            label = Label(f"`{source.name}` gives {self.sizes.show(stream)}", source.place)
            advice = "give both the same shape, or put a module under `skip`"
            if not isinstance(kept, Tensor) or not isinstance(change, Tensor):
                advice = "only tensors are added: pick one of several values by `take`"
            message = f"`{join(scope.path, step.path)}`: {shown}"
            self.error("FC0203", message, step.body_place, step, scope, (label,), advice)

    def _merged(self, step: Step, branches: dict[str, Any], scope: Scope) -> Any:
        if any(value is UNKNOWN for value in branches.values()):
            raise Poisoned
        values = list(branches.values())
        if isinstance(step.merge, Applied):
            return self._apply("merge", values, Source(step.name, step.place), scope, step)
        try:
            return MERGES[str(step.merge)](values, step.dim)
        except (RuntimeError, TypeError, IndexError):
            path = join(scope.path, step.path)
            shown = ", ".join(f"`{path}.{name}` gives {self.sizes.show(value)}" for name, value in branches.items())
            labels = tuple(
                Label(f"`{path}.{name}` gives {self.sizes.show(branches[name])}", place_of(part, step))
                for name, part in step.parts
            )
            odd = self._odd(step, branches)
            if any(isinstance(value, Tensor) and not -value.dim() <= (step.dim or 0) < value.dim() for value in values):
                message = f"`{path}` merges along dimension {step.dim}, and {shown}"
                self.error("FC0203", message, step.place_of("dim"), step, scope, labels)
            self.error(
                "FC0203",
                f"the branches of `{path}` cannot be merged by `{step.merge}`: {shown}",
                step.place_of("merge") if odd is None else place_of(dict(step.parts)[odd], step),
                step,
                scope,
                labels,
            )

    def _routed(self, step: Step, stream: Any, source: Source, scope: Scope) -> Any:
        """A gate's weighted sum, or a switch's choice: all branches must give one shape."""
        assert step.router is not None
        choice = self._attempt("router", stream, source, scope, step)
        branches = {name: self._attempt(name, stream, source, scope, step) for name, _ in step.parts}
        if choice is UNKNOWN or any(value is UNKNOWN for value in branches.values()):
            raise Poisoned
        path = join(scope.path, step.path)
        first = next(iter(branches.values()))
        odd = self._odd(step, branches)
        if odd is not None:
            other = next(name for name, value in branches.items() if difference(branches[odd], value) is not None)
            gives = f"`{path}.{other}` gives {self.sizes.show(branches[other])}"
            shown = f"`{path}.{odd}` gives {self.sizes.show(branches[odd])}"
            message = f"the branches of `{path}` must give one shape: {shown}, and {gives}"
            parts = dict(step.parts)
            label = Label(gives, place_of(parts[other], step))
            self.error("FC0203", message, place_of(parts[odd], step), step, scope, (label,))
        if step.verb == "switch":
            self._counted(step, len(branches), scope)
            rows = next((held.shape[0] for held in tree_leaves(stream) if isinstance(held, Tensor) and held.dim()), 1)
            if isinstance(choice, Tensor) and choice.numel() not in (1, rows):
                shown = self.sizes.show(choice)
                message = f"the router of `{path}` gives {shown}, and must give one index, or one for each row"
                advice = "`ArgmaxSelector` chooses one for each row"
                self.error("FC0201", message, place_of(step.router, step), step, scope, help=advice)
            return self._any_of(list(branches.values())) if self.trains else first
        weights = choice.shape[-1] if isinstance(choice, Tensor) and choice.dim() else 1
        if weights != len(branches) or not isinstance(first, Tensor):
            message = f"the router of `{path}` gives {self.sizes.show(choice)}, one weight for each of {weights}"
            detail = f"{message} experts, and there are {len(branches)}"
            place = number_in(step.router.target, weights) or place_of(step.router, step)
            self.error("FC0201", detail, place, step, scope)
        self.result.ranks[join(scope.path, step.name)] = max(first.dim() - choice.dim(), 0)
        return first

    @staticmethod
    def _any_of(values: list[Any]) -> Any:
        """A value that has the history of each of several values of one shape."""
        if all(isinstance(value, Tensor) and value.is_floating_point() for value in values):
            return sum(values[1:], values[0])
        return values[0]

    def _counted(self, step: Step, count: int, scope: Scope) -> None:
        """The selectors say how many branches they choose from, or which one."""
        assert step.router is not None
        call, path = step.router.target, join(scope.path, step.path)
        given = blame.bound(call) if isinstance(call, Call) else {}
        branches, index = given.get("branches"), given.get("index")
        if isinstance(branches, Literal) and branches.value != count:
            message = f"the router of `{path}` chooses from {branches.value} branches, and there are {count}"
            self.error("FC0201", message, branches.place, step, scope, help=f"write `{count}`")
        if isinstance(index, Literal) and isinstance(index.value, int) and not 0 <= index.value < count:
            message = f"the router of `{path}` chooses branch {index.value}, and there are {count}"
            self.error("FC0201", message, index.place, step, scope, help=f"the last one is `{count - 1}`")

    def _odd(self, step: Step, branches: Mapping[str, Any]) -> str | None:
        """The branch whose shape differs from the others'; of two, the last. None when all have one shape."""
        names = [name for name, _ in step.parts]
        alike = {name: sum(difference(branches[name], branches[other]) is None for other in names) for name in names}
        fewest = min(alike.values())
        return None if fewest == len(names) else [name for name in names if alike[name] == fewest][-1]

    def _condition(self, step: Step, stream: Any, source: Source, scope: Scope) -> None:
        if step.condition is None:
            return
        value = self._attempt("condition", stream, source, scope, step)
        if isinstance(value, Tensor) and value.numel() != 1:
            path = join(scope.path, step.path)
            message = f"the condition of `{path}` gives {self.sizes.show(value)}, and must give one number"
            self.error("FC0201", message, place_of(step.condition, step), step, scope)

    def _loop(self, step: Step, stream: Any, source: Source, scope: Scope) -> Any:
        self._condition(step, stream, source, scope)
        result = self._body(step, stream, source, scope)
        slices = self._check_slices(step, scope)
        times = step.times.value if step.times is not None else slices or MOST_ROUNDS
        assert isinstance(times, int)
        scope.counts[step.name] = times if step.condition is None else self.sizes.of("iterations")
        if times == 1 or result is UNKNOWN or stream is UNKNOWN:
            return result
        where = difference(stream, result)
        if where is not None:
            got, gives = (stream, result) if where == "" else (part_at(stream, where), part_at(result, where))
            what = f"`{where}` of " if where else ""
            change = f"from {self.sizes.show(got)} to {self.sizes.show(gives)}"
            message = (
                f"the loop `{join(scope.path, step.path)}` changes {what}its stream {change} in its first iteration"
            )
            label = Label(f"`{source.name}` gives {self.sizes.show(stream)}", source.place)
            advice = "the body must give back the shape that it takes"
            self.error("FC0205", message, changed_in(step, got, gives), step, scope, (label,), advice)
        self._goes_on(step, stream, result, scope)
        return self._further(step, result, source, scope, times) if self.trains else result

    def _further(self, step: Step, result: Any, source: Source, scope: Scope, times: int) -> Any:
        """Iterations until everything that a field of the stream comes from has shown in it: as many as fields."""
        rounds = min(times, len(result) if isinstance(result, dict) else 1)
        if self.rounds * rounds > MOST_ROUNDS:
            self.result.certain = False
            return result
        before, self.rounds = self.rounds, self.rounds * rounds
        for _ in range(rounds - 1):
            result = self._body(step, result, source, scope)
        self.rounds = before
        return result

    def _goes_on(self, step: Step, stream: Any, result: Any, scope: Scope) -> None:
        """A body that takes several values must give them back by name, or get them by `using`."""
        body = step.body.target
        if not isinstance(body, Mount) or not isinstance(stream, dict) or not isinstance(result, dict):
            return
        given = {*result, *(name for name, _ in step.body.using)}
        lost = [entry.name for entry in body.graph.inputs if entry.name not in given]
        if lost:
            path, held = join(scope.path, step.path), ", ".join(f"`{name}`" for name in result)
            message = f"the body of the loop `{path}` takes `{lost[0]}` again, and gives {held}"
            advice = f"call one of its outputs `{lost[0]}`"
            self.error("FC0205", message, step.place, step, scope, (), advice)

    def _map(self, step: Step, stream: Any, source: Source, scope: Scope) -> Any:
        path = join(scope.path, step.path)
        if stream is UNKNOWN:
            self._body(step, UNKNOWN, source, scope)
            return UNKNOWN
        if not isinstance(stream, Tensor):
            self.error(
                "FC0201",
                f"`{path}` maps over {self.sizes.show(stream)}, and needs a tensor",
                step.place,
                step,
                scope,
            )
        if step.slices is not None:
            return self._slices(step, stream, source, scope)
        dim = step.dim or 0
        if not -stream.dim() <= dim < stream.dim():
            gives = f"`{source.name}` gives {self.sizes.show(stream)}"
            message = f"`{path}` maps over dimension {dim}, and {gives}"
            place = step.place_of("dim") if step.over is None else step.over.place
            self.error("FC0201", message, place, step, scope, (Label(gives, source.place),))
        if step.batched and dim % stream.dim() == 0:
            message = "a batched map cannot go over dimension 0, the batch"
            self.error("FC0123", message, step.place_of("dim"), step, scope)
        moved = stream.movedim(dim, 1) if step.batched else stream
        count = stream.shape[dim]
        if step.batched:
            result = self._body(step, moved.flatten(0, 1), source, scope, repeated=count)

            def unfold(value: Tensor) -> Tensor:
                return value.reshape(*moved.shape[:2], *value.shape[1:]).movedim(1, dim)

        else:
            result = self._body(step, stream.select(dim, 0), Source(f"{source.name}[i]", source.place), scope)

            def unfold(value: Tensor) -> Tensor:
                return stacked(value, dim, count)

        held = scope.held[step.name]
        if self.sizes.number(count) == str(count):
            held.count = count
            self.result.kinds[f"{join(scope.path, step.name)}#"] = str(count)
        if step.batched:
            held.whole = lambda value: value.reshape(*moved.shape[:2], *value.shape[1:])
            held.single = lambda value: value.reshape(*moved.shape[:2], *value.shape[1:]).select(1, 0)
        else:
            at = 0 if dim == 0 else 1
            held.whole = lambda value: stacked(value, at, count)
        return UNKNOWN if result is UNKNOWN else each(result, unfold)

    def _slices(self, step: Step, stream: Tensor, source: Source, scope: Scope) -> Any:
        count = step.slices.value if step.slices is not None else 1
        assert isinstance(count, int)
        if stream.dim() == 0 or stream.shape[-1] % count:
            path, shown = join(scope.path, step.path), self.sizes.show(stream)
            message = f"`{path}` cannot cut the last size of {shown} into {count} equal slices"
            label = Label(f"`{source.name}` gives {shown}", source.place)
            self.error("FC0201", message, step.place_of("slices"), step, scope, (label,))
        result = self._body(step, stream.chunk(count, -1)[0], Source(f"{source.name}[i]", source.place), scope)
        held = scope.held[step.name]
        held.count = count
        held.whole = lambda value: stacked(value, 1, count)
        return UNKNOWN if result is UNKNOWN else each(result, lambda part: torch.cat([part] * count, -1))

    def _given(self, value: Value, step: Step, scope: Scope) -> Any:
        """What a module is passed besides its stream: a value, or the first slice of what a loop goes over."""
        found = scope.value(value)
        if not value.sliced or found is UNKNOWN:
            return found
        dim, gives = step.dim or 0, f"`{value}` gives {self.sizes.show(found)}"
        if not isinstance(found, Tensor) or not -found.dim() <= dim < found.dim():
            message = f"the loop `{join(scope.path, step.path)}` goes over dimension {dim}, and {gives}"
            self.error("FC0201", message, value.place, step, scope)
        return found.select(dim, 0)

    def _check_slices(self, step: Step, scope: Scope) -> int | None:
        """The values that a loop goes over must have equally many slices: so many, if any."""
        found = [(value, scope.value(value)) for value in step.slices_of()]
        counts = {value: given.shape[step.dim or 0] for value, given in found if isinstance(given, Tensor)}
        if len(set(counts.values())) > 1:
            listed = " and ".join(f"{self.sizes.number(count)} of `{value}`" for value, count in counts.items())
            message = f"the loop `{join(scope.path, step.path)}` goes over slices, {listed}"
            self.error("FC0205", message, step.place, step, scope, help="give them one size")
        return next(iter(counts.values()), None)

    def _body(self, step: Step, stream: Any, source: Source, scope: Scope, repeated: int = 1) -> Any:
        """One call of a loop's or map's body, with what `take` picks from it."""
        before = self.told
        result = self._apply("", stream, source, scope, step, repeated=repeated)
        if self.told > before:
            raise Poisoned
        if step.takes_each and result is not UNKNOWN:
            result = self._taken(step, result, scope)
        scope.held[step.name].once = result
        return result

    def _taken(self, step: Step, value: Any, scope: Scope) -> Any:
        parts = parts_of(value)
        try:
            if isinstance(value, Tensor):
                raise TypeError  # it would be a row
            return parts[step.take] if parts is not None and step.take in parts else value[step.take]
        except (IndexError, KeyError, TypeError):
            names = f": it holds {', '.join(f'`{name}`' for name in parts)}" if parts is not None else ""
            message = f"`take: {step.take}` finds nothing in {self.sizes.show(value)}{names}"
            self.error("FC0201", message, step.place_of("take"), step, scope)

    # modules

    def _apply(
        self,
        spot: str,
        stream: Any,
        source: Source,
        scope: Scope,
        step: Step,
        repeated: int = 1,
        whole: Applied | None = None,
    ) -> Any:
        """Run the module at a spot of a step on a fake value; `whole` is the chain that it is a member of."""
        value = self._value_at(spot, stream, source, scope, step, repeated, whole)
        self._note_kind(f"{join(scope.path, step.path, spot)}()", value)
        if spot:
            scope.held[step.name].parts[spot] = value
        return value

    def _value_at(
        self,
        spot: str,
        stream: Any,
        source: Source,
        scope: Scope,
        step: Step,
        repeated: int,
        whole: Applied | None,
    ) -> Any:
        applied = step.spots[spot]
        using = {name: repeat_rows(self._given(value, step, scope), repeated) for name, value in applied.using}
        module = applied.target
        if isinstance(module, Chain):
            for number, member in enumerate(module.members):
                below = join(spot, str(number))
                stream = self._apply(below, stream, source, scope, step, repeated, whole or applied)
                source = Source(str(member.module), call_place(member.module, step))
            return stream
        if isinstance(module, Mount):
            origins = {name: scope.source(value) for name, value in applied.using}
            return self._mounted(spot, stream, using, origins, source, step, scope)
        built = self.build(module, applied, stream, step, scope)
        if stream is UNKNOWN or any(value is UNKNOWN for value in using.values()):
            return UNKNOWN
        return self.run(built, applied, whole or applied, stream, using, source, step, scope)

    def _mounted(
        self,
        spot: str,
        stream: Any,
        using: dict[str, Any],
        origins: dict[str, Source],
        source: Source,
        step: Step,
        scope: Scope,
    ) -> Any:
        applied = step.spots[spot]
        mount, path = applied.target, join(scope.path, applied.path)
        assert isinstance(mount, Mount)
        own = [entry.name for entry in mount.graph.inputs if not entry.captured]
        values, parts = dict(using), parts_of(stream)
        if stream is not UNKNOWN:
            self._filled(applied, parts, source, step, scope)
        if parts is not None and len(own) > 1:
            values = {name: value for name, value in parts.items() if name in own} | values
            origins = {name: source for name in parts if name in own} | origins
        else:
            values[own[0]] = stream
            origins[own[0]] = source
        shared = {mine: scope.standing(without_copies(scope.graph, theirs)) for mine, theirs in mount.shares}
        home = scope.standing(applied.home)
        of_a_file = mount if mount.graph.source_name else None
        result, inner = self.graph(mount.graph, path, values, origins, of_a_file, home, shared)
        guessed = any(values.get(name, UNKNOWN) is UNKNOWN for name in own) and bool(self.result.collector.errors)
        if not guessed:
            scope.held[step.name].scopes[spot] = inner
        return UNKNOWN if guessed else result

    def _filled(
        self, applied: Applied, parts: Mapping[str, Any] | None, source: Source, step: Step, scope: Scope
    ) -> None:
        """Whether the stream fills the inputs of a graph, where only now it is known what the stream holds."""
        lacking = unfilled(applied, parts)
        if lacking:
            shown = "one value" if parts is None else ", ".join(f"`{name}`" for name in parts)
            label = Label(f"`{source.name}` gives {shown}", source.place)
            message = f"nothing fills the input `{lacking[0]}` of `{join(scope.path, applied.path)}`"
            advice = f"add `using: {lacking[0]}`, or `using: {{{lacking[0]}: ...}}`"
            self.error("FC0147", message, step.place, step, scope, (label,), advice)
