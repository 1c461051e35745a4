"""Converts an existing module to a graph document, as far as its structure can be read.

Registered modules become calls. The forward of any other module is traced symbolically, one module at a time, and
becomes a graph whose steps have the names of its children. Whatever cannot be read is kept as a call by name, and
reported: the document can be built after a module of that name is registered.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from flowconf.graph.build import build_graph
from flowconf.graph.builder import free_name, snake
from flowconf.graph.exchange.recovered_calls import Unrecoverable, call_of, is_known
from flowconf.graph.exchange.traced_forward import (
    DocumentInputs,
    GraphReader,
    ImportNotes,
    Unread,
    changes_in_place,
    name_of,
)
from flowconf.graph.graph import Graph
from flowconf.graph.shapes.sizes import Sizes
from flowconf.graph.weights.renames import renamed
from flowconf.language.paths import join
from flowconf.language.registry import modules
from flowconf.language.resolve.resolver import resolve
from flowconf.report import ConfigError, Diagnostic, dtype_name, first_line, printable, shortened
from flowconf.text.documents import from_data
from flowconf.text.write import dump

DeclaredShape = Sequence[int | str]
LONGEST = 110


@dataclass
class Imported:
    """An imported module. `rename` maps prefixes of tensor names in the module to the graph, the longest first."""

    document: dict[str, Any]
    rename: dict[str, str]
    unread: list[Unread]

    def yaml(self, source: str) -> str:
        """The document, with notes as comments."""
        lines = [f"# Imported from {printable(source)}."]
        if self.rename:
            lines.append("# To load its weights, rename them:")
            lines += [f"#   {line}" for line in dump({"rename": self.rename}).splitlines()]
        if self.unread:
            lines.append("# Could not be imported:")
            lines += [f"#   {printable(str(one))}" for one in self.unread]
        reasons = {one.home: one.reason for one in self.unread}
        noted: set[str] = set()

        def note(path: tuple[str | int, ...]) -> str | None:
            home = graph_path(path)
            if home in noted or home not in reasons:
                return None
            noted.add(home)
            return printable(f"not imported: {reasons[home]}")

        return "\n".join(lines) + "\n" + dump(self.document, note)


def graph_path(path: tuple[str | int, ...]) -> str:
    """The path in the graph for a path of its document."""
    names = [str(path[at + 1]) for at, key in enumerate(path[:-1]) if key == "flow"]
    return ".".join(names)


def read(module: nn.Module, shapes: Mapping[str, DeclaredShape] | None = None) -> Imported:
    """Read the structure of a module. `shapes` are those of its inputs, with strings for unknown sizes.

    They are required for a module with several inputs, because the inputs of a graph are declared with shapes.
    """
    reader = ModuleReader(_shapes_of_all(module, shapes) if shapes else {})
    was_training = [(part, part.training) for part in module.modules()]
    try:
        document = reader.whole(module) or reader.document(module, "", "", None, {}) or reader.kept(module)
    finally:
        for part, training in was_training:
            part.training = training
    return Imported(document, _shortest(reader.notes.rename), reader.notes.unread)


def _shortest(renames: Mapping[str, str]) -> dict[str, str]:
    """The renames without those implied by an outer prefix, the longest prefix first."""
    kept: dict[str, str] = {}
    for path in sorted(renames, key=len):
        if renamed(path, kept.items())[1] != renames[path]:
            kept = {path: renames[path], **kept}
    return kept


def rebuilt(module: nn.Module, found: Imported) -> Graph:
    """Build the imported graph with the weights of the module. Raises `ConfigError` if they do not match."""
    graph = build_graph(resolve(from_data(found.document, "the imported graph")))
    wanted = graph.state_dict()
    theirs = {
        renamed(name, found.rename.items())[1]: tensor for name, tensor in module.state_dict(keep_vars=True).items()
    }
    placed = {id(tensor) for name, tensor in theirs.items() if name in wanted}
    mine = {n: tensor for n, tensor in theirs.items() if n in wanted or id(tensor) not in placed}  # tied ones only once
    try:
        graph.load_state_dict(mine)
    except RuntimeError as problem:
        why = shortened(first_line(problem), LONGEST)
        message = f"the weights of the module do not match the imported graph: {why}"
        raise ConfigError(Diagnostic("FC0303", message)) from None
    return graph.train(module.training)


def outputs_are_equal(module: nn.Module, graph: Graph, shapes: Mapping[str, DeclaredShape]) -> bool:
    """Whether both return the same outputs, bit for bit, in evaluation mode on a random batch; unknown sizes are 2."""
    given = {
        name: torch.rand([size if isinstance(size, int) else 2 for size in shape]) for name, shape in shapes.items()
    }
    with torch.no_grad():
        mine = copy.deepcopy(module).eval()(**given)
        theirs = copy.deepcopy(graph).eval()(**{graph.inputs[0] if len(given) == 1 else n: t for n, t in given.items()})
    if isinstance(theirs, Mapping) and isinstance(mine, tuple):
        mine = dict(zip(theirs, mine, strict=False))
    if isinstance(theirs, Mapping):
        return isinstance(mine, Mapping) and all(torch.equal(mine[name], value) for name, value in theirs.items())
    return isinstance(mine, Tensor) and torch.equal(mine, theirs)


@dataclass
class ModuleReader:
    """Reads a tree of modules. `shapes`: path of a module -> its inputs, from a run with symbolic sizes."""

    shapes: Mapping[str, DocumentInputs]
    notes: ImportNotes = field(default_factory=ImportNotes)

    def body(self, module: nn.Module, path: str, home: str, given: Sequence[str], constants: Mapping[str, Any]) -> Any:
        """The body of a step for a module: a call or chain as a string, or a document."""
        if type(module) is nn.Sequential and not constants:
            chain = self._chain(module, path, home)
            if chain is not None:
                return chain
        reason = None
        if is_known(module) and type(module) is not nn.Sequential:
            try:
                return call_of(module)
            except Unrecoverable as problem:
                reason = str(problem)
        found = self.document(module, path, home, given, constants) if reason is None else None
        return found if found is not None else self._by_name(module, path, home, reason)

    def whole(self, module: nn.Module) -> dict[str, Any] | None:
        """A document of one step for a registered module; None if its call or its inputs cannot be determined."""
        if not is_known(module) or type(module) is nn.Sequential:
            return None
        forward = modules.class_source(type(module).__name__).forward
        more = forward.missing(1, set())
        try:
            call, inputs = call_of(module), self._inputs("", [*forward.positional[:1], *more])
        except (Unrecoverable, Untraced):
            return None
        name = free_name(snake(type(module).__name__), {"x": 1, **dict.fromkeys(inputs, 1)})[0]
        self.notes.rename[""] = name
        step = {"through": call, "using": more} if more else call
        return ({"inputs": inputs} if inputs else {}) | {"flow": {name: step}}

    def kept(self, module: nn.Module) -> dict[str, Any]:
        """A document for a module of which only the name could be read."""
        name = free_name(snake(type(module).__name__), {"x": 1})[0]
        self.notes.rename[""] = name
        return {"flow": {name: self._by_name(module, "", name, None)}}

    def document(
        self, module: nn.Module, path: str, home: str, given: Sequence[str] | None, constants: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """The graph document of a module; None, with a note of the reason, if its forward cannot be traced."""
        try:
            traced = _traced(module, given, constants)
            inputs = self._inputs(path, [str(node.target) for node in traced.nodes if node.op == "placeholder"])
        except Untraced as problem:
            self.notes.unread.append(Unread(path, home, f"the forward of `{type(module).__name__}` {problem}"))
            return None
        return GraphReader(self.body, self.notes, module, path, home, inputs).read(traced)

    def _inputs(self, path: str, names: Sequence[str]) -> DocumentInputs:
        known = self.shapes.get(path, {})
        if len(names) == 1 and names[0] not in known:
            return {}
        lacking = [name for name in names if name not in known]
        if lacking:
            message = "has several inputs of unknown shape: add `--input`"
            raise Untraced(
                message if not self.shapes else f"does not receive `{lacking[0]}` as a tensor of known shape"
            )
        return {name: known[name] for name in names}

    def _chain(self, module: nn.Sequential, path: str, home: str) -> str | None:
        """A plain sequence of registered modules as a chain with the same paths."""
        members = dict(module.named_children())
        if list(members) != [str(i) for i in range(len(members))] or not all(map(is_known, members.values())):
            return None
        if any(type(member) is nn.Sequential for member in members.values()):
            return None
        try:
            calls = [call_of(member) for member in members.values()]
        except Unrecoverable:
            return None
        if len(calls) == 1:
            self.notes.rename[join(path, "0")] = home
        return " >> ".join(calls) or "Identity"

    def _by_name(self, module: nn.Module, path: str, home: str, reason: str | None) -> str:
        name = type(module).__name__
        try:
            call = call_of(module)
        except Unrecoverable as problem:
            call, reason = name, reason or str(problem)
        if reason is not None:
            self.notes.unread.append(Unread(path, home, reason))
        if not is_known(module):
            advice = f"`{type(module).__module__}.{name}` must be registered with `@flowconf.register`"
            self.notes.unread.append(Unread(path, home, advice))
        return call


class Untraced(Exception):
    """Why a forward cannot be traced, worded to follow its name."""


class _Tracer(fx.Tracer):
    """Treats every child as a leaf, because each is read separately."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _traced(module: nn.Module, given: Sequence[str] | None, constants: Mapping[str, Any]) -> fx.Graph:
    """Trace the forward of one module. Arguments that are not `given` are constants or defaults."""
    parameters = inspect.signature(module.forward).parameters
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters.values()):
        raise Untraced("has variadic arguments")
    fixed = dict(constants)
    for name, parameter in parameters.items():
        if name not in fixed and name not in (given or ()) and parameter.default is not parameter.empty:
            fixed[name] = parameter.default
    graphs = []
    for mode in (True, False):
        module.train(mode)
        try:
            graphs.append(_Tracer().trace(module, fixed or None))
        except Exception as problem:  # noqa: BLE001 - tracing runs arbitrary code
            raise Untraced(f"cannot be traced: {shortened(first_line(problem), LONGEST)}") from None
    for graph in graphs:
        _simplify(graph, fixed)
    if [_kind(node) for node in graphs[0].nodes] != [_kind(node) for node in graphs[1].nodes]:
        raise Untraced("behaves differently in training and evaluation")
    return graphs[1]


