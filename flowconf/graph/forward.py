"""Prints the `forward` of one graph.

A value that only the next statement reads is called `x`, as one would write by hand; any other keeps the name of its
step and is deleted after its last use, so that no intermediate outlives its need.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile

from flowconf.diagnostics import Place
from flowconf.graph.demand import Demand, Needs, Want, inner_wants, needed_inputs, wants_main
from flowconf.language.names import refusal
from flowconf.language.plan import Applied, Call, Chain, GraphPlan, Literal, Module, Mount, Shared, Step, Value
from flowconf.language.registry import modules

MERGE = {"add": " + ", "mul": " * "}


@dataclass
class ForwardWriter:
    """Writes the statements of one graph, in the order of its steps."""

    graph: GraphPlan
    found: Needs
    demand: Demand
    child_inputs: Mapping[str, frozenset[str]]
    ranks: Mapping[str, int]
    read: dict[Want, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.inputs = [given.name for given in needed_inputs(self.graph, self.found)]
        self.rolling = self._rolling_name()
        self.states = recurrent_members(self.found)
        self.recalled: set[str] = set()
        for name in self.inputs:
            self.read[Want(Value(name))] = name
            self.read |= dict.fromkeys(self.found.wants.get(name, ()), name)

    def _rolling_name(self) -> str:
        """`x`, unless an input of that name is still needed later."""
        own = {step.name for step in self.found.steps}
        last = max(self.found.uses.get("x", (0,)))
        free = "x" not in own and ("x" not in self.inputs or (last == 0 and not self._reads_again(0, "x")))
        return (
            "x" if free else next(name for name in ("y", "z", "stream") if name not in own and name not in self.inputs)
        )

    def lines(self) -> Iterator[tuple[str, str, Place | None]]:
        """Every line with the path and place of its step."""
        yield f"    def forward({', '.join(['self', *self.inputs])}):", "", self.graph.place
        last, deaths = len(self.found.steps) - 1, self._deaths()
        for position, step in enumerate(self.found.steps):
            returns = position == last and self._is_the_return(step)
            target = "return" if returns else self._variable(step, position)
            for text in (*self._recalled(step), *self._statement(step, target)):
                yield f"        {text}", step.path, step.place
            for name in deaths.get(position, []):
                yield f"        del {name}", step.path, step.place
            if returns:
                return
        for name in self.states:
            yield f'        self.memory["{name}"] = {self.read[Want(Value(name))]}', name, self.graph.place
        yield f"        return {self._returned()}", "", self.graph.place

    # names and lifetimes

    def _variable(self, step: Step, position: int) -> str:
        uses = self.found.uses.get(step.name, ())
        wants = self.found.wants.get(step.name, ())
        simple = all(want.value.inner is None and want.value.index is None and not want.each for want in wants)
        if uses != (position + 1,) or not simple or step.verb == "gate" or self._reads_again(position + 1, step.name):
            return step.name
        return self._carried_by_next(step, position) or self.rolling

    def _reads_again(self, position: int, member: str) -> bool:
        """Whether the statement at a position runs several times and reads the value each time, besides its stream."""
        step = self.found.steps[position] if position < len(self.found.steps) else None
        if step is None or not (step.verb == "loop" or step.repeat is not None):
            return False
        return any(value.member == member for value in list(step.reads())[1:])

    def _carried_by_next(self, step: Step, position: int) -> str | None:
        """The name of the next statement's value when that starts as this one: a loop's, or a repeat's."""
        if position + 1 >= len(self.found.steps):
            return None
        following = self.found.steps[position + 1]
        iterates = following.repeat is not None or (following.verb == "loop" and following.times != Literal(1, "1"))
        if not iterates or following.stream != Value(step.name):
            return None
        return self._variable(following, position + 1)

    def _deaths(self) -> dict[int, list[str]]:
        """Position -> the named values that no later statement reads, where more than one statement follows."""
        deaths: dict[int, list[str]] = {}
        for position, step in enumerate(self.found.steps):
            last = max(self.found.uses.get(step.name, (position,)))
            if last < len(self.found.steps) - 2 and self._variable(step, position) == step.name:
                deaths.setdefault(last, []).append(step.name)
        return deaths

    def _is_the_return(self, step: Step) -> bool:
        """Whether the last step's expression can stand behind `return`."""
        if not self.demand.main or self.demand.wants or len(self.graph.outputs) != 1 or step.repeat is not None:
            return False
        if self.states:
            return False
        value = self.graph.outputs[0][1]
        plain = value == Value(step.name) and step.verb not in ("loop", "map", "split", "gate")
        alone = set(self.found.uses.get(step.name, ())) == {len(self.found.steps)}
        return plain and alone and not inner_wants(self.found.wants.get(step.name, ()))

    def _returned(self) -> str:
        main = ""
        if self.demand.main:
            values = [(name, self.read[Want(value)]) for name, value in self.graph.outputs]
            main = values[0][1] if len(values) == 1 else _dict(values)
        if not self.demand.wants:
            return main
        seen = _dict([(want.key, self.read[want]) for want in self.demand.wants])
        return f"{main}, {seen}" if main else seen

    def _recalled(self, step: Step) -> Iterator[str]:
        """The previous call's values that a step is the first to read."""
        for value in step.reads():
            if value.recurrent and value.member not in self.recalled:
                self.recalled.add(value.member)
                name = self._local(f"{value.member}_before")
                like = self.read[Want(step.stream)] if not step.stream.recurrent else self.inputs[0]
                yield f'{name} = recall(self.memory, "{value.member}", {like})'
                self.read[Want(value)] = name

    def _local(self, name: str) -> str:
        """`name` for a variable of our own, with a `_` behind it where a member or input is called so."""
        return name if self.graph.step(name) is None and self.graph.input(name) is None else self._local(f"{name}_")

    # statements

    def _statement(self, step: Step, target: str) -> list[str]:
        stream = self.read[Want(step.stream)]
        if step.repeat is None:
            return self._once(step, stream, target, self._address(step))
        return self._in_series(step, stream, target)

    def _once(self, step: Step, stream: str, target: str, address: str) -> list[str]:
        match step.verb:
            case "loop":
                return self._loop(step, stream, target, address)
            case "map":
                return self._map(step, stream, target, address)
            case "split":
                return self._split(step, stream, target, address)
            case "also":
                return self._also(step, stream, target, address)
            case "gate":
                return self._gate(step, stream, target, address)
            case "switch":
                return self._switch(step, stream, target, address)
        return self._through(step, stream, target, address)

    def _through(self, step: Step, stream: str, target: str, address: str) -> list[str]:
        call = self._call(step.body, stream, step.stream_fields, address)
        if target == "return":
            return [f"return {call}{_taken(step)}"]
        seen = self._local(f"{step.name}_seen")
        self._define(step, self.found.wants.get(step.name, ()), target, seen)
        return self._assigned(step, target, call, _taken(step), seen)

    def _assigned(self, step: Step, target: str, call: str, take: str, seen: str) -> list[str]:
        """`target` is what `take` picks from a body's call; `seen` holds the values from inside that are asked for."""
        if not self._has_seen(step.body):
            return [f"{target} = {call}{take}"]
        lines = [f"{self._unpacked(step, target, seen)} = {call}"]
        return [*lines, f"{target} = {target}{take}"] if take and step.body.home in self.found.main else lines

    def _body_call(self, step: Step, stream: str, address: str) -> str:
        """The call of a step's body, whose members may stand beside a skip or a condition."""
        if _in_dict(step) and isinstance(step.body.module, Shared):
            return self._call(step.body, stream, step.stream_fields, self._address(step))
        return self._call(step.body, stream, step.stream_fields, address, apart=_in_dict(step))

    def _also(self, step: Step, stream: str, target: str, address: str) -> list[str]:
        change, take = self._body_call(step, stream, address), _taken(step)
        seen = self._local(f"{step.name}_seen")
        lines: list[str] = []
        if self._has_seen(step.body):
            name = self._local(f"{step.name}_change")
            lines, change, take = self._assigned(step, name, change, take, seen), name, ""
        kept = stream
        if step.skip is not None:
            skip = f'{address}["skip"]' if _in_dict(step) else f"{address}.skip"
            kept = self._call(step.skip, stream, step.stream_fields, skip)
        self._define(step, self.found.wants.get(step.name, ()), target, seen)
        assign = "return" if target == "return" else f"{target} ="
        return [*lines, f"{assign} {kept} + {change}{take}"]

    def _split(self, step: Step, stream: str, target: str, address: str) -> list[str]:
        wants = self.found.wants.get(step.name, ())
        lines, branches = [], []
        named = {want.value.entry for want in wants if want.value.entry is not None}
        plain = [want for want in wants if want.value.entry is None]
        for branch, applied in step.parts:
            if not plain and branch not in named:
                continue
            call = self._call(applied, stream, step.stream_fields, f'{address}["{branch}"]')
            variable = self._local(f"{step.name}_{branch}")
            if self._has_seen(applied):
                lines.append(f"{variable}, {variable}_seen = {call}")
            elif branch in named:
                lines.append(f"{variable} = {call}")
            else:
                variable = call
            branches.append(variable)
            self._define(step, [want for want in wants if want.value.entry == branch], variable, f"{variable}_seen")
        self._define(step, plain, target, "")
        if not plain:
            return lines
        return [*lines, f"{target} = {self._merged(step, branches, address)}{_taken(step)}"]

    def _gate(self, step: Step, stream: str, target: str, address: str) -> list[str]:
        """The experts' outputs, weighed by the router and added one after the other."""
        assert step.router is not None
        wants = self.found.wants.get(step.name, ())
        weights = self._local(f"{step.name}_weights")
        routed = self._call(step.router, stream, step.stream_fields, f'{address}["router"]')
        lines = [f"{weights} = {routed}"]
        axes = ", None" * (self.ranks.get(step.name, 0) + 1)
        last = len(step.parts) - 1
        total = self._local(f"{step.name}_sum") if target == stream else target
        for number, (branch, applied) in enumerate(step.parts):
            call = self._call(applied, stream, step.stream_fields, f'{address}["{branch}"]')
            variable, inside = (
                self._local(f"{step.name}_{branch}"),
                [want for want in wants if want.value.entry == branch],
            )
            if self._has_seen(applied):
                lines.append(f"{variable}, {variable}_seen = {call}")
            elif inside:
                lines.append(f"{variable} = {call}")
            self._define(step, inside, variable, f"{variable}_seen")
            term = f"{weights}[..., {number}{axes}] * {variable if inside else call}"
            sum_so_far = term if number == 0 else f"{total} + {term}"
            lines.append(f"{target if number == last else total} = {sum_so_far}")
        self._define(step, [want for want in wants if want.value.entry is None], target, "")
        return [*lines, *_taken_after(step, target)]

    def _switch(self, step: Step, stream: str, target: str, address: str) -> list[str]:
        assert step.router is not None
        router = self._call(step.router, stream, step.stream_fields, f'{address}["router"]')
        branches = ", ".join(f'{address}["{branch}"]' for branch, _ in step.parts)
        names = ", ".join(f'"{branch}"' for branch, _ in step.parts)
        self._define(step, self.found.wants.get(step.name, ()), target, "")
        assign = "return" if target == "return" else f"{target} ="
        return [f"{assign} route({stream}, {router}, [{branches}], [{names}]){_taken(step)}"]

    def _merged(self, step: Step, branches: list[str], address: str) -> str:
        merge = step.merge
        if isinstance(merge, Applied):
            return self._call(merge, f"[{', '.join(branches)}]", None, f'{address}["merge"]')
        listed = ", ".join(branches)
        match merge:
            case "add" | "mul":
                total = MERGE[merge].join(branches)
                return f"({total})" if step.take is not None else total
            case "mean":
                return f"({' + '.join(branches)}) / {len(branches)}"
            case "max":
                nested = branches[0]
                for branch in branches[1:]:
                    nested = f"torch.maximum({nested}, {branch})"
                return nested
            case "cat" | "stack":
                return f"torch.{merge}([{listed}], {step.dim})"
        raise AssertionError(merge)

    def _loop(self, step: Step, stream: str, target: str, address: str) -> list[str]:
        wants = self.found.wants.get(step.name, ())
        over = {value: self.read[Want(value)] for value in step.slices_of()}
        items = self._slice_names(over)
        self.read |= {Want(value): name for value, name in items.items()}
        body = self._body_call(step, target, address)
        seen = self._local(f"{step.name}_seen")
        take = _taken(step) if step.takes_each else ""
        before, inside = self._collected(step, wants, target, seen)
        if step.times is not None and step.times.text == "1" and not inside and step.condition is None:
            lines = self._assigned(step, target, self._body_call(step, stream, address), take, seen)
        else:
            lines = [f"{target} = {stream}"] if target != stream else []
            lines += [*before, self._turns(step, over, items)]
            halt = self._halt(step, target, address)
            before_body, after_body = (halt, []) if step.halt == "while" else ([], halt)
            once = self._assigned(step, target, body, take, seen)
            lines += [f"    {text}" for text in (*before_body, *once, *inside, *after_body)]
        return lines if take else [*lines, *_taken_after(step, target)]

    def _slice_names(self, over: Mapping[Value, str]) -> dict[Value, str]:
        """A name for one slice of each value that a loop goes over."""
        if len(over) == 1:
            return dict.fromkeys(over, self._local("item"))
        return {value: self._local(f"{value.name}_item") for value in over}

    def _turns(self, step: Step, over: Mapping[Value, str], items: Mapping[Value, str]) -> str:
        """The head of a loop: so many times, or once for each slice."""
        if step.times is not None:
            return f"for _ in range({self._count(step, 'times', step.times)}):"
        slices = [f"{text}.unbind({step.dim})" for text in over.values()]
        together = slices[0] if len(slices) == 1 else f"zip({', '.join(slices)}, strict=True)"
        return f"for {', '.join(items.values())} in {together}:"

    def _halt(self, step: Step, target: str, address: str) -> list[str]:
        if step.condition is None:
            return []
        at = f'{address}["condition"]' if _in_dict(step) else f"{address}.condition"
        return [f"if halts({self._call(step.condition, target, step.stream_fields, at)}):", "    break"]

    def _in_series(self, step: Step, stream: str, target: str) -> list[str]:
        """`repeat`: the statement once for each copy."""
        wants = self.found.wants.get(step.name, ())
        reused = isinstance(step.body.module, Shared)
        module = "_" if reused else self._local(f"{step.name}_copy")
        body = self._once(step, target, target, self._address(step) if reused else module)
        assert step.repeat is not None
        copies = f"range({self._count(step, 'repeat', step.repeat)})" if reused else self._address(step)
        before, inside = self._collected(step, wants, target, self._local(f"{step.name}_seen"))
        lines = [f"{target} = {stream}"] if target != stream else []
        return [
            *lines,
            *before,
            f"for {module} in {copies}:",
            *(f"    {text}" for text in (*body, *inside)),
        ]

    def _collected(self, step: Step, wants: Iterable[Want], target: str, seen: str) -> tuple[list[str], list[str]]:
        """Lists that gather the values of every iteration: the lines before the loop, and those inside."""
        before: list[str] = []
        inside: list[str] = []
        for want in wants:
            once = self._within(want, target, seen)
            if not want.each and want.value.index is None:
                self.read[want] = once
                continue
            inner = f"_{want.value.name}" if want.value.name != step.name else ""
            name = self._local(f"{step.name}{inner}_each")
            name = name if f"{name} = []" not in before else f"{name}_{len(before)}"
            before.append(f"{name} = []")
            inside.append(f"{name}.append({once})")
            self.read[want] = f"torch.stack({name}, 1)" if want.value.index is None else f"{name}[{want.value.index}]"
        return before, inside

    def _map(self, step: Step, stream: str, target: str, address: str) -> list[str]:
        each = _taken(step) if step.takes_each else ""
        after = [] if each else _taken_after(step, target)
        if step.slices is not None:
            return [*self._slices(step, stream, target, address, each), *after]
        if step.batched:
            return [*self._batched(step, stream, target, address, each), *after]
        return [*self._one_by_one(step, stream, target, address, each), *after]

    def _one_by_one(self, step: Step, stream: str, target: str, address: str, take: str) -> list[str]:
        wants = self.found.wants.get(step.name, ())
        item = self._local("item")
        call = self._call(step.body, item, None, address)
        items = f"for {item} in {stream}.unbind({step.dim})"
        has_main, has_seen = wants_main(step, wants), self._has_seen(step.body)
        seen = self._local(f"{step.name}_seen")
        self._define_stacked(step, wants, target, seen)
        if not has_seen and step.fields is None:
            return [f"{target} = torch.stack([{call}{take} {items}], {step.dim})"]
        parts = self._local(f"{step.name}_parts")
        lines = [f"{parts} = [{call} {items}]"]
        pair = has_main and has_seen
        if has_main:
            pick = ("[0]" if pair else "") + take
            lines.append(f"{target} = {_stacked(parts, pick, step.fields is not None, step.dim or 0)}")
        if has_seen:
            lines.append(f"{seen} = {_stacked(parts, '[1]' if pair else '', True, 1)}")
        return lines

    def _slices(self, step: Step, stream: str, target: str, address: str, take: str) -> list[str]:
        assert step.slices is not None
        piece = self._local("piece")
        call = self._call(step.body, piece, None, address) + take
        pieces = f"{stream}.chunk({self._count(step, 'slices', step.slices)}, -1)"
        self._define(step, self.found.wants.get(step.name, ()), target, "")
        return [f"{target} = torch.cat([{call} for {piece} in {pieces}], -1)"]

    def _batched(self, step: Step, stream: str, target: str, address: str, take: str) -> list[str]:
        wants = self.found.wants.get(step.name, ())
        slices = f"{stream}.movedim({step.dim}, 1)" if step.dim != 1 else stream
        lines = []
        if slices != stream:
            moved = self._local(f"{step.name}_slices")
            lines.append(f"{moved} = {slices}")
            slices = moved
        call = self._call(
            step.body, f"{slices}.flatten(0, 1)", None, address, f".repeat_interleave({slices}.shape[1], 0)"
        )
        shape = f"{slices}.shape[:2]"
        back = f".movedim(1, {step.dim})" if step.dim != 1 else ""
        has_main, has_seen = wants_main(step, wants), self._has_seen(step.body)
        seen = self._local(f"{step.name}_seen")
        self._define_stacked(step, wants, target, seen)
        if has_main and not has_seen and step.fields is None:
            return [*lines, f"{target} = {call}{take}.unflatten(0, {shape}){back}"]
        flat = self._local(f"{step.name}_flat") if target == slices else target
        left = ", ".join([flat] * has_main + [seen] * has_seen)
        lines.append(f"{left} = {call}")
        if has_main and step.fields is None:
            lines.append(f"{target} = {flat}{take}.unflatten(0, {shape}){back}")
        elif has_main:
            lines.append(f"{target} = {self._unfolded(flat, shape, back)}")
        if has_seen:
            lines.append(f"{seen} = {self._unfolded(seen, shape, '')}")
        return lines

    def _unfolded(self, values: str, shape: str, back: str) -> str:
        """A dict of tensors with the slices out of the batch again."""
        name, value = self._local("name"), self._local("value")
        return f"{{{name}: {value}.unflatten(0, {shape}){back} for {name}, {value} in {values}.items()}}"

    # values

    def _define(self, step: Step, wants: Iterable[Want], target: str, seen: str) -> None:
        """How the values of a step that runs once are read from now on."""
        if step.iterates and step.slices is None:
            return
        for want in wants:
            self.read[want] = self._within(want, target, seen)

    def _define_stacked(self, step: Step, wants: Iterable[Want], target: str, seen: str) -> None:
        for want in wants:
            text = self._within(want, target, seen)
            if want.value.index is not None:
                dim = 1 if want.value.inner is not None else step.dim
                text = f"{text}.select({dim}, {want.value.index})"
            self.read[want] = text

    def _within(self, want: Want, target: str, seen: str) -> str:
        if want.inside is not None:
            return f'{seen}["{want.inside.key}"]'
        step = self.graph.step(want.value.member)
        if want.value.entry is not None and step is not None and len(step.parts) == 1 and step.fields is not None:
            return f'{target}["{want.value.entry}"]'
        return target

    def _has_seen(self, applied: Applied) -> bool:
        """Whether the module at the applied path also returns values from inside."""
        return bool(self.found.inside.get(applied.home))

    def _unpacked(self, step: Step, target: str, seen: str) -> str:
        return f"{target}, {seen}" if step.body.home in self.found.main else seen

    # calls

    def _address(self, step: Step) -> str:
        if isinstance(step.body.module, Shared):
            return f"self.{address(self.graph, step.body.module.path)}"
        return f"self.{step.path}"

    def _call(
        self,
        applied: Applied,
        stream: str,
        fields: tuple[str, ...] | None,
        at: str,
        repeated: str = "",
        apart: bool = False,
    ) -> str:
        """A module's call; `apart`: the members of a chain stand in a dict and are called one by one."""
        module = applied.target
        if isinstance(module, Chain) and (apart or any(member.using for member in module.members)):
            passed = stream
            for number, member in enumerate(module.members):
                key = f'"{number}"' if apart else str(number)
                passed = self._call(member, passed, None, f"{at}[{key}]", repeated)
            return passed
        kept = self.child_inputs.get(applied.home)
        using = {
            name: f"{self.read[Want(value)]}{repeated}" for name, value in applied.using if kept is None or name in kept
        }
        return f"{at}({', '.join(_arguments(module, stream, fields, using, kept))})"

    def _count(self, step: Step, key: str, literal: Literal) -> str:
        attribute = count_attribute(self.graph, step, key, literal)
        return literal.text if attribute is None else f"self.{attribute}"


