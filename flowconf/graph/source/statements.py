"""Prints the statements of one step, and the expressions that read its values.

The values of iterations are collected in lists if they are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from flowconf.graph.source.addresses import address, in_dict
from flowconf.graph.source.block import Block, Surroundings
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


class StepWriter:
    """Writes one step."""

    def __init__(self, step: Step, wants: tuple[Want, ...], around: Surroundings) -> None:
        self.step, self.wants, self.around = step, wants, around
        self.whole = runs_whole(step, wants)
        self.calls = ModuleCalls(step, wants, around, self.whole)

    def write(self, stream: str, target: str) -> Block:
        """The statements that assign the value of the step for `stream` to `target`."""
        if self.step.repeat is None:
            return self._once(stream, target, self._address())
        return self._in_series(stream, target)

    def _once(self, stream: str, target: str, at: str) -> Block:
        block = Block()
        WRITERS.get(type(self.step), StepWriter._through)(self, self.step, block, stream, target, at)
        return block

    def _in_series(self, stream: str, target: str) -> Block:
        """`repeat`: the statements once for each copy."""
        reused = isinstance(self.step.body.module, Shared)
        copy = "_" if reused else self._local("copy")
        body = self._once(target, target, self._address() if reused else copy)
        assert self.step.repeat is not None
        copies = f"range({self.around.count('repeat', self.step.repeat)})" if reused else self._address()
        if any(self.step.by_index(literal) for literal in self.step.counts.values()):
            copy, copies = f"{self._local('number')}, {copy}", f"enumerate({copies})"
        block = Block([f"{target} = {stream}"] if target != stream else [])
        before = self._gathered(body, block, "copies", sure=True)
        block.add(*before, f"for {copy} in {copies}:", *_indented(body.lines))
        return block

    # verbs

    def _through(self, step: Step, block: Block, stream: str, target: str, at: str) -> None:
        into = target if target != "return" else None
        value = self.calls.call(block, "", stream, at, into, self.step.stream_record)
        if self.whole:
            self._finish(block, value, target)

    def _also(self, step: AlsoStep, block: Block, stream: str, target: str, at: str) -> None:
        kept, apart = stream, in_dict(self.step)
        if step.skip is not None and (self.whole or self.calls.wants_of("skip")):
            skip_at = f'{at}["skip"]' if apart else f"{at}.skip"
            ahead = bool(self.calls.wants_of(""))
            kept = self.calls.call(block, "skip", stream, skip_at, None, self.step.stream_record, keep=ahead)
        if self.whole or self.calls.wants_of(""):
            record = self.step.stream_record
            change = self._taken_each(
                self.calls.call(block, "", stream, at, self._local("change"), record, apart=apart)
            )
        if self.whole:
            self._finish(block, f"{kept} + {change}", target)

    def _split(self, step: SplitStep, block: Block, stream: str, target: str, at: str) -> None:
        branches = self._branches(block, stream, at)
        if not self.whole:
            return
        merge, listed = step.merge, ", ".join(branches)
        if isinstance(merge, Applied):
            self._finish(block, self.calls.call(block, "merge", f"[{listed}]", f'{at}["merge"]'), target)
        elif merge in ("add", "mul"):
            self._finish(block, MERGE[merge].join(branches), target, compound=True)
        elif merge == "mean":
            self._finish(block, f"({' + '.join(branches)}) / {len(branches)}", target, compound=True)
        elif merge == "max":
            nested = branches[0]
            for branch in branches[1:]:
                nested = f"torch.maximum({nested}, {branch})"
            self._finish(block, nested, target)
        else:
            assert merge in ("cat", "stack"), merge
            self._finish(block, f"torch.{merge}([{listed}], {step.dim})", target)

    def _branches(self, block: Block, stream: str, at: str) -> list[str]:
        """The values of the branches; those before one that gets a name also get one, to preserve the order."""
        wanted = [name for name, _ in self.step.parts if self.calls.wants_of(name)]
        found, named = [], bool(wanted)
        for name, _ in self.step.parts:
            if self.whole or name in wanted:
                record = self.step.stream_record
                found.append(self.calls.call(block, name, stream, f"{at}[{quoted(name)}]", None, record, keep=named))
            named = named and name != wanted[-1]
        return found

    def _gate(self, step: GateStep, block: Block, stream: str, target: str, at: str) -> None:
        """The outputs of the experts, weighted by the router and added one by one."""
        if step.top is not None:
            self._top(step, step.top, block, stream, target, at)
            return
        weights, record = self._local("weights"), self.step.stream_record
        if self.whole or self.calls.wants_of("router"):
            routed = self.calls.call(block, "router", stream, f'{at}["router"]', weights, record)
            if routed != weights:
                block.add(f"{weights} = {routed}")
            if self.around.rank is None:
                block.add(f"one_for_each({weights}, {len(step.parts)})")
        shares, rank = self._local("shares"), self.around.rank or 0
        if self.whole:
            spread = f"{weights}[..., {', '.join(['None'] * rank)}]" if rank else weights
            block.add(f"{shares} = {spread}.split(1, {-1 - rank})")
        total, running = "", self._local("sum") if target == stream else target
        for number, (name, _) in enumerate(self.step.parts):
            if not self.whole and not self.calls.wants_of(name):
                continue
            value = self.calls.call(block, name, stream, f"{at}[{quoted(name)}]", None, record)
            if self.whole:
                term = f"{shares}[{number}] * {value}"
                block.add(f"{running} = {total}{term}")
                total = f"{running} + "
        if self.whole:
            self._finish(block, running, target)

    def _top(self, step: GateStep, top: Literal, block: Block, stream: str, target: str, at: str) -> None:
        """The experts with the largest weights, each on its rows."""
        weights = self.calls.call(block, "router", stream, f'{at}["router"]', None, self.step.stream_record)
        if self.whole:
            branches, names, besides = self._chosen(at)
            given = [stream, weights, self._count("top", top), branches, names, *besides]
            self._finish(block, f"top_experts({', '.join(given)})", target)

    def _switch(self, step: SwitchStep, block: Block, stream: str, target: str, at: str) -> None:
        index = self.calls.call(block, "router", stream, f'{at}["router"]', None, self.step.stream_record)
        if self.whole:
            branches, names, besides = self._chosen(at)
            self._finish(block, f"route({', '.join([stream, index, branches, names, *besides])})", target)

    def _chosen(self, at: str) -> tuple[str, str, list[str]]:
        """The callables of branches of which only some run, their names, and the further inputs of all of them."""
        step = self.step
        besides: dict[Value, str] = {}
        for _, part in step.parts:
            for name, value in part.using:
                taken = {"x", *(other for known, other in besides.items() if known != value)}
                besides.setdefault(value, f"{name}_" if name in taken else name)
        branches = [self._branch(name, f"{at}[{quoted(name)}]", besides) for name, _ in step.parts]
        names = _listed(name for name, _ in step.parts)
        return f"[{', '.join(branches)}]", names, [self.around.text(value) for value in besides]

    def _branch(self, name: str, at: str, besides: Mapping[Value, str]) -> str:
        """The callable for the rows of a branch: its module, or a function if it has further inputs or outputs."""
        applied = self.step.spots[name]
        asked = self.calls.asked(applied)
        if not besides and not asked.wants and not isinstance(applied.target, Mount):
            return at
        arguments = self.calls.arguments(applied, "x", self.step.stream_record, lambda value: besides[value])
        if not besides and not asked.wants and arguments == ["x"]:
            return at
        return f"lambda {', '.join(['x', *besides.values()])}: {at}({', '.join(arguments)})" + (
            "[0]" if asked.wants else ""
        )

    def _loop(self, step: LoopStep, block: Block, stream: str, target: str, at: str) -> None:
        items = self.calls.items()
        record = step.stream_record
        if record is not None and record.named and self.calls.binds_by_name(step.body):
            record, stream = Record(record.names), f"{stream}._asdict()"
        once = step.times is not None and step.times.text == "1" and step.condition is None
        single = once and not any(self._is_each(want) for want in self.wants)
        body = Block()
        value = self.calls.call(body, "", stream if single else target, at, target, record, apart=in_dict(self.step))
        value = self._taken_each(value)
        if value != target:
            body.add(f"{target} = {value}")
        self._define(body, target, target, each=True)
        if single:
            block.add(*body.lines)
            block.values |= body.values
        else:
            block.add(*([f"{target} = {stream}"] if target != stream else []))
            self._iterations(step, block, body, *self._condition(step, target, at), self._turns(step, items))
        self._finish(block, target, target)

    def _turns(self, step: LoopStep, items: Mapping[Value, str]) -> str:
        """The head of a loop: a number of times, or once for each slice."""
        if step.times is not None:
            return f"for _ in range({self._count('times', step.times)}):"
        slices = [f"{self.around.text(value)}.unbind({step.dim})" for value in items]
        together = slices[0] if len(slices) == 1 else f"zip({', '.join(slices)}, strict=True)"
        return f"for {', '.join(items.values())} in {together}:"

    def _iterations(
        self, step: LoopStep, block: Block, body: Block, condition: Block, test: list[str], turns: str
    ) -> None:
        """The `for` of a loop: its body, and its condition before or after that."""
        first = step.halt == "while"
        sure = not test and step.times is not None
        before = self._gathered(body, block, "each", sure, maybe=first)
        before += self._gathered(condition, block, "each", sure=False)
        halt = [*condition.lines, *test]
        inside = [*halt, *body.lines] if first else [*body.lines, *halt]
        block.add(*before, turns, *_indented(inside))

    def _condition(self, step: LoopStep, target: str, at: str) -> tuple[Block, list[str]]:
        """The statements of the condition of a loop, and the test that ends it; empty without a condition."""
        block = Block()
        if step.condition is None:
            return block, []
        condition_at = f'{at}["condition"]' if in_dict(self.step) else f"{at}.condition"
        value = self.calls.call(block, "condition", target, condition_at, None, self.step.stream_record)
        return block, [f"if halts({value}):", "    break"]

    def _map(self, step: MapStep, block: Block, stream: str, target: str, at: str) -> None:
        if step.batched:
            self._batched(step, block, stream, target, at)
        else:
            self._one_by_one(step, block, stream, target, at)

    def _one_by_one(self, step: MapStep, block: Block, stream: str, target: str, at: str) -> None:
        item = self.around.names.local("item" if step.slices is None else "piece")
        items = f"{stream}.unbind({step.dim})"
        if step.slices is not None:
            items = f"{stream}.chunk({self._count('slices', step.slices)}, -1)"
        body = Block()
        part = self._local("part")
        value = self._taken_each(self.calls.call(body, "", item, at, part))
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
            lists = self._gathered(body, block, "each", sure=step.slices is not None)
            gather = [f"{whole}.append({value})"] if self.whole else []
            block.add(*([f"{whole} = []"] if self.whole else []), *lists)
            block.add(f"for {item} in {items}:", *_indented([*body.lines, *gather]))
            parts = whole
        elif any(want.value.key is None for want in own):
            block.add(f"{self._local('parts')} = {parts}")
            parts = self._local("parts")
        for want in own:
            if want.value.key is None:
                block.values[want] = self._one_of(parts, want, step.slices is not None, want.value.index)
        if self._needs_all:
            self._finish(block, self._put_together(step, parts), target)

    def _put_together(self, step: MapStep, parts: str) -> str:
        """The value of a map, from the values of all slices."""
        plain = self.around.kinds(f"{step.name}[]") == "tensor"
        if step.slices is not None:
            return f"torch.cat({parts}, -1)" if plain else f"cat_each({parts}, -1)"
        return f"torch.stack({parts}, {step.dim})" if plain else f"stack_each({parts}, {step.dim})"

    def _batched(self, step: MapStep, block: Block, stream: str, target: str, at: str) -> None:
        slices = stream
        if step.dim != 1:
            slices = self._local("slices")
            block.add(f"{slices} = {stream}.movedim({step.dim}, 1)")
        shape = f"{slices}.shape[:2]"
        body = Block()
        rows = f".repeat_interleave({slices}.shape[1], 0)"
        value = self._taken_each(
            self.calls.call(body, "", f"{slices}.flatten(0, 1)", at, self._local("flat"), rows=rows)
        )
        block.add(*body.lines)
        names: dict[str, str] = {}
        for want, text in body.values.items():
            plain = self._is_tensor(want)
            if text not in names:
                names[text] = self._local(f"{_suffix(want)}_slices")
                apart = f"{text}.unflatten(0, {shape})" if plain else f"unflatten_each({text}, {shape})"
                block.add(f"{names[text]} = {apart}")
            block.values[want] = self._slice_of(names[text], want, 1, plain)
        if not self.whole:
            return  # an index selects from all of them
        plain = self.around.kinds(f"{step.name}[]") == "tensor"
        back = f".movedim(1, {step.dim})" if step.dim != 1 else ""
        moved = f", {step.dim}" if step.dim != 1 else ""
        text = f"{value}.unflatten(0, {shape}){back}" if plain else f"unflatten_each({value}, {shape}{moved})"
        self._finish(block, text, target)
        for want in self.wants:
            if not want.value.spot and want.value.inner is None and self._is_each(want):
                whole = element(target, want.value.key, step.record) if want.value.key else target
                block.values[want] = self._slice_of(whole, want, step.dim or 0, self._is_tensor(want))

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

    def _finish(self, block: Block, value: str, target: str, compound: bool = False) -> None:
        """Assign the value of the step to its name, after `take`."""
        fields = [want for want in self.wants if want.value.key is not None and not want.value.spot]
        source, final = target, value
        if self.step.take is not None and not self.step.takes_each:
            if fields:
                source = self._local("whole")
                block.add(f"{source} = {value}")
            final = self._taken(source if fields else f"({value})" if compound else value)
        if target == "return":
            block.add(f"return {final}")
            return
        if final != target:
            block.add(f"{target} = {final}")
        self._define(block, target, source)

    def _define(self, block: Block, target: str, source: str, each: bool = False) -> None:
        """Set the expressions for the value of the step and its fields; `each`: for those of one iteration."""
        for want in self.wants:
            value = want.value
            other = self.step.iterates and self._is_each(want) != each
            if value.spot or value.inner is not None or want in block.values or other:
                continue
            block.values[want] = target if value.key is None else element(source, value.key, self.step.record)

    def _is_each(self, want: Want) -> bool:
        """Whether a value of a loop or map is wanted for one iteration, or its fields for each."""
        every = want.gather == LIST or (want.gather == STACK and self.step.feeds_back)
        return want.value.index is not None or (want.value.is_part and every)

    def _gathered(self, inside: Block, after: Block, what: str, sure: bool, maybe: bool = False) -> list[str]:
        """Collect the values of a repeated block in lists, and set how they are read `after` it.

        `sure`: the number of iterations is known; `maybe`: it may be 0. Returns the lines before the block.
        """
        names: dict[str, str] = {}
        for want, text in list(inside.values.items()):
            picked = want.value.copy if what == "copies" else want.value.index
            sliced = self.step.collects and what == "each"
            every = want.value.is_part and (want.gather != LAST or maybe or sliced)
            if picked is None and not every:
                after.values[want] = text
                continue
            if text not in names:
                name = self._local(f"{_suffix(want)}_{what}".strip("_"))
                names[text] = name if name not in names.values() else self._local(f"{name}_{len(names)}")
                inside.add(f"{names[text]}.append({text})")
            dim = 0 if sliced and self.step.along == 0 else 1
            after.values[want] = self._one_of(names[text], want, sure, picked, dim)
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
        count = self.around.kinds(f"{self.step.name}#")
        return bool(count) and -int(count) <= index < int(count)

    def _is_tensor(self, want: Want) -> bool:
        listed = want.gather == LIST and want.value.inner is not None
        return not listed and self.around.kinds(_where(self.step, want.value)) == "tensor"

    def _taken(self, value: str) -> str:
        """The expression for `take` on a value."""
        take, record = self.step.take, self.step.record
        if not isinstance(take, str):
            return f"{value}[{take!r}]"
        kind = self.around.kinds(f"{self.step.path}()")
        if record is None and kind not in ("dict", "named"):
            return f"element_of({value}, {quoted(take)})"
        return element(value, take, record or Record((take,), kind == "named"))

    def _taken_each(self, value: str) -> str:
        return self._taken(value) if self.step.takes_each else value

    def _count(self, key: str, literal: Literal) -> str:
        """A number of the step, of the current copy if they differ."""
        of_copy = f"[{self._local('number')}]" if self.step.by_index(literal) else ""
        return self.around.count(key, literal) + of_copy

    def _local(self, what: str) -> str:
        return self.around.names.local(self.step.name, what)

    def _address(self) -> str:
        return f"self.{address(self.around.graph, self.step.path)}"


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