def _simplify(graph: fx.Graph, fixed: Mapping[str, Any]) -> None:
    """Remove guards of fixed arguments, and unused nodes."""
    for node in reversed(graph.nodes):
        if changes_in_place(node):
            _refuse_change_of_what_is_read(node)
        guard = node.op == "call_function" and name_of(node) in ("assert", "assert_is_none")
        fixed_input = node.op == "placeholder" and str(node.target).rpartition("_")[0] in fixed
        computed = node.op not in ("placeholder", "output")
        if guard or (not node.users and (computed or fixed_input)):
            graph.erase_node(node)


def _refuse_change_of_what_is_read(node: fx.Node) -> None:
    """Reject a value that is changed in place and read afterwards, which steps cannot express."""
    changed = node.args[0]
    assert isinstance(changed, fx.Node)
    if any(user is not node and node < user for user in changed.users) or not node.users:
        raise Untraced(f"changes a value in place by `{node.target if node.op == 'call_method' else name_of(node)}`")


def _kind(node: fx.Node) -> tuple[str, str]:
    return node.op, name_of(node)


def _shapes_of_all(module: nn.Module, shapes: Mapping[str, DeclaredShape]) -> dict[str, DocumentInputs]:
    """The inputs of every module of the tree, from a run of a copy on the meta device."""
    sizes = Sizes()
    ghost = copy.deepcopy(module).to("meta").eval()
    found: dict[str, DocumentInputs] = {}
    paths = {id(part): path for path, part in ghost.named_modules()}

    def note(part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = inspect.signature(part.forward).bind(*args, **kwargs).arguments
        tensors = {name: value for name, value in bound.items() if isinstance(value, Tensor)}
        found.setdefault(paths[id(part)], {name: _declared(value, sizes) for name, value in tensors.items()})

    hooks = [part.register_forward_pre_hook(note, with_kwargs=True) for part in ghost.modules()]
    given = {name: torch.zeros([sizes.of(size) for size in shape], device="meta") for name, shape in shapes.items()}
    try:
        with torch.no_grad():
            ghost(**given)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _declared(tensor: Tensor, sizes: Sizes) -> object:
    """The declaration of a tensor as an input; sizes that depend on an unknown one are named after it."""
    shape: list[int | str] = []
    for size in tensor.shape:
        text = sizes.number(size)
        shape.append(size if text == str(size) else text.replace("*", "x").capitalize() if "*" in text else text)
    named = [f"N{size}" if isinstance(size, str) and not size.isidentifier() else size for size in shape]
    if tensor.dtype == torch.float32:
        return named
    return {"shape": named, "dtype": dtype_name(tensor.dtype)}
