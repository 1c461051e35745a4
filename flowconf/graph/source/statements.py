"""Prints the statements of one step, and the expressions that read its values.

The values of iterations are collected in lists if they are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import reduce

from flowconf.graph.source.addresses import address, in_dict
from flowconf.graph.source.block import Block, ForwardState
from flowconf.graph.source.demand import LAST, LIST, STACK, Want, runs_whole
from flowconf.graph.source.literals import quoted
from flowconf.graph.source.module_calls import ModuleCalls, element
from flowconf.language.arguments import Literal
from flowconf.language.paths import join
from flowconf.language.plan import (
    AlsoStep,
    Applied,
    GateStep,
    LoopStep,
    MapStep,
    Mount,
    Record,
    Shared,
    SplitStep,
    Step,
    SwitchStep,
    Value,
)

MERGE = {"add": " + ", "mul": " * "}


def statements(step: Step, wants: tuple[Want, ...], state: ForwardState, stream: str, target: str) -> Block:
    """The statements that assign the value of a step for `stream` to `target`."""
    writer = StepWriter(step, wants, state, stream, target, f"self.{address(state.graph, step.path)}")
    return writer.once() if step.repeat is None else writer.in_series(step.repeat)


class StepWriter:
    """Writes one step, or one copy of it, whose modules are at the expression `at`, into a block."""

    def __init__(
        self, step: Step, wants: tuple[Want, ...], state: ForwardState, stream: str, target: str, at: str
    ) -> None:
        self.step, self.wants, self.state = step, wants, state
        self.stream, self.target, self.at = stream, target, at
        self.whole = runs_whole(step, wants)
        self.calls = ModuleCalls(step, wants, state, self.whole)
        self.block = Block()

    def once(self) -> Block:
        """The statements for a single copy."""
        WRITERS.get(type(self.step), StepWriter._through)(self, self.step)
        return self.block

    def in_series(self, repeat: Literal) -> Block:
        """`repeat`: the statements once for each copy."""
        reused = isinstance(self.step.body.module, Shared)
        copy = "_" if reused else self._local("copy")
        at = self.at if reused else copy
        body = StepWriter(self.step, self.wants, self.state, self.target, self.target, at).once()
        copies = f"range({self.state.count(self.step, 'repeat', repeat)})" if reused else self.at
        if any(self.step.by_index(literal) for literal in self.step.counts.values()):
            copy, copies = f"{self._local('number')}, {copy}", f"enumerate({copies})"
        self._begin()
        before = self._gathered(body, "copies", sure=True)
        self.block.add(*before, f"for {copy} in {copies}:", *_indented(body.lines))
        return self.block

    def _begin(self) -> None:
        """Assign the stream to the target, which each iteration replaces."""
        if self.target != self.stream:
            self.block.add(f"{self.target} = {self.stream}")

    def _call(self, spot: str = "", into: str | None = None, keep: bool = False) -> str:
        """The value of a module of the step for its stream, as an expression."""
        record = self.step.stream_record
        return self.calls.call(self.block, spot, self.stream, self._address(spot), into, record, keep=keep)

    def _address(self, spot: str) -> str:
        """The expression for a module of the step."""
        if not spot:
            return self.at
        return f"{self.at}[{quoted(spot)}]" if len(self.step.parts) > 1 or in_dict(self.step) else f"{self.at}.{spot}"

    # verbs

    def _through(self, step: Step) -> None:
        value = self._call(into=self.target if self.target != "return" else None)
        if self.whole:
            self._finish(value)

    def _also(self, step: AlsoStep) -> None:
        kept, ahead = self.stream, self.calls.wants_of("")
        if step.skip is not None and (self.whole or self.calls.wants_of("skip")):
            kept = self._call("skip", keep=ahead)
        if self.whole or ahead:
            change = self._taken_each(self._call(into=self._local("change")))
        if self.whole:
            self._finish(f"{kept} + {change}")

    def _split(self, step: SplitStep) -> None:
        branches = self._branches()
        if not self.whole:
            return
        merge, listed = step.merge, ", ".join(branches)
        if isinstance(merge, Applied):
            self._finish(self.calls.call(self.block, "merge", f"[{listed}]", self._address("merge")))
        elif merge in ("add", "mul"):
            self._finish(MERGE[merge].join(branches), compound=True)
        elif merge == "mean":
            self._finish(f"({' + '.join(branches)}) / {len(branches)}", compound=True)
        elif merge == "max":
            self._finish(reduce("torch.maximum({}, {})".format, branches))
        else:
            assert merge in ("cat", "stack"), merge
            self._finish(f"torch.{merge}([{listed}], {step.dim})")

    def _branches(self) -> list[str]:
        """The values of the branches; those before one that gets a name also get one, to preserve the order."""
        wanted = [name for name, _ in self.step.parts if self.calls.wants_of(name)]
        found, named = [], bool(wanted)
        for name, _ in self.step.parts:
            if self.whole or name in wanted:
                found.append(self._call(name, keep=named))
            named = named and name != wanted[-1]
        return found

    def _gate(self, step: GateStep) -> None:
        """The outputs of the experts, weighted by the router and added one by one."""
        if step.top is not None:
            self._top(step.top)
            return
        weights, known_rank = self._local("weights"), self.state.ranks.get(step.name)
        if self.whole or self.calls.wants_of("router"):
            routed = self._call("router", weights)
            if routed != weights:
                self.block.add(f"{weights} = {routed}")
            if known_rank is None:
                self.block.add(f"one_for_each({weights}, {len(step.parts)})")
        shares, rank = self._local("shares"), known_rank or 0
        if self.whole:
            spread = f"{weights}[..., {', '.join(['None'] * rank)}]" if rank else weights
            self.block.add(f"{shares} = {spread}.split(1, {-1 - rank})")
        total, running = "", self._local("sum") if self.target == self.stream else self.target
        for number, (name, _) in enumerate(step.parts):
            if not self.whole and not self.calls.wants_of(name):
                continue
            value = self._call(name)
            if self.whole:
                self.block.add(f"{running} = {total}{shares}[{number}] * {value}")
                total = f"{running} + "
        if self.whole:
            self._finish(running)

    def _top(self, top: Literal) -> None:
        """The experts with the largest weights, each on its rows."""
        weights = self._call("router")
        if self.whole:
            branches, names, besides = self._chosen()
            given = [self.stream, weights, self._count("top", top), branches, names, *besides]
            self._finish(f"top_experts({', '.join(given)})")

    def _switch(self, step: SwitchStep) -> None:
        index = self._call("router")
        if self.whole:
            branches, names, besides = self._chosen()
            self._finish(f"route({', '.join([self.stream, index, branches, names, *besides])})")

    def _chosen(self) -> tuple[str, str, list[str]]:
        """The callables of branches of which only some run, their names, and the further inputs of all of them."""
        step = self.step
        besides: dict[Value, str] = {}
        for _, part in step.parts:
            for name, value in part.using:
                taken = {"x", *(other for known, other in besides.items() if known != value)}
                besides.setdefault(value, f"{name}_" if name in taken else name)
        branches = [self._branch(name, besides) for name, _ in step.parts]
        names = _listed(name for name, _ in step.parts)
        return f"[{', '.join(branches)}]", names, [self.state.text(value) for value in besides]

    def _branch(self, name: str, besides: Mapping[Value, str]) -> str:
        """The callable for the rows of a branch: its module, or a function if it has further inputs or outputs."""
        applied, at = self.step.spots[name], self._address(name)
        asked = self.calls.asked(applied)
        if not besides and not asked.wants and not isinstance(applied.target, Mount):
            return at
        arguments = self.calls.arguments(applied, "x", self.step.stream_record, lambda value: besides[value])
        if not besides and not asked.wants and arguments == ["x"]:
            return at
        return f"lambda {', '.join(['x', *besides.values()])}: {at}({', '.join(arguments)})" + (
            "[0]" if asked.wants else ""
        )

    def _loop(self, step: LoopStep) -> None:
        items, record, stream = self.calls.items(), step.stream_record, self.stream
        if record is not None and record.named and self.calls.binds_by_name(step.body):
            record, stream = Record(record.names), f"{stream}._asdict()"
        once = step.times is not None and step.times.text == "1" and step.condition is None
        single = once and not any(self._is_each(want) for want in self.wants)
        body, target = Block(), self.target
        value = self.calls.call(body, "", stream if single else target, self.at, target, record)
        value = self._taken_each(value)
        if value != target:
            body.add(f"{target} = {value}")
        self._define(body, target, each=True)
        if single:
            self.block.add(*body.lines)
            self.block.values |= body.values
        else:
            self.stream = stream
            self._begin()
            self._iterations(step, body, *self._condition(step), self._turns(step, items))
        self._finish(target)

    def _turns(self, step: LoopStep, items: Mapping[Value, str]) -> str:
        """The head of a loop: a number of times, or once for each slice."""
        if step.times is not None:
            return f"for _ in range({self._count('times', step.times)}):"
        slices = [f"{self.state.text(value)}.unbind({step.dim})" for value in items]
        together = slices[0] if len(slices) == 1 else f"zip({', '.join(slices)}, strict=True)"
        return f"for {', '.join(items.values())} in {together}:"

    def _iterations(self, step: LoopStep, body: Block, condition: Block, test: list[str], turns: str) -> None:
        """The `for` of a loop: its body, and its condition before or after that."""
        first = step.halt == "while"
        sure = not test and step.times is not None
        before = self._gathered(body, "each", sure, maybe=first)
        before += self._gathered(condition, "each", sure=False)
        halt = [*condition.lines, *test]
        inside = [*halt, *body.lines] if first else [*body.lines, *halt]
        self.block.add(*before, turns, *_indented(inside))

    def _condition(self, step: LoopStep) -> tuple[Block, list[str]]:
        """The statements of the condition of a loop, and the test that ends it; empty without a condition."""
        block = Block()
        if step.condition is None:
            return block, []
        at = self._address("condition")
        value = self.calls.call(block, "condition", self.target, at, None, step.stream_record)
        return block, [f"if halts({value}):", "    break"]

    def _map(self, step: MapStep) -> None:
        if step.batched:
            self._batched(step)
        else:
            self._one_by_one(step)

    def _one_by_one(self, step: MapStep) -> None:
        item = self.state.local("item" if step.slices is None else "piece")
        items = f"{self.stream}.unbind({step.dim})"
        if step.slices is not None:
            items = f"{self.stream}.chunk({self._count('slices', step.slices)}, -1)"
        body = Block()
        part = self._local("part")
        value = self._taken_each(self.calls.call(body, "", item, self.at, part))
        own = [want for want in self.wants if not want.value.spot and want.value.inner is None and self._is_each(want)]
        fields = [want for want in own if want.value.key is not None]
        if fields and value != part:
            body.add(f"{part} = {value}")
            value = part
        for want in fields:
            body.values[want] = element(value, want.value.key, step.record)
        parts = f"[{value} for {item} in {items}]"
        if body.lines:
            whole = self._local("parts")
            lists = self._gathered(body, "each", sure=step.slices is not None)
            gather = [f"{whole}.append({value})"] if self.whole else []
            self.block.add(*([f"{whole} = []"] if self.whole else []), *lists)
            self.block.add(f"for {item} in {items}:", *_indented([*body.lines, *gather]))
            parts = whole
        elif any(want.value.key is None for want in own):
            self.block.add(f"{self._local('parts')} = {parts}")
            parts = self._local("parts")
        for want in own:
            if want.value.key is None:
                self.block.values[want] = self._one_of(parts, want, step.slices is not None, want.value.index)
        if self._needs_all:
            self._finish(self._put_together(step, parts))

    def _put_together(self, step: MapStep, parts: str) -> str:
        """The value of a map, from the values of all slices."""
        plain = self.state.kinds(f"{step.name}[]") == "tensor"
        if step.slices is not None:
            return f"torch.cat({parts}, -1)" if plain else f"cat_each({parts}, -1)"
        return f"torch.stack({parts}, {step.dim})" if plain else f"stack_each({parts}, {step.dim})"

    def _batched(self, step: MapStep) -> None:
        slices = self.stream
        if step.dim != 1:
            slices = self._local("slices")
            self.block.add(f"{slices} = {self.stream}.movedim({step.dim}, 1)")
        shape = f"{slices}.shape[:2]"
        body = Block()
        rows = f".repeat_interleave({slices}.shape[1], 0)"
        flat = self.calls.call(body, "", f"{slices}.flatten(0, 1)", self.at, self._local("flat"), rows=rows)
        value = self._taken_each(flat)
        self.block.add(*body.lines)
        names: dict[str, str] = {}
        for want, text in body.values.items():
            plain = self._is_tensor(want)
            if text not in names:
                names[text] = self._local(f"{_suffix(want)}_slices")
                apart = f"{text}.unflatten(0, {shape})" if plain else f"unflatten_each({text}, {shape})"
                self.block.add(f"{names[text]} = {apart}")
            self.block.values[want] = self._slice_of(names[text], want, 1, plain)
        if not self.whole:
            return  # an index selects from all of them
        plain = self.state.kinds(f"{step.name}[]") == "tensor"
        back = f".movedim(1, {step.dim})" if step.dim != 1 else ""
        moved = f", {step.dim}" if step.dim != 1 else ""
        text = f"{value}.unflatten(0, {shape}){back}" if plain else f"unflatten_each({value}, {shape}{moved})"
        self._finish(text)
        for want in self.wants:
            if not want.value.spot and want.value.inner is None and self._is_each(want):
                whole = element(self.target, want.value.key, step.record) if want.value.key else self.target
                self.block.values[want] = self._slice_of(whole, want, step.dim or 0, self._is_tensor(want))

    def _slice_of(self, text: str, want: Want, dim: int, plain: bool) -> str:
        """One slice along `dim` of the value of all slices, or their list, or the whole value."""
        if want.value.index is not None:
            sure = self._is_sure(want.value.index)
            if plain and sure:
                return f"{text}.select({dim}, {want.value.index})"
            return self._one_of(f"unbind_each({text}, {dim})", want, sure, want.value.index)
        if want.gather != LIST:
            return text
        return f"[*{text}.unbind({dim})]" if plain else f"unbind_each({text}, {dim})"

    # values

    def _finish(self, value: str, compound: bool = False) -> None:
        """Assign the value of the step to its name, after `take`."""
        fields = [want for want in self.wants if want.value.key is not None and not want.value.spot]
        source, final = self.target, value
        if self.step.take is not None and not self.step.takes_each:
            if fields:
                source = self._local("whole")
                self.block.add(f"{source} = {value}")
            final = self._taken(source if fields else f"({value})" if compound else value)
        if self.target == "return":
            self.block.add(f"return {final}")
            return
        if final != self.target:
            self.block.add(f"{self.target} = {final}")
        self._define(self.block, source)

    def _define(self, block: Block, source: str, each: bool = False) -> None:
        """Set the expressions for the value of the step and its fields; `each`: for those of one iteration."""
        for want in self.wants:
            value = want.value
            other = self.step.iterates and self._is_each(want) != each
            if value.spot or value.inner is not None or want in block.values or other:
                continue
            block.values[want] = self.target if value.key is None else element(source, value.key, self.step.record)

    def _is_each(self, want: Want) -> bool:
        """Whether a value of a loop or map is wanted for one iteration, or its fields for each."""
        every = want.gather == LIST or (want.gather == STACK and self.step.feeds_back)
        return want.value.index is not None or (want.value.is_part and every)

    def _gathered(self, inside: Block, what: str, sure: bool, maybe: bool = False) -> list[str]:
        """Collect the values of a repeated block in lists, and set how they are read after it.

        `sure`: the number of iterations is known; `maybe`: it may be 0. Returns the lines before the block.
        """
        names: dict[str, str] = {}
        for want, text in list(inside.values.items()):
            picked = want.value.copy if what == "copies" else want.value.index
            sliced = self.step.collects and what == "each"
            every = want.value.is_part and (want.gather != LAST or maybe or sliced)
            if picked is None and not every:
                self.block.values[want] = text
                continue
            if text not in names:
                name = self._local(f"{_suffix(want)}_{what}".strip("_"))
                names[text] = name if name not in names.values() else self._local(f"{name}_{len(names)}")
                inside.add(f"{names[text]}.append({text})")
            dim = 0 if sliced and self.step.along == 0 else 1
            self.block.values[want] = self._one_of(names[text], want, sure, picked, dim)
        return [f"{name} = []" for name in names.values()]

    def _one_of(self, listed: str, want: Want, sure: bool, picked: int | None, dim: int = 1) -> str:
        """The expression for a want from the list of the values of all iterations."""
        value = want.value
        if want.gather == LAST and picked is None and self.step.feeds_back:
            picked = -1
        if picked is not None:
            sure = sure or self._is_sure(picked)
            return f"{listed}[{picked}]" if sure else f"iteration_of({listed}, {picked}, {quoted(str(value))})"
        if want.gather == LIST:
            return listed
        plain = (sure or self.step.collects) and self._is_tensor(want)
        return f"torch.stack({listed}, {dim})" if plain else f"stack_each({listed}, {dim})"

    @property
    def _needs_all(self) -> bool:
        """Whether the whole value of a map is wanted, not only single slices."""
        own = [want for want in self.wants if not want.value.spot and want.value.inner is None]
        return self.step.repeat is not None or any(not self._is_each(want) for want in own)

    def _is_sure(self, index: int) -> bool:
        """Whether an index is known to be in the range of the slices of a map."""
        count = self.state.kinds(f"{self.step.name}#")
        return bool(count) and -int(count) <= index < int(count)

    def _is_tensor(self, want: Want) -> bool:
        listed = want.gather == LIST and want.value.inner is not None
        return not listed and self.state.kinds(_where(self.step, want.value)) == "tensor"

    def _taken(self, value: str) -> str:
        """The expression for `take` on a value."""
        take, record = self.step.take, self.step.record
        if not isinstance(take, str):
            return f"{value}[{take!r}]"
        kind = self.state.kinds(f"{self.step.path}()")
        if record is None and kind not in ("dict", "named"):
            return f"element_of({value}, {quoted(take)})"
        return element(value, take, record or Record((take,), kind == "named"))

    def _taken_each(self, value: str) -> str:
        return self._taken(value) if self.step.takes_each else value

    def _count(self, key: str, literal: Literal) -> str:
        """A number of the step, of the current copy if they differ."""
        of_copy = f"[{self._local('number')}]" if self.step.by_index(literal) else ""
        return self.state.count(self.step, key, literal) + of_copy

    def _local(self, what: str) -> str:
        return self.state.local(self.step.name, what)


WRITERS: dict[type[Step], Callable[..., None]] = {
    AlsoStep: StepWriter._also,
    SplitStep: StepWriter._split,
    GateStep: StepWriter._gate,
    SwitchStep: StepWriter._switch,
    LoopStep: StepWriter._loop,
    MapStep: StepWriter._map,
}
"""Verb -> the method that writes its steps; others are a single call of the body."""


def _suffix(want: Want) -> str:
    value = want.value
    return "_".join(str(part) for part in (value.spot, value.inner, value.key) if part)


def _where(step: Step, value: Value) -> str:
    """The name of a value in the shape check."""
    if value.inner is not None:
        target = step.spots[value.spot].target
        if not isinstance(target, Mount):
            return join(step.path, value.spot, str(value.inner))
        inner = target.graph.step(value.inner.member)
        below = str(value.inner) if inner is None else _where(inner, value.inner)
        return join(step.path, value.spot, below)
    if value.key is not None and (value.spot or step.record is not None):
        return f"{join(step.path, value.spot)}()[{value.key}]"
    if value.spot or value.key is not None:
        return f"{join(step.path, value.spot)}()"
    return f"{step.name}[]" if value.index is not None or value.copy is not None else step.name


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _listed(names: Iterable[str]) -> str:
    return f"[{', '.join(map(quoted, names))}]"
