"""Reads the traced forward of one module into the steps of a graph document.

Children become steps with their names, functions become equivalent modules, sums and other merges become `also`,
`StateAdd`, `Concat` or a `split` whose branches read the merged values.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from flowconf.graph.builder import free_name, snake
from flowconf.graph.exchange.function_modules import SAME, NoModule, module_for
from flowconf.language.arguments import written
from flowconf.language.paths import join

DocumentInputs = dict[str, object]
"""The inputs of a document: name -> shape, or a mapping with a type."""
TENSOR = None
TUPLES: dict[str, Any] = {
    "LSTM": (TENSOR, (TENSOR, TENSOR)),
    "GRU": (TENSOR, TENSOR),
    "RNN": (TENSOR, TENSOR),
    "LSTMCell": (TENSOR, TENSOR),
    "MultiheadAttention": (TENSOR, TENSOR),
}
"""Modules that return tuples, and the structure of these."""
MERGED = {"add": "add", "iadd": "add", "mul": "mul", "imul": "mul", "maximum": "max", "cat": "cat", "stack": "stack"}


@dataclass(frozen=True)
class Unread:
    """A part that could not be read: the path in the module, the path in the graph, and the reason."""

    path: str
    home: str
    reason: str

    def __str__(self) -> str:
        return f"`{self.path}`: {self.reason}" if self.path else self.reason


@dataclass
class ImportNotes:
    """Notes on the import of a tree of modules."""

    rename: dict[str, str] = field(default_factory=dict)
    """Prefixes of tensor names in the module -> in the graph."""
    unread: list[Unread] = field(default_factory=list)
    owners: dict[int, str] = field(default_factory=dict)
    """Id of a module -> its first path."""


ReadChild = Callable[[nn.Module, str, str, Sequence[str], Mapping[str, Any]], Any]
"""A module, its path, its path in the graph, its tensor arguments and its constant arguments -> its body."""


@dataclass
class GraphReader:
    """Reads the traced forward of one module into the steps of one document."""

    read_child: ReadChild
    notes: ImportNotes
    module: nn.Module
    path: str
    home: str
    inputs: DocumentInputs
    flow: dict[str, Any] = field(default_factory=dict)
    stream: str = "x"
    taken: dict[str, int] = field(default_factory=dict)
    values: dict[fx.Node, str] = field(default_factory=dict)
    shapes_of: dict[fx.Node, Any] = field(default_factory=dict)
    placed: dict[str, str] = field(default_factory=dict)
    means: dict[fx.Node, list[fx.Node]] = field(default_factory=dict)
    inner_sums: set[fx.Node] = field(default_factory=set)

    def read(self, traced: fx.Graph) -> dict[str, Any]:
        """The document."""
        self._find_means(traced)
        self.children = {path.replace(".", "_"): 1 for path, _ in self.module.named_modules() if path}
        placeholders = [node for node in traced.nodes if node.op == "placeholder"]
        names = list(self.inputs) or ["x"]
        self.stream = names[0] if placeholders else "x"
        self.values = dict(zip(placeholders, names, strict=False))
        self.taken = dict.fromkeys(names, 1)
        outputs: dict[str, str] = {}
        for node in traced.nodes:
            if node.op == "output":
                outputs = self._outputs(node.args[0])
            elif node.op != "placeholder":
                self._node(node)
        self._tell_unused()
        if not self.flow:
            self._step("identity", {"through": "Identity"}, self.stream)
        document: dict[str, Any] = {"inputs": self.inputs} if self.inputs else {}
        document["flow"] = {name: _shortest(step) for name, step in self.flow.items()}
        return document | ({"outputs": outputs} if outputs else {})

    # nodes

    def _node(self, node: fx.Node) -> None:
        if _is_size(node) or node in self.inner_sums:
            return
        match node.op:
            case "call_module":
                self._module(node)
            case "get_attr":
                self._attribute(node)
            case _:
                self._function(node)

    def _module(self, node: fx.Node) -> None:
        target = str(node.target)
        child = self.module.get_submodule(target)
        given = self._bound(child, node)
        name = self._free(snake(type(child).__name__) if target.isdecimal() else target.replace(".", "_"))
        references: dict[str, str] = {}
        constants: dict[str, Any] = {}
        for argument, value in given.items():
            if isinstance(value, fx.Node):
                references[argument] = self.values[value]
            else:
                constants[argument] = value
        path, home = join(self.path, target), join(self.home, name)
        known = self.placed.get(target)
        if known is not None:
            step: dict[str, Any] = {"reuse": known}
        else:
            self._tell_shared(child, path, home)
            body = self.read_child(child, path, home, list(references), constants)
            step = {"through": body} if isinstance(body, str) else {"graph": body}
            self.placed[target] = name
            if path != home and child.state_dict():
                self.notes.rename[path] = home
        if constants and (known is not None or isinstance(step.get("through"), str)):
            listed = ", ".join(f"{argument}={_shown(value)}" for argument, value in constants.items())
            self.notes.unread.append(Unread(path, home, f"a graph cannot pass `{listed}` to the module"))
        stream, *others = references.values() or [self.stream]
        using = dict(list(references.items())[1:])
        if using:
            step["using"] = others[0] if list(using) == others and len(others) == 1 else using
        self.shapes_of[node] = TUPLES.get(type(child).__name__, TENSOR)
        indices = {user.args[1] for user in node.users if _is_element(user)}
        if isinstance(self.shapes_of[node], tuple) and len(indices) == 1 and all(map(_is_element, node.users)):
            step["take"] = indices.pop()
        self.values[node] = self._step(name, step, stream)

    def _bound(self, child: nn.Module, node: fx.Node) -> dict[str, Any]:
        """The arguments of the forward of a child that differ from their defaults."""
        parameters = inspect.signature(child.forward)
        bound = parameters.bind(*node.args, **node.kwargs).arguments
        flat = {}
        for name, value in bound.items():
            default = parameters.parameters[name].default
            if isinstance(value, fx.Node) or (value is not default and value != default):
                flat[name] = value
        return flat

    def _attribute(self, node: fx.Node) -> None:
        """A tensor that is an attribute of the module."""
        target = str(node.target)
        name = self._free(target.replace(".", "_"))
        tensor: Any = self.module
        for part in target.split("."):
            tensor = getattr(tensor, part)
        shape = list(tensor.shape[1:] if tensor.dim() and tensor.shape[0] == 1 else tensor.shape)
        path, home = join(self.path, target), join(self.home, name)
        kind = "parameter" if isinstance(tensor, nn.Parameter) else "tensor"
        reason = f"a {kind} of shape {list(tensor.shape)} is used directly; `Learned` has one for each row"
        self.notes.unread.append(Unread(path, home, reason))
        self.notes.rename[path] = f"{home}.value"
        call = f"Learned({', '.join(map(str, shape))})"
        self.values[node] = self._step(name, {"through": call}, (list(self.inputs) or ["x"])[0])

    def _function(self, node: fx.Node) -> None:
        name = name_of(node)
        if name in SAME and isinstance(node.args[0], fx.Node):
            self.values[node] = self.values[node.args[0]]
        elif name == "getitem":
            self._element(node)
        elif name in ("view", "reshape"):
            self._reshape(node)
        elif node in self.means:
            self._merge(node, "mean", self.means[node])
        elif name in MERGED and self._operands(node) is not None:
            self._merge(node, MERGED[name], self._operands(node) or [])
        elif name in ("mul", "imul") and _numbers(node):
            self._call(node, f"Scale({written(_numbers(node)[0])})", _tensors(node)[0])
        else:
            self._mapped(node, name)

    def _mapped(self, node: fx.Node, name: str) -> None:
        """A function with an equivalent module, or else one that must be registered."""
        first = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        rest = node.args[1:] if first is not None else node.args
        try:
            if first is None or any(isinstance(value, fx.Node) for value in (*rest, *node.kwargs.values())):
                raise NoModule(f"`{name}` with several values has no equivalent module")
            self._call(node, module_for(name, rest, node.kwargs), first)
        except NoModule as problem:
            call = "".join(part.capitalize() for part in name.split("_"))
            step = self._free(snake(call))
            self.notes.unread.append(Unread(join(self.path, node.name), join(self.home, step), str(problem)))
            self.values[node] = self._step(
                step, {"through": call}, self.values.get(first, self.stream) if first else self.stream
            )

    def _element(self, node: fx.Node) -> None:
        """`value[index]`: an element of a tuple, or an index of one of a tensor's dimensions."""
        source, index = node.args
        assert isinstance(source, fx.Node)
        shape = self.shapes_of.get(source)
        if isinstance(shape, tuple) and isinstance(index, int):
            self.shapes_of[node] = shape[index]
            taken = self.flow.get(self.values[source], {}).get("take") == index
            if taken and source.op == "call_module":
                self.values[node] = self.values[source]
                return
            name = self._free(f"{self.values[source]}_{index}")
            step: dict[str, Any] = {"through": "Identity", "take": index}
            self.values[node] = self._step(name, step, self.values[source])
            return
        found = _selected(index)
        if found is None:
            self._mapped(node, "getitem")
            return
        at, dim = found
        self._call(node, f"Select({at})" if dim == 1 else f"Select({at}, dim={dim})", source)

    def _reshape(self, node: fx.Node) -> None:
        """`view` and `reshape` that keep the rows of the batch."""
        source, *sizes = node.args
        if len(sizes) == 1 and isinstance(sizes[0], list | tuple):
            sizes = list(sizes[0])
        rows, *rest = sizes or [None]
        keeps = rows == -1 or (isinstance(rows, fx.Node) and _is_rows(rows))
        if not (isinstance(source, fx.Node) and keeps and rest and all(isinstance(size, int) for size in rest)):
            self._mapped(node, name_of(node))
        elif rest == [-1] and rows != -1:
            self._call(node, "Flatten", source)
        else:
            self._call(node, f"Reshape({', '.join(map(str, rest))})", source)

    # several values

    def _operands(self, node: fx.Node) -> list[fx.Node] | None:
        """The merged values, if all of them are values of the graph."""
        listed = node.args[0] if name_of(node) in ("cat", "stack") else node.args
        if not isinstance(listed, list | tuple) or len(listed) < 2:
            return None
        found = [value for value in listed if isinstance(value, fx.Node) and value in self.values]
        return found if len(found) == len(listed) else None

    def _merge(self, node: fx.Node, how: str, operands: Sequence[fx.Node]) -> None:
        dim: Any = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 and how in ("cat", "stack") else 0)
        if how == "add" and self._residual(node, operands):
            return
        first, *others = (self.values[operand] for operand in operands)
        if how == "add":
            step: dict[str, Any] = {"through": "StateAdd", "using": {"state": others[0]}}
        elif how == "cat" and len(others) == 1:
            step = {"through": "Concat" if dim == 1 else f"Concat(dim={dim})", "using": {"other": others[0]}}
        else:
            step = {"split": _branches([first, *others]), "merge": how}
            step |= {"dim": dim} if how in ("cat", "stack") and dim != 1 else {}
        self.values[node] = self._step(self._free(how if how != "max" else "maximum"), step, first)

    def _residual(self, node: fx.Node, operands: Sequence[fx.Node]) -> bool:
        """`x + M(x)`: the step of `M` becomes `also: M`."""
        for stream, change in (operands, operands[::-1]):
            name = self.values[change]
            step = self.flow.get(name, {})
            last = bool(self.flow) and next(reversed(self.flow)) == name
            alone = change.op == "call_module" and list(change.users) == [node] and last
            body = step.get("through") or ("graph" in step and {"graph": step["graph"]})
            if not (alone and body) or {"take", "reuse"} & set(step) or self._read_by(change) != self.values[stream]:
                continue
            rest = {key: value for key, value in step.items() if key not in ("through", "graph")}
            self.flow[name] = {"also": body} | rest
            self.values[node] = name
            return True
        return False

    def _read_by(self, node: fx.Node) -> str | None:
        """The input of the module of a node."""
        bound = list(self._bound(self.module.get_submodule(str(node.target)), node).values())
        return self.values[bound[0]] if bound and isinstance(bound[0], fx.Node) else None

    def _find_means(self, traced: fx.Graph) -> None:
        """Note divisions such as `(a + b + c) / 3`, and the sums that only they read."""
        for node in traced.nodes:
            if name_of(node) not in ("truediv", "div") or not isinstance(node.args[0], fx.Node):
                continue
            sums, operands = _summed(node.args[0])
            if len(operands) > 1 and node.args[1] == len(operands) and not node.kwargs:
                self.means[node] = operands
                self.inner_sums.update(sums)

    # steps

    def _call(self, node: fx.Node, call: str, source: fx.Node) -> None:
        name = self._free(snake(call.partition("(")[0]))
        self.values[node] = self._step(name, {"through": call}, self.values[source])

    def _step(self, name: str, step: dict[str, Any], stream: str) -> str:
        if stream != self.stream:
            step = {"from": stream, **step}
        self.flow[name] = step
        self.stream = name
        return name

    def _free(self, base: str) -> str:
        """A free name for a step; the names of children are reserved."""
        base = base.strip("_") or "step"
        name, number = free_name(base, self.taken if base in self.children else {**self.children, **self.taken})
        self.taken = {**self.taken, base: number, name: 1}
        return name

    def _outputs(self, value: Any) -> dict[str, str]:
        """Named outputs, if the forward returns more than one value; otherwise the last step is the output."""
        if isinstance(value, fx.Node):
            name = self.values.get(value, self.stream)
            return {} if name == self.stream and self.flow else {"y": name}
        named = value.items() if isinstance(value, Mapping) else ((f"y{at}", one) for at, one in enumerate(value or ()))
        found = {str(name): self.values[one] for name, one in named if isinstance(one, fx.Node) and one in self.values}
        if not isinstance(value, Mapping) or len(found) < len(value):
            reason = "it returns a tuple, but a graph with several outputs returns a dict"
            self.notes.unread.append(Unread(self.path, self.home, reason))
        return found

    # notes

    def _tell_shared(self, child: nn.Module, path: str, home: str) -> None:
        first = self.notes.owners.setdefault(id(child), path)
        if first != path:
            reason = f"it is the same module as `{first}`, but a separate copy in this graph"
            self.notes.unread.append(Unread(path, home, reason))

    def _tell_unused(self) -> None:
        for name, child in self.module.named_children():
            called = any(f"{target}.".startswith(f"{name}.") for target in self.placed)
            if not called and any(True for _ in child.parameters()):
                path = join(self.path, name)
                self.notes.unread.append(Unread(path, join(self.home, name), "its weights are not used by the forward"))


