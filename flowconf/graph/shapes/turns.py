"""Verbs that run a module several times in the shape check: loops, and maps over slices."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flowconf.graph.shapes.changes import Body, changed_in, giving
from flowconf.graph.shapes.fakes import UNKNOWN, Scope, Source, difference, each, part_at, parts_of, stacked
from flowconf.graph.shapes.marks import end_of
from flowconf.graph.shapes.trial import Poisoned, Trial
from flowconf.language.plan import Mount, Step, Value, join
from flowconf.report import Label

MOST_ROUNDS = 64
"""Nested loops in a rehearsal run their innermost body so often at most."""


class Turns(Trial):
    """Runs the body of a loop or map once, or as often as a rehearsal needs, and knows what all its turns give."""

    rounds = 1
    """How often the loops around the graph at hand run their bodies."""

    def condition(self, step: Step, stream: Any, source: Source, scope: Scope) -> None:
        if step.condition is None:
            return
        value = self.attempt("condition", stream, source, scope, step)
        if isinstance(value, Tensor) and value.numel() != 1:
            path = join(scope.path, step.path)
            message = f"the condition of `{path}` gives {self.sizes.show(value)}, and must give one number"
            self.error("FC0201", message, end_of(step.condition, step), step, scope)

    def loop(self, step: Step, stream: Any, source: Source, scope: Scope) -> Any:
        self.condition(step, stream, source, scope)
        result = self.body(step, stream, source, scope)
        slices = self._check_slices(step, scope)
        times = step.times.value if step.times is not None else slices or MOST_ROUNDS
        assert isinstance(times, int)
        scope.counts[step.name] = times if step.condition is None else self.sizes.of("iterations")
        if result is UNKNOWN or stream is UNKNOWN or (times == 1 and parts_of(stream) is None):
            return result
        try:
            self._keeps(step, stream, result, source, scope)
        except Poisoned:
            held = scope.held[step.name]
            held.once, held.parts, held.scopes = stream, {}, {}
            return stream
        self._goes_on(step, stream, result, scope)
        return self._further(step, result, source, scope, times) if self.trains else result

    def _keeps(self, step: Step, stream: Any, result: Any, source: Source, scope: Scope) -> None:
        """A body must give back the shapes that it takes."""
        where = difference(stream, result)
        if where is None:
            return
        got, gives = (stream, result) if where == "" else (part_at(stream, where), part_at(result, where))
        what = f"`{where}` of " if where else ""
        change = f"from {self.sizes.show(got)} to {self.sizes.show(gives)}"
        message = f"the loop `{join(scope.path, step.path)}` changes {what}its stream {change} in its first iteration"
        label = Label(f"`{source.name}` gives {self.sizes.show(stream)}", source.place)
        advice, place = "the body must give back the shape that it takes", None
        output = dict(step.body.target.graph.outputs).get(where) if isinstance(step.body.target, Mount) else None
        meant = next((name for name, one in (parts_of(stream) or {}).items() if difference(one, gives) is None), None)
        if output is not None and meant is not None:
            place, advice = output.place, f"`{output}` has the shape of `{meant}`"
        place = place or changed_in(giving(Body(step, "", scope, stream), where), got, gives)
        self.error("FC0205", message, place, step, scope, (label,), advice)

    def _further(self, step: Step, result: Any, source: Source, scope: Scope, times: int) -> Any:
        """Iterations until everything that a field of the stream comes from has shown in it: as many as fields."""
        rounds = min(times, len(result) if isinstance(result, dict) else 1)
        if self.rounds * rounds > MOST_ROUNDS:
            self.result.certain = False
            return result
        before, self.rounds = self.rounds, self.rounds * rounds
        for _ in range(rounds - 1):
            result = self.body(step, result, source, scope)
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
            wrong = body.graph.misnamed(lost[0], [entry.name for entry in body.graph.inputs])
            advice = f"write `{lost[0]}`" if wrong is not None else f"call one of its outputs `{lost[0]}`"
            self.error("FC0205", message, wrong or step.place, step, scope, (), advice)

    def map_over(self, step: Step, stream: Any, source: Source, scope: Scope) -> Any:
        path = join(scope.path, step.path)
        if stream is UNKNOWN:
            self.body(step, UNKNOWN, source, scope)
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
            result = self.body(step, moved.flatten(0, 1), source, scope, repeated=count)

            def unfold(value: Tensor) -> Tensor:
                return value.reshape(*moved.shape[:2], *value.shape[1:]).movedim(1, dim)

        else:
            result = self.body(step, stream.select(dim, 0), Source(f"{source.name}[i]", source.place), scope)

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
        result = self.body(step, stream.chunk(count, -1)[0], Source(f"{source.name}[i]", source.place), scope)
        held = scope.held[step.name]
        held.count = count
        held.whole = lambda value: stacked(value, 1, count)
        return UNKNOWN if result is UNKNOWN else each(result, lambda part: torch.cat([part] * count, -1))

    def given(self, value: Value, step: Step, scope: Scope) -> Any:
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
            self.error("FC0205", message, step.place, step, scope, advice="give them one size")
        return next(iter(counts.values()), None)

    def body(self, step: Step, stream: Any, source: Source, scope: Scope, repeated: int = 1) -> Any:
        """One call of a loop's or map's body, with what `take` picks from it."""
        before = self.told
        result = self.apply("", stream, source, scope, step, repeated=repeated)
        if self.told > before:
            raise Poisoned
        if step.takes_each and result is not UNKNOWN:
            result = self.taken(step, result, scope)
        scope.held[step.name].once = result
        return result
