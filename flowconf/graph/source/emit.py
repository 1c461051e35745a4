"""Prints a Plan as plain PyTorch: one class for each distinct graph, whose `forward` reads like the document.

The text is complete at run time, values are deleted where hand-written code would drop them, and every line is mapped
to its step.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, count

from flowconf.graph.source.addresses import address, attribute, reached
from flowconf.graph.source.block import ForwardState, count_attribute
from flowconf.graph.source.demand import (
    OUTPUTS,
    Demand,
    Demands,
    home_of,
    lent_to,
    needed_inputs,
    without_copies,
)
from flowconf.graph.source.forward import ForwardWriter
from flowconf.graph.source.hole_sizes import HoleSizes
from flowconf.graph.source.line_breaks import broken
from flowconf.graph.source.literals import docstring, quoted
from flowconf.language.arguments import Argument, Call, Hole, ListArgument, Literal, walk
from flowconf.language.paths import join
from flowconf.language.plan import Applied, Chain, GraphPlan, Instance, Module, Mount, Shared, Step
from flowconf.language.registry import adapters, modules
from flowconf.language.resolve.reserved_names import RUNTIME, STATE
from flowconf.language.signatures import names_in
from flowconf.report import Place

CALLED = re.compile(rf"\b({'|'.join(RUNTIME)})\(")
"""Calls of functions of the runtime in generated code."""
BETWEEN = 2
"""The empty lines before a class."""


@dataclass(frozen=True)
class KnownSizes:
    """The results of the shape check that source generation needs.

    `holes`: path of a call -> the sizes of its `_`, in the order in which they are written. `ranks`: path of a gate ->
    the number of dimensions that the outputs of its experts have more than its weights. `kinds`: value -> "tensor",
    "dict", "named" (a NamedTuple) or "tuple"; values are named by path, followed by `()` for the output of a module,
    `[]` for that of one iteration, and `#` for the number of slices of a map.
    """

    holes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ranks: Mapping[str, int] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    adapted: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    """Path of a module with its own `forward`, and a selector -> the modules inside that it selects for adapters."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a class: its text, and its step (local path and place)."""

    text: str
    path: str = ""
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class GraphClass:
    """One generated class. `children` maps local paths of nested graphs to the names of their classes."""

    name: str
    lines: tuple[Line, ...]
    children: Mapping[str, str]
    members: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(line.text for line in self.lines)

    @property
    def forward(self) -> int:
        """The number of the line at which `forward` begins."""
        return next(number for number, line in enumerate(self.lines) if line.text.startswith("    def forward("))


@dataclass(frozen=True)
class Program:
    """The classes of a graph in dependency order; the last one is the graph itself."""

    whole: tuple[str, ...]
    """Modules that are imported as a whole: torch if it is named, and packages, whose names are written with dots."""
    names: Mapping[str, tuple[str, ...]]
    """Module -> the names that are imported from it, torch first."""
    classes: tuple[GraphClass, ...]
    objects: Mapping[str, object]
    """Names in the text without an import: modules from outside the document."""

    @property
    def header(self) -> list[str]:
        """The imports, in the order of the import sorter."""
        plain = [f"import {module}" for module in self.whole]
        named = [f"from {module} import {', '.join(names)}" for module, names in self.names.items()]
        torch = [line for line in (*plain, *named) if line.split()[1] == "torch"]
        others = [line for line in (*plain, *named) if line not in torch]
        return [*torch, *([""] if others else []), *others]

    @property
    def source(self) -> str:
        """The whole program as one Python file."""
        apart = "\n" * (BETWEEN + 1)
        return apart.join(["\n".join(self.header), *(part.text for part in self.classes)]) + "\n"


def emit(graph: GraphPlan, sizes: KnownSizes, demand: Demand = OUTPUTS) -> Program:
    """The program of a graph. `sizes` come from the shape check."""
    emitter = _Emitter(sizes, HoleSizes(graph, sizes.holes), set(_used_names(graph)), Demands(graph, {"": demand}))
    emitter.graph_class(graph, "", {})
    return emitter.program()


def _used_names(graph: GraphPlan) -> Iterable[str]:
    """The names of all modules that the graph calls, which generated classes must not use."""
    for module in (module for step in graph.steps for module in _own_modules(step)):
        if isinstance(module, Mount):
            yield from _used_names(module.graph)
        elif isinstance(module, Call):
            yield from (one.name.partition(".")[0] for one in walk(module) if isinstance(one, Call))


def _own_modules(step: Step) -> Iterable[Module]:
    """The modules that a step constructs, and the members of chains."""
    for applied in step.applied():
        yield applied.module
        if isinstance(applied.module, Chain):
            yield from (member.module for member in applied.module.members)