def _taken(step: Step) -> str:
    """What `take` adds to an expression."""
    return "" if step.take is None else f"[{step.take!r}]"


def _taken_after(step: Step, target: str) -> list[str]:
    return [] if step.take is None else [f"{target} = {target}{_taken(step)}"]


def _in_dict(step: Step) -> bool:
    """Whether the step's body stands in a `ModuleDict`, because something else stands below its path."""
    return bool(step.extras) and isinstance(step.body.module, Chain | Shared)


def recurrent_members(found: Needs) -> list[str]:
    """The members whose value is kept for the next call, in declared order."""
    read = {value.member for step in found.steps for value in step.reads() if value.recurrent}
    return [step.name for step in found.steps if step.name in read]


def count_attribute(graph: GraphPlan, step: Step, key: str, literal: Literal) -> str | None:
    """The attribute that keeps a number for `forward`, called like its parameter if it can be; None for a literal."""
    if literal.text.isdigit():
        return None
    taken = {other.path for other in graph.steps} | {given.name for given in graph.inputs}
    free = literal.text.isidentifier() and literal.text not in taken and refusal(literal.text) is None
    own = literal.text if free else None
    return own or f"{step.name}_{key}"


def address(graph: GraphPlan, path: str, each: bool = False) -> str:
    """A path of the graph as Python reaches it from `self`: through attributes, `["branch"]` and `[index]`.

    `each`: the path names no copies of what is repeated, and `[*]` stands for all of them.
    """
    head, *rest = path.split(".")
    step = graph.step(head)
    if step is None:
        return path
    text, shared = head, step.body.module
    if isinstance(shared, Shared):
        home = head if shared.path == head else address(graph, shared.path)
        return home + _rest(shared.module, rest, each)
    if step.repeat is not None and rest:
        text += "[*]" if each else f"[{rest.pop(0)}]"
    beside = step.beside()
    if not rest or rest[0] not in beside:
        return text + _rest(step.body.module, rest, each, _in_dict(step))
    name = rest.pop(0)
    text += f'["{name}"]' if len(step.parts) > 1 or _in_dict(step) else f".{name}"
    return text + _rest(beside[name].module, rest, each)