def _shortest(step: Mapping[str, Any]) -> Any:
    return step["through"] if list(step) == ["through"] else step


def _branches(references: Sequence[str]) -> dict[str, Any]:
    """A branch for each value; an inline body may refer to the graph around it."""
    names = [chr(ord("a") + at) if len(references) <= 26 else f"b{at}" for at in range(len(references))]
    return {
        name: {"flow": {"value": {"from": reference, "through": "Identity"}}}
        for name, reference in zip(names, references, strict=True)
    }


def _summed(node: fx.Node) -> tuple[list[fx.Node], list[fx.Node]]:
    """The sums in `a + b + c` without other readers, and their operands, in order."""
    if name_of(node) not in ("add", "iadd") or len(_tensors(node)) != 2 or len(node.users) != 1:
        return [], [node]
    left, right = _tensors(node)
    sums, operands = _summed(left)
    return [*sums, node], [*operands, right]


def _tensors(node: fx.Node) -> list[fx.Node]:
    return [value for value in node.args if isinstance(value, fx.Node)]


def _numbers(node: fx.Node) -> list[int | float]:
    return [value for value in node.args if isinstance(value, int | float) and math.isfinite(value)]


def _is_element(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target is operator.getitem and isinstance(node.args[1], int)


def _is_size(node: fx.Node) -> bool:
    """Whether a node returns a size or shape, for a reshape."""
    if name_of(node) == "size" or (name_of(node) == "getattr" and node.args[1] == "shape"):
        return True
    return _is_element(node) and isinstance(node.args[0], fx.Node) and _is_size(node.args[0])


def _is_rows(node: fx.Node) -> bool:
    """Whether a node is the number of rows: `x.size(0)` or `x.shape[0]`."""
    at = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    return _is_size(node) and isinstance(at, int) and at == 0


def _selected(index: object) -> tuple[int, int] | None:
    """Index and dimension of `x[i]`, `x[:, i]`, `x[..., i]`; None for other indices."""
    items = index if isinstance(index, tuple) else (index,)
    numbers = [at for at, item in enumerate(items) if isinstance(item, int)]
    rest = [item for item in items if not isinstance(item, int)]
    if len(numbers) != 1 or not all(item is Ellipsis or item == slice(None) for item in rest):
        return None
    at = numbers[0]
    if Ellipsis in items[:at]:
        return (int(items[at]), at - len(items)) if items[0] is Ellipsis else None
    return int(items[at]), at


def _shown(value: object) -> str:
    return "..." if isinstance(value, list | tuple | fx.Node) else repr(value)


def changes_in_place(node: fx.Node) -> bool:
    """Whether a node changes its input in place."""
    if not node.args or not isinstance(node.args[0], fx.Node) or node.op not in ("call_method", "call_function"):
        return False
    target = str(node.target)
    method = node.op == "call_method" and target.endswith("_") and not target.startswith("_")
    return (
        method or name_of(node) in ("iadd", "imul", "isub", "itruediv", "setitem") or bool(node.kwargs.get("inplace"))
    )


def name_of(node: fx.Node) -> str:
    """The name of the function, method or path that a node calls."""
    return (
        node.target if isinstance(node.target, str) else str(getattr(node.target, "__name__", node.target)).strip("_")
    )