@dataclass
class _Emitter:
    sizes: KnownSizes
    holes: HoleSizes
    taken: set[str]
    demands: Demands
    classes: dict[str, GraphClass] = field(default_factory=dict)
    named: dict[str, str] = field(default_factory=dict)
    """Path of a graph -> its class."""
    imports: dict[str, set[str]] = field(default_factory=lambda: {"torch": {"nn"}})
    packages: set[str] = field(default_factory=set)
    """Modules whose classes and functions are called by their dotted names."""
    objects: dict[str, object] = field(default_factory=dict)
    free: dict[int, list[str]] = field(default_factory=dict)
    """Id of a graph -> its free parameters."""

    def program(self) -> Program:
        """The classes so far, with their imports."""
        sources = sorted(self.imports, key=lambda source: (source != "torch", source))
        names = {source: tuple(sorted(self.imports[source])) for source in sources}
        return Program(tuple(sorted(self.packages)), names, tuple(self.classes.values()), self.objects)

    def graph_class(self, graph: GraphPlan, path: str, lent: Mapping[str, str], around: str = "") -> str:
        """The class of `graph` at `path` in the graph `around`; equal graphs share one.

        `lent` are the modules of surrounding graphs: local names -> their paths.
        """
        demand = self.demands.at(path)
        found = self.demands.needs(graph, path)
        names: dict[str, str] = {}
        reads: dict[str, frozenset[str]] = {}
        for child, mount in graph.mounts():
            below = join(path, child)
            names[child] = self.graph_class(mount.graph, below, lent_to(graph, mount, path, lent), graph.label)
            kept = needed_inputs(mount.graph, self.demands.needs(mount.graph, below))
            reads[child] = frozenset(given.name for given in kept)
        shared = {mine: self.named[theirs] for mine, theirs in lent.items() if theirs in self.named}
        lines = [*self._init(graph, path, names), Line("")]
        state = ForwardState(
            graph,
            lambda home: self.demands.at(home_of(home, path, lent)),
            reads,
            {step.name: self.sizes.ranks.get(join(path, step.name)) for step in graph.steps},
            lambda name: self.sizes.kinds.get(join(path, name), ""),
        )
        lines += [Line(text, step, place) for text, step, place in ForwardWriter(state, found, demand).lines()]
        if any("torch." in line.text for line in lines):
            self.packages.add("torch")
        called = {name for line in lines for name in CALLED.findall(line.text)}
        if called:
            self.imports.setdefault("flowconf.graph.runtime", set()).update(called)
        lines = [Line(text, line.path, line.place) for line in lines for text in broken(line.text)]
        key = "\n".join([*shared.values(), *(line.text for line in lines)])
        if key not in self.classes:
            name = _free_name(self.holes.label(path, graph), around, self.taken)
            self.taken.add(name)
            documented = f"    {_documented(graph)}"
            head = [Line(f"class {name}(nn.Module):"), Line(documented), Line("")]
            members = tuple(path for step in found.steps for one in step.applied() for path in (one.path, one.home))
            self.classes[key] = GraphClass(name, (*head, *lines), names | shared, members)
        self.named[path] = self.classes[key].name
        return self.classes[key].name

    # __init__

    def _init(self, graph: GraphPlan, path: str, children: Mapping[str, str]) -> list[Line]:
        own = dict(graph.params)
        outer = [name for name in self.free_parameters(graph) if name not in own]
        defaults = [f"{name}={self.holes.default(path, name, value.value)!r}" for name, value in graph.params]
        signature = ", ".join(["self", *graph.shares, *outer, *self.holes.parameters(path), *defaults])
        lines = [Line(f"    def __init__(self{signature[4:]}):"), Line("        super().__init__()")]
        for name, expression in _counts(graph).items():
            lines.append(Line(f"        self.{name} = {expression}"))
        if any(value.recurrent for step in graph.steps for value in step.reads):
            lines.append(Line(f"        self.{STATE} = {{}}"))
        for step in graph.steps:
            lines += [
                Line(f"        {text}", step.path, step.place) for text in self._members(graph, step, path, children)
            ]
        return [*lines, *(Line(text) for text in (*tying(graph), *self._adapting(graph, path)))]

    def _adapting(self, graph: GraphPlan, path: str) -> Iterable[str]:
        """The lines of `__init__` that extend modules by adapters, in loops over copies that are all extended."""
        around: list[str] = []
        for adapter in graph.adapters:
            self.imports.setdefault(adapters.home(adapter.name), set()).add(adapter.name)
            options = "".join(f", {name}={value.text}" for name, value in adapter.args)
            reads = [(each, "") for each in collapsed(graph, adapter.paths)]
            for each in collapsed(graph, adapter.inside):
                known = (join(path, without_copies(graph, each, of="equal")), adapter.selector)
                names = self.sizes.adapted.get(known, ())
                reads += [(each, f".get_submodule({quoted(name)})" if name else "") for name in names]
            for each, inner in reads:
                *loops, last = reached(graph, each, inner, " " * 8)
                yield from loops if loops != around else ()
                module, around = last.strip(), loops
                yield f"{last[: len(last) - len(module)]}adapted({module}, {adapter.name}{options})"

    def _members(self, graph: GraphPlan, step: Step, path: str, children: Mapping[str, str]) -> Iterable[str]:
        """The assignments that construct the modules of a step."""
        made = {applied.path: self._construct(graph, applied, path, children) for applied in step.applied()}
        construct = {name: text for name, text in made.items() if text is not None}
        together = len(step.parts) > 1 or (
            bool(step.extras) and not isinstance(step.body.module, Call | Mount | Instance)
        )
        one = self._module_dict(graph, step, path, children) if together else construct.get(step.path)
        if one is not None and step.repeat is not None:
            one = f"nn.ModuleList([{one} for {step.index or '_'} in range({step.repeat.text})])"
        if one is not None:
            yield f"self.{step.path} = {one}"
        for extra in () if together else step.extras:
            name = extra.path.removeprefix(f"{step.path}.")
            if step.repeat is None:
                yield f"self.{extra.path} = {construct[extra.path]}"
            else:
                copy = "copy" if step.index != "copy" else "made"
                copies = f"self.{step.path}"
                yield (
                    f"for {copy} in {copies}:"
                    if step.index is None
                    else (f"for {step.index}, {copy} in enumerate({copies}):")
                )
                yield f"    {copy}.{name} = {construct[extra.path]}"

    def _module_dict(self, graph: GraphPlan, step: Step, path: str, children: Mapping[str, str]) -> str | None:
        """The modules of a step under one path: its branches, or the members of a chain, and further modules."""
        standing = list(step.applied())
        if isinstance(step.body.module, Chain) and len(step.parts) == 1:
            standing = [*step.body.module.members, *step.extras]
        texts = {applied.path: self._construct(graph, applied, path, children) for applied in standing}
        named = {name.removeprefix(f"{step.path}."): text for name, text in texts.items() if text is not None}
        made = [f"{quoted(name)}: {text}" for name, text in named.items()]
        return f"nn.ModuleDict({{{', '.join(made)}}})" if made else None

    def _construct(self, graph: GraphPlan, applied: Applied, path: str, children: Mapping[str, str]) -> str | None:
        match applied.module:
            case Shared():
                return applied.module.path if applied.module.path == applied.path else None
            case Mount():
                given = [f"{name}={_lent(graph, theirs)}" for name, theirs in applied.module.shares]
                given += [f"{name}={name}" for name in self._inherited(applied.module)]
                given += self.holes.given(path, applied.path)
                given += [f"{name}={value.text}" for name, value in applied.module.params]
                return f"{children[applied.path]}({', '.join(given)})"
            case Chain(members):
                made = [self._construct(graph, member, path, children) for member in members]
                return f"nn.Sequential({', '.join(text for text in made if text)})"
            case Call():
                return self._call(applied.module, self.holes.texts(path, applied.path))
            case Instance():
                name = f"_instance_{len(self.objects)}"
                self.objects[name] = applied.module.module
                return name

    def free_parameters(self, graph: GraphPlan) -> list[str]:
        """The parameters that the calls of a graph and of its inline bodies name, in order of appearance."""
        if id(graph) not in self.free:
            self.free[id(graph)] = list(dict.fromkeys(self._free_in(graph)))
        return self.free[id(graph)]

    def _free_in(self, graph: GraphPlan) -> Iterator[str]:
        for step in graph.steps:
            own = [name for literal in step.counts.values() for name in names_in(literal.text)]
            own += [name for module in _own_modules(step) for name in self._free_in_module(module)]
            yield from (name for name in own if name != step.index)
            yield from () if step.repeat is None else names_in(step.repeat.text)
        for adapter in graph.adapters:
            yield from (name for _, value in adapter.args for name in names_in(value.text))

    def _free_in_module(self, module: Module) -> Iterator[str]:
        if isinstance(module, Call):
            texts = [argument.text for argument in walk(module) if isinstance(argument, Literal)]
            yield from (name for text in texts for name in names_in(text))
        elif isinstance(module, Mount):
            yield from (name for _, value in module.params for name in names_in(value.text))
            yield from self._inherited(module)

    def _inherited(self, mount: Mount) -> list[str]:
        """The parameters of surrounding graphs that a nested graph names."""
        own = {name for name, _ in mount.graph.params}
        return [name for name in self.free_parameters(mount.graph) if name not in own]

    def _call(self, call: Call, sizes: Iterator[str]) -> str:
        source, name, known = modules.home(call.name), call.name, modules.foreign(call.name)
        if known is not None:
            self.packages.add(known.module)
        elif source.startswith("torch.nn.modules."):
            name = f"nn.{call.name}"
        elif source:
            self.imports.setdefault(source, set()).add(call.name)
        given = [self._argument(argument, sizes) for argument in call.args]
        given += [f"{key}={self._argument(argument, sizes)}" for key, argument in call.kwargs]
        return f"{name}({', '.join(given)})"

    def _argument(self, argument: Argument, sizes: Iterator[str]) -> str:
        match argument:
            case Literal(text=text):
                return text
            case Hole():
                return next(sizes)
            case ListArgument(items):
                return f"[{', '.join(self._argument(item, sizes) for item in items)}]"
            case Call():
                return self._call(argument, sizes)