def _rest(module: Module, rest: list[str], each: bool, apart: bool = False) -> str:
    if not rest:
        return ""
    if isinstance(module, Shared):
        return _rest(module.module, rest, each)
    if isinstance(module, Mount):
        return f".{address(module.graph, '.'.join(rest), each)}"
    if isinstance(module, Chain):
        key = f'"{rest[0]}"' if apart else rest[0]
        return f"[{key}]" + _rest(module.members[int(rest[0])].module, rest[1:], each)
    return f".{'.'.join(rest)}"


def _arguments(
    module: Module, stream: str, fields: tuple[str, ...] | None, using: Mapping[str, str], kept: frozenset[str] | None
) -> list[str]:
    """The arguments of a call: by position as far as `forward` takes them in a known order, then by name.

    `using` holds what is passed by name; `kept` the inputs of a graph that are left once it is pruned.
    """
    if isinstance(module, Mount):
        own = [given.name for given in module.graph.inputs if not given.captured]
        order = [given.name for given in module.graph.inputs if kept is not None and given.name in kept]
        if fields is not None and len(own) > 1:
            given = {name: f'{stream}["{name}"]' for name in fields if name in own} | dict(using)
            return _in_order(order, given)
    else:
        order = modules.class_source(module.name).forward.positional if isinstance(module, Call) else []
    return [stream, *_in_order(order[1:], using)]


def _in_order(order: Iterable[str], given: Mapping[str, str]) -> list[str]:
    first = list(takewhile(lambda name: name in given, order))
    return [given[name] for name in first] + [f"{name}={text}" for name, text in given.items() if name not in first]


def _stacked(parts: str, pick: str, is_dict: bool, dim: int) -> str:
    if not is_dict:
        return f"torch.stack([part{pick} for part in {parts}], {dim})"
    return f"{{name: torch.stack([part{pick}[name] for part in {parts}], {dim}) for name in {parts}[0]{pick}}}"


def _dict(items: Iterable[tuple[str, str]]) -> str:
    return "{" + ", ".join(f'"{name}": {value}' for name, value in items) + "}"
