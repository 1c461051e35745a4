"""Verbs with several modules in the shape check: what is added, merged, weighed or chosen must fit together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from flowconf.graph.shapes import blame
from flowconf.graph.shapes.changes import Body, changed_in
from flowconf.graph.shapes.fakes import MERGES, UNKNOWN, Scope, Source, difference
from flowconf.graph.shapes.marks import apart, end_of, number_in, skip_is_odd
from flowconf.graph.shapes.trial import Poisoned, Trial
from flowconf.language.plan import Applied, Call, Literal, Step, join
from flowconf.report import Label, Place


class Branches(Trial):
    """Runs the branches of a step, and tells which of them does not fit the others."""

    def also(self, step: Step, stream: Any, source: Source, scope: Scope) -> Any:
        change = self.attempt("", stream, source, scope, step)
        if step.take is not None and change is not UNKNOWN:
            change = self.taken(step, change, scope)
        kept = stream if step.skip is None else self.attempt("skip", stream, source, scope, step)
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
            place = changed_in(Body(step, "", scope, stream), kept, change)
            if step.skip is not None and skip_is_odd(stream, change, kept):
                place = changed_in(Body(step, "skip", scope, stream), change, kept)
            self.error("FC0203", message, place, step, scope, (label,), advice)

    def merged(self, step: Step, branches: dict[str, Any], stream: Any, scope: Scope) -> Any:
        if any(value is UNKNOWN for value in branches.values()):
            raise Poisoned
        values = list(branches.values())
        if isinstance(step.merge, Applied):
            return self.apply("merge", values, Source(step.name, step.place), scope, step)
        try:
            return MERGES[str(step.merge)](values, step.dim)
        except (RuntimeError, TypeError, IndexError):
            path = join(scope.path, step.path)
            shown = ", ".join(f"`{path}.{name}` gives {self.sizes.show(value)}" for name, value in branches.items())
            labels = tuple(
                Label(f"`{path}.{name}` gives {self.sizes.show(branches[name])}", end_of(part, step))
                for name, part in step.parts
            )
            odd = self._odd(step, branches, stream)
            if any(isinstance(value, Tensor) and not -value.dim() <= (step.dim or 0) < value.dim() for value in values):
                message = f"`{path}` merges along dimension {step.dim}, and {shown}"
                self.error("FC0203", message, step.place_of("dim"), step, scope, labels)
            self.error(
                "FC0203",
                f"the branches of `{path}` cannot be merged by `{step.merge}`: {shown}",
                step.place_of("merge") if odd is None else self._in_branch(Body(step, odd, scope, stream), branches),
                step,
                scope,
                labels,
            )

    def routed(self, step: Step, stream: Any, source: Source, scope: Scope) -> Any:
        """A gate's weighted sum, or a switch's choice: all branches must give one shape."""
        assert step.router is not None
        choice = self.attempt("router", stream, source, scope, step)
        branches = {name: self.attempt(name, stream, source, scope, step) for name, _ in step.parts}
        if choice is UNKNOWN or any(value is UNKNOWN for value in branches.values()):
            raise Poisoned
        path = join(scope.path, step.path)
        first = next(iter(branches.values()))
        odd = self._odd(step, branches, stream)
        if odd is not None:
            other = next(name for name, value in branches.items() if difference(branches[odd], value) is not None)
            gives = f"`{path}.{other}` gives {self.sizes.show(branches[other])}"
            shown = f"`{path}.{odd}` gives {self.sizes.show(branches[odd])}"
            message = f"the branches of `{path}` must give one shape: {shown}, and {gives}"
            parts = dict(step.parts)
            label = Label(gives, end_of(parts[other], step))
            place = self._in_branch(Body(step, odd, scope, stream), branches)
            self.error("FC0203", message, place, step, scope, (label,))
        if step.verb == "switch":
            self._counted(step, len(branches), scope)
            rows = next((held.shape[0] for held in tree_leaves(stream) if isinstance(held, Tensor) and held.dim()), 1)
            if isinstance(choice, Tensor) and choice.numel() not in (1, rows):
                shown = self.sizes.show(choice)
                message = f"the router of `{path}` gives {shown}, and must give one index, or one for each row"
                advice = "`ArgmaxSelector` chooses one for each row"
                self.error("FC0201", message, end_of(step.router, step), step, scope, advice=advice)
            return self._any_of(list(branches.values())) if self.trains else first
        weights = choice.shape[-1] if isinstance(choice, Tensor) and choice.dim() else 1
        if weights != len(branches) or not isinstance(first, Tensor):
            message = f"the router of `{path}` gives {self.sizes.show(choice)}, one weight for each of {weights}"
            detail = f"{message} experts, and there are {len(branches)}"
            place = number_in(step.router.target, weights) or end_of(step.router, step)
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
            self.error("FC0201", message, branches.place, step, scope, advice=f"write `{count}`")
        if isinstance(index, Literal) and isinstance(index.value, int) and not 0 <= index.value < count:
            message = f"the router of `{path}` chooses branch {index.value}, and there are {count}"
            self.error("FC0201", message, index.place, step, scope, advice=f"the last one is `{count - 1}`")

    def _odd(self, step: Step, branches: Mapping[str, Any], stream: Any) -> str | None:
        """The branch whose shape differs from the others', None when all have one shape.

        Of two, the one that changes sizes of the stream that the other leaves alone, or else the last.
        """
        names = [name for name, _ in step.parts]
        alike = {name: sum(difference(branches[name], branches[other]) is None for other in names) for name in names}
        fewest = min(alike.values())
        if fewest == len(names):
            return None
        odd = [name for name in names if alike[name] == fewest]
        dims = set().union(*(apart(branches[odd[-1]], branches[name]) for name in names))
        changed = {name: len(dims.intersection(apart(stream, branches[name]))) for name in odd}
        return max(reversed(odd), key=changed.__getitem__)

    @staticmethod
    def _in_branch(odd: Body, branches: Mapping[str, Any]) -> Place:
        """Where the branch whose shape differs from the others' says so."""
        gives, but = branches[odd.spot], odd.step.dim if odd.step.merge == "cat" else None
        other = next((value for value in branches.values() if difference(gives, value) is not None), None)
        return changed_in(odd, other, gives, but)