def collapsed(graph: GraphPlan, paths: Iterable[str]) -> list[str]:
    """Paths of modules, with one path without a number for all equal copies that are among them."""
    alike: dict[str, list[str]] = {}
    for path in paths:
        alike.setdefault(without_copies(graph, path, of="equal"), []).append(path)
    return [path for home, own in alike.items() for path in ([home] if len(own) == copies_at(graph, home) else own)]


def copies_at(graph: GraphPlan, path: str) -> int:
    """The number of equal copies of the module at a path without their numbers."""
    step = graph.step(path.partition(".")[0])
    if step is None:
        return 1
    count, inner = 1 if step.copies else step.copy_count, graph.mount_above(path)
    return count if inner is None else count * copies_at(inner[1], path[len(inner[0]) + 1 :])


def tying(graph: GraphPlan) -> Iterable[str]:
    """The lines of `__init__` that make parameters one, also those that nested graphs tie to one that is replaced."""
    of, own = {tie.name: tie for tie in graph.all_ties()}, set(graph.ties)
    for tie in of.values():
        last = tie
        while last.other in of:
            last = of[last.other]
        if tie in own or last is not tie:
            other = attribute(address(graph, last.home), last.of)
            yield from reached(graph, tie.path, f"{attribute('', tie.parameter)} = self.{other}", " " * 8)


