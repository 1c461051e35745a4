"""The shape check: every module is built and called once on fake tensors, step by step, before anything real exists.

It fills in `_`, finds every size that does not fit, and knows the shape of every step. A step whose input is not known
(no declared shape, or a mistake before it) is built but not called, so that one cause gives one diagnostic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from flowconf.graph.shapes.branches import Branches
from flowconf.graph.shapes.fakes import (
    UNKNOWN,
    Held,
    Scope,
    Source,
    difference,
    faked,
    kind_of,
    parts_of,
    repeat_rows,
)
from flowconf.graph.shapes.marks import apart, call_place, made_at, says
from flowconf.graph.shapes.sizes import Sizes, misfits
from flowconf.graph.shapes.starts import check_starts
from flowconf.graph.shapes.trial import Inference, Poisoned, Rehearsal, Visit
from flowconf.graph.shapes.turns import Turns
from flowconf.graph.source.demand import without_copies
from flowconf.language.plan import Applied, Chain, GraphPlan, Input, Mount, Shared, Step, join
from flowconf.language.wiring import to_fill, unfilled
from flowconf.report import Diagnostic, Label, Place


def infer(graph: GraphPlan) -> Inference:
    """Check a whole graph. Mistakes are in the result's reporter."""
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


class _Checker(Branches, Turns):
    """Runs graphs step by step; the trial of each module is `Trial`'s."""

    def whole(self, graph: GraphPlan, given: Mapping[str, Any]) -> Scope:
        """Check the outermost graph."""
        values = {entry.name: given.get(entry.name, UNKNOWN) for entry in graph.inputs}
        values = {e.name: self.declared(e) if values[e.name] is UNKNOWN else values[e.name] for e in graph.inputs}
        self.result.certain = not any(value is UNKNOWN for value in values.values())
        _, scope = self.graph(graph, "", values, {})
        if not self.told:
            check_starts(graph, self.result.parameters, self.result.reporter)
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
            self.result.reporter.error("FC0123", message, entry.place, path=entry.name)
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
        reused: Place | None = None,
    ) -> tuple[Any, Scope]:
        """Run one graph on fake values: its output, and everything it held. `home` and `shared` are the scope's."""
        local = {
            entry.name: self._input(
                entry, values.get(entry.name, UNKNOWN), path, origins.get(entry.name), mounted, reused
            )
            for entry in graph.inputs
        }
        for entry in graph.inputs:
            self._record(join(path, entry.name), local[entry.name])
        places = {entry.name: Source(entry.name, entry.place, entry) for entry in graph.inputs}
        places |= origins
        scope = Scope(graph, path, local, places, home, dict(shared or {}), reused)
        for step in graph.steps:
            before = self.told
            try:
                local[step.name] = self._step(step, scope)
            except Poisoned:
                local[step.name] = UNKNOWN
            self._note_wrong(step, scope, self.told > before)
            self._record(join(path, step.name), local[step.name])
            places[step.name] = Source(step.name, step.place, step)
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
            self.result.reporter.unchecked.append(join(scope.path, step.path))

    def _states(self, graph: GraphPlan, scope: Scope) -> None:
        """What is kept from call to call must have the shape of the zeros that the first call reads."""
        for step in graph.steps:
            for value in step.reads():
                if not value.recurrent or {step.name, value.member} & scope.wrong:
                    continue
                kept, like = scope.value(value.now), scope.zeros(step)
                if difference(kept, like) is not None:
                    differs = apart(like, kept)
                    if len(differs) == 1 and self.others_too(
                        scope.places[value.member],
                        like.shape[differs[0]],
                        kept.shape[differs[0]],
                        step.path,
                        value.place,
                    ):
                        continue
                    shown = f"`{value.now}` gives {self.sizes.show(kept)}"
                    message = f"`{step.name}` starts with zeros like its stream, {self.sizes.show(like)}, and {shown}"
                    labels = (Label(shown, scope.places[value.member].place),)
                    self.result.reporter.error("FC0205", message, value.place, path=step.path, labels=labels)

    def _indices(self, graph: GraphPlan, scope: Scope) -> None:
        """An index into the slices of a map must be one of them, where their number is known."""
        read = [value for step in graph.steps for value in step.reads()] + [value for _, value in graph.outputs]
        for value in dict.fromkeys(read):
            count, index = scope.slices(value), value.innermost_index
            if count is not None and index is not None and not -count <= index < count:
                message, advice = f"`{value}` has {count} slices, and no `[{index}]`", f"the last is `[{count - 1}]`"
                self.result.reporter.error("FC0141", message, value.place, path=scope.path, advice=advice)

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

    def _input(
        self,
        entry: Input,
        value: Any,
        path: str,
        source: Source | None,
        mounted: Mount | None,
        reused: Place | None,
    ) -> Any:
        """Hold what arrives against what the input declares; `mounted` is the mount of a graph of another file."""
        if value is UNKNOWN:
            return UNKNOWN if entry.captured or self._would_guess(entry, path) else self.declared(entry)
        if entry.shape is None:
            return value
        if not path or entry.captured:
            return value
        wrong = misfits(entry, value)
        declared = entry.places[wrong] if wrong is not None and 0 <= wrong < len(entry.places) else entry.place
        if wrong is None:
            self.fitting.add(entry.place)
            return value
        shown = f"[{', '.join(str(size) for size in entry.shape)}]"
        message = f"the input `{entry.name}` of `{path}` is declared as {shown}, and gets {self.sizes.show(value)}"
        labels = [Label(f"`{source.name}` gives {self.sizes.show(value)}", source.place)] if source else []
        place = self._blamed(entry, value, wrong, source, mounted, reused) or declared
        if place != declared:
            labels.append(Label(f"declared as {shown}", declared))
        told = Diagnostic("FC0206", message, place, path, tuple(labels))
        if wrong < 0:
            self.result.reporter.diagnostics.append(told)
            return UNKNOWN
        sizes = entry.shape[wrong], int(value.shape[wrong])
        if source is None or not self.others_too(source, *sizes, path, place):
            said = mounted is not None and place == says(mounted, sizes[0])
            self._contradicts(entry, declared, sizes, told, alone=said or entry.place in self.fitting)
        return UNKNOWN

    def _contradicts(
        self, entry: Input, declared: Place, sizes: tuple[int | str, int], told: Diagnostic, alone: bool
    ) -> None:
        """Tell of a size that is declared and not given; once, where it is declared, if every mount gives the same.

        `alone`: only this mount is at fault.
        """
        mounts, known = self.contradicted.setdefault((declared, *sizes), []), self.result.reporter.diagnostics
        mounts.append(told)
        places = (declared, mounts[0].place)
        first = next((n for n, one in enumerate(known) if one.code == told.code and one.place in places), None)
        if first is None or len(mounts) == 1 or alone:
            known.append(told)
            return
        names = ", ".join(f"`{one.path}`" for one in mounts)
        message = f"the input `{entry.name}` is declared with {sizes[0]}, and gets {sizes[1]} in all of {names}"
        labels = tuple(label for one in mounts for label in one.labels if label.place != declared)
        known[first] = Diagnostic(told.code, message, declared, told.path, labels)
        self.joined += 1

    def _would_guess(self, entry: Input, path: str) -> bool:
        """Whether sizes would stand in for ones that a mistake hides: what does not fit with them is no mistake.

        The rows of a batch are open in every graph.
        """
        is_open = any(isinstance(size, str) for size in (entry.shape or ())[1:])
        return is_open and bool(path) and bool(self.result.reporter.errors)

    @staticmethod
    def _blamed(
        entry: Input, value: Any, wrong: int, source: Source | None, mounted: Mount | None, reused: Place | None
    ) -> Place | None:
        """What is at fault, if not the declaration: another kind of value, or what the graph of a file gets."""
        read = source.read if source is not None else None
        mount = reused or (mounted.place if mounted is not None else None)
        if wrong < 0 or entry.shape is None:
            return reused or read or mount
        if mounted is None:
            return reused
        said = says(mounted, entry.shape[wrong]) if reused is None else None
        return said or made_at(source, value.shape[wrong]) or mount

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
                    self._tell_of_copies(step, known - self.joined)
            if step.take is not None and not step.takes_each and value is not UNKNOWN:
                value = self.taken(step, value, scope)
            source = Source(f"{step.name}.{copy}", step.place)
            if difference(before, value) is None or self.told > known:
                break
        if not step.iterates:
            held.once = value
        self._note_kind(f"{join(scope.path, step.name)}[]", held.once)
        return value

    def _tell_of_copies(self, step: Step, known: int) -> None:
        """Only a later copy of a repeated step does not fit: the first one changes the stream."""
        told = self.result.reporter.diagnostics
        advice = f"`{step.name}` is repeated: each copy must give back the shape that it takes"
        told[known:] = [replace(diagnostic, advice=advice) for diagnostic in told[known:]]

    def _verb(self, step: Step, stream: Any, source: Source, scope: Scope) -> Any:
        match step.verb:
            case "also":
                return self.also(step, stream, source, scope)
            case "split":
                branches = {name: self.attempt(name, stream, source, scope, step) for name, _ in step.parts}
                return self.merged(step, branches, stream, scope)
            case "gate" | "switch":
                return self.routed(step, stream, source, scope)
            case "loop":
                return self.loop(step, stream, source, scope)
            case "map":
                return self.map_over(step, stream, source, scope)
        return self.apply("", stream, source, scope, step)

    # modules

    def apply(
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
        using = {name: repeat_rows(self.given(value, step, scope), repeated) for name, value in applied.using}
        module = applied.target
        if isinstance(module, Chain):
            for number, member in enumerate(module.members):
                below = join(spot, str(number))
                stream = self.apply(below, stream, source, scope, step, repeated, whole or applied)
                source = Source(str(member.module), call_place(member.module, step))
            return stream
        if isinstance(module, Mount):
            origins = {name: replace(scope.source(value), read=value.place) for name, value in applied.using}
            return self._mounted(spot, stream, using, origins, source, step, scope)
        built = self.build(module, applied, stream, step, scope)
        if stream is UNKNOWN or any(value is UNKNOWN for value in using.values()):
            return UNKNOWN
        chain = whole or applied
        if isinstance(chain.module, Shared):
            scope = replace(scope, reused=scope.reused or chain.module.place)
        return self.run(built, Visit(applied, chain, stream, using, source, step, scope))

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
        reused = scope.reused or (applied.module.place if isinstance(applied.module, Shared) else None)
        result, inner = self.graph(mount.graph, path, values, origins, of_a_file, home, shared, reused)
        guessed = any(values.get(name, UNKNOWN) is UNKNOWN for name in own) and bool(self.result.reporter.errors)
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
            self.error("FC0147", message, step.place, step, scope, (label,), to_fill(lacking[0]))