def named_after(part: GraphClass, graph: GraphPlan, taken: Container[str]) -> GraphClass:
    """The class of an equal graph at another path, with the name and docstring that it has for `graph`."""
    documented = Line(f"    {_documented(graph)}")
    if part.lines[1] == documented:
        return part
    name = _free_name(graph.label, "", taken)
    return replace(part, name=name, lines=(Line(f"class {name}(nn.Module):"), documented, *part.lines[2:]))


def _free_name(label: str, around: str, taken: Container[str]) -> str:
    """`Scan`, or else `LetterScan`, or else with a number appended."""
    base = _camel(label)
    base = f"{base}Graph" if base in modules or not base.isidentifier() else base
    longer = _camel(around) + base
    numbered = (f"{longer}{number}" for number in count(2))
    return next(name for name in chain((base, longer), numbered) if name not in taken)


def _camel(label: str) -> str:
    return re.sub(r"(?:^|_)([A-Za-z0-9])", lambda match: match[1].upper(), label).strip("_") or "Graph"


def lent_modules(graph: GraphPlan, prefix: str = "") -> Iterable[tuple[str, str]]:
    """All modules that nested graphs share with a surrounding graph: their paths there, and their own paths."""
    for path, mount in graph.mounts():
        for mine, theirs in mount.shares:
            yield join(prefix, path, mine), join(prefix, theirs)
        yield from lent_modules(mount.graph, join(prefix, path))


def _lent(graph: GraphPlan, path: str) -> str:
    """The expression in `__init__` for a module that a graph shares with a nested one."""
    text = address(graph, path)
    return text if path.split(".")[0] in graph.shares else f"self.{text}"


def _documented(graph: GraphPlan) -> str:
    source = graph.source_name or (None if graph.inline else graph.label)
    text = f"Part `{graph.label}` of the surrounding graph." if source is None else f"The graph `{source}`."
    return docstring(text)


def _counts(graph: GraphPlan) -> dict[str, str]:
    """Attributes for numbers in `forward` that depend on a parameter: name -> expression."""
    counts = {}
    for step in graph.steps:
        reused = step.repeat if isinstance(step.body.module, Shared) else None
        for key, literal in (*step.counts.items(), ("repeat", reused)):
            attribute = literal and count_attribute(graph, step, key, literal)
            if literal is not None and attribute:
                counts[attribute] = literal.text
                if step.repeat is not None and step.by_index(literal):
                    counts[attribute] = f"[{literal.text} for {step.index} in range({step.repeat.text})]"
    return counts
