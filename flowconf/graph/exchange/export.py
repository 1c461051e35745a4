"""Exports graphs as programs that run without Python: `torch.export` files and ONNX.

All symbolic sizes (`B`, `T`) are dynamic in the program. Before the program is written, it is loaded and compared with
the graph on sizes other than those of tracing; a program that differs is not written.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export.graph_signature import OutputKind, TensorArgument

from flowconf.graph import runtime
from flowconf.graph.failed_step import MARK
from flowconf.graph.graph import Graph
from flowconf.graph.shapes.check import infer
from flowconf.graph.shapes.inference import Inference
from flowconf.language.open_size import open_size, parts
from flowconf.language.paths import join
from flowconf.language.plan import GraphPlan, Input, Mount, Step
from flowconf.report import ConfigError, Diagnostic, MachineError, Reporter, RunError, first_line, listing, raised_here
from flowconf.text.output import write_output

ENDINGS = (".pt2", ".onnx")
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TRACED, COMPARED = (3, 4, 5, 7, 11), (2, 6, 9, 10, 13)
"""Values of dynamic sizes for tracing and for comparing: never 1, which torch specializes."""
CLOSED = re.compile(r"You marked (\w+) as dynamic but your code specialized it to be a constant \((\d+)\)")
RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""Tolerances between the program and the graph, because kernels sum in different orders."""

RunProgram = Callable[[tuple[Tensor, ...]], Any]


@dataclass(frozen=True)
class Exported:
    """A written program: its dynamic sizes, the shapes on which it was compared, and the largest difference."""

    file: Path
    open_sizes: tuple[str, ...]
    compared: tuple[tuple[int, ...], ...]
    difference: float

    def __str__(self) -> str:
        opened = f"dynamic sizes {listing(self.open_sizes)}" if self.open_sizes else "static sizes"
        shapes = ", ".join(str(list(shape)) for shape in self.compared)
        same = "equal to the graph" if self.difference == 0 else f"within {self.difference:.1e} of the graph"
        return f"wrote {self.file}: {opened}; outputs on {shapes} are {same}"


def export(graph: Graph, file: str | Path, sizes: Mapping[str, int] | None = None) -> Exported:
    """Write `graph`, in evaluation mode and on the CPU, as a `.pt2` or `.onnx` program, without changing it.

    `sizes` fixes dynamic sizes: name -> value. Raises `ConfigError` for a graph that cannot be exported (FC0208),
    `MachineError` for missing packages of ONNX, and `RunError` if the outputs of the program differ from the graph.
    """
    file = Path(file)
    if file.suffix not in ENDINGS:
        message = f"`{file.name}` must end in {' or '.join(f'`{ending}`' for ending in ENDINGS)}"
        raise ConfigError(Diagnostic("FC0123", message, advice="use `.pt2` for torch.export, `.onnx` for ONNX"))
    if file.suffix == ".onnx":
        _need_packages()
    inputs = [given for given in graph.plan.inputs if not given.captured]
    _check(graph.plan)
    symbols = _symbols(inputs, sizes or {})
    found = infer(graph.plan)
    inputs = _fitting(inputs, found, sizes or {})
    graph = copy.deepcopy(graph).cpu().eval()
    program = _traced(graph, inputs, symbols, sizes or {}, found.offsets)
    _name_outputs(program, graph)
    data, run = _as_onnx(program, inputs, symbols) if file.suffix == ".onnx" else _as_pt2(program)
    others = _example(inputs, {**dict(zip(symbols, COMPARED * len(symbols), strict=False)), **(sizes or {})})
    difference = _difference(graph, run, others)
    write_output(file, data)
    opened = (size for given in inputs for size in given.shape or () if parts(str(size))[1] in symbols)
    compared = tuple(tuple(tensor.shape) for tensor in others)
    return Exported(file, tuple(map(str, dict.fromkeys(opened))), compared, difference)


def _need_packages() -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        advice = (
            'install them with `pip install "flowconf[export]"`, or write a `.pt2` program, which does not need them'
        )
        message = f"ONNX requires {listing(missing)}, which are not installed"
        raise MachineError(Diagnostic("FC0601", message, advice=advice))


# obstacles


def _check(plan: GraphPlan) -> None:
    """Raise `ConfigError` with every member that cannot be exported."""
    reporter = Reporter(diagnostics=list(_obstacles(plan, "")))
    for given in plan.inputs:
        if given.captured:
            message = f"`{given.name}` comes from the surrounding graph, which is not exported with this one"
            reporter.error("FC0208", message, plan.place, path=given.name, advice="export the surrounding graph")
        elif given.shape is None:
            message = f"the input `{given.name}` has no shape, which tracing requires"
            reporter.error("FC0208", message, plan.place, path=given.name, advice="write `inputs: {x: [B, ...]}`")
    reporter.stop_on_errors()


def _obstacles(plan: GraphPlan, prefix: str) -> Iterator[Diagnostic]:
    for step in plan.steps:
        path = join(prefix, step.path)
        for message, advice in _reasons(step):
            yield Diagnostic("FC0208", f"`{path}` cannot be exported: {message}", step.place, path, advice=advice)
        for applied in step.applied():
            if isinstance(applied.module, Mount):
                yield from _obstacles(applied.module.graph, join(prefix, applied.path))


def _reasons(step: Step) -> Iterator[tuple[str, str]]:
    """Why a step cannot be exported, and the advice."""
    if step.decision == runtime.route.__name__:
        yield (
            "the selected branches depend on the data",
            "use a `gate`, which runs all of them, or export the branches with `--at`",
        )
    if step.decision == runtime.top_experts.__name__:
        yield "which experts run depends on the data", "remove `top`, so that all experts run"
    if step.decision == runtime.halts.__name__:
        yield "the number of iterations depends on the data", f"write `times: {step.limit and step.limit.text}`"
    for value in step.reads:
        if value.recurrent:
            message = f"it keeps `{value}` between calls, but a program has no state"
            yield message, "make the state an input and an output of the graph"


# tracing


def _symbols(inputs: list[Input], sizes: Mapping[str, int]) -> tuple[str, ...]:
    """The dynamic sizes of the inputs, in order of appearance. Raises `ConfigError` for an unknown name in `sizes`."""
    found = dict.fromkeys(parts(size)[1] for given in inputs for size in given.shape or () if isinstance(size, str))
    for name in sizes:
        if name not in found:
            advice = f"available sizes: {listing(list(found))}"
            raise ConfigError(Diagnostic("FC0123", f"unknown size `{name}`", advice=advice))
    return tuple(name for name in found if name not in sizes)


def _fitting(inputs: list[Input], found: Inference, sizes: Mapping[str, int]) -> list[Input]:
    """The inputs, with `4*H` for a size `H` that must be a multiple of 4. Raises `ConfigError` for others."""
    for name, number in sizes.items():
        multiple = found.multiples.get(name, 1)
        if number % multiple:
            advice = f"write `--size {name}={max(1, round(number / multiple)) * multiple}`"
            message = f"`{name}` must be a multiple of {multiple}, got `{number}`"
            raise ConfigError(Diagnostic("FC0123", message, advice=advice))

    def scaled(size: int | str) -> int | str:
        factor, symbol = parts(str(size))
        multiple = 1 if symbol in sizes else found.multiples.get(symbol, 1)
        return open_size(factor * multiple, symbol) if multiple > 1 else size

    return [given if given.shape is None else replace(given, shape=tuple(map(scaled, given.shape))) for given in inputs]


def _example(inputs: list[Input], numbers: Mapping[str, int]) -> tuple[Tensor, ...]:
    """Random tensors for the inputs; integers are 0 or 1, so that they are valid indices."""
    generator = torch.Generator().manual_seed(0)
    tensors = []
    for given in inputs:
        shape = [size if isinstance(size, int) else _times(numbers, size) for size in given.shape or ()]
        dtype = getattr(torch, given.dtype)
        if dtype.is_floating_point or dtype.is_complex:
            tensors.append(torch.randn(shape, generator=generator).to(dtype))
        else:
            tensors.append(torch.randint(0, 2, shape, generator=generator).to(dtype))
    return tuple(tensors)


def _times(symbols: Mapping[str, Any], size: str) -> Any:
    """The value of a size that may be a multiple of a symbol."""
    factor, symbol = parts(size)
    return symbols[symbol] if factor == 1 else factor * symbols[symbol]


def _traced(
    graph: Graph,
    inputs: list[Input],
    symbols: tuple[str, ...],
    sizes: Mapping[str, int],
    offsets: Mapping[str, int],
) -> torch.export.ExportedProgram:
    numbers = {**dict(zip(symbols, TRACED * len(symbols), strict=False)), **sizes}
    dims = {name: torch.export.Dim(name) for name in symbols}
    shapes = {
        given.name: {
            axis: _times(dims, size)
            for axis, size in enumerate(given.shape or ())
            if isinstance(size, str) and parts(size)[1] in dims
        }
        for given in inputs
    }
    try:
        with _quiet():  # such as those of recurrent modules; the outputs are compared
            return torch.export.export(graph, _example(inputs, numbers), dynamic_shapes=shapes, strict=False)
    except Exception as problem:  # tracing runs modules of any kind, and raises what they raise
        raise ConfigError(
            *_refusals(problem, graph, {name: offsets[name] for name in symbols if name in offsets})
        ) from problem


def _refusals(problem: Exception, graph: Graph, offsets: Mapping[str, int]) -> Iterator[Diagnostic]:
    """An error of tracing, in terms of the graph; `offsets` are dynamic sizes such as `2 * k + 1` -> the smallest."""
    closed = CLOSED.findall(str(problem))
    for symbol, _ in closed:
        message = f"the size `{symbol}` cannot be dynamic: a module of the graph specializes it"
        place = next((given.place for given in graph.plan.inputs if symbol in (given.shape or ())), graph.plan.place)
        advice = f"fix it with `--size {symbol}=...`; recurrent modules require that for the length of a sequence"
        yield Diagnostic("FC0208", message, place, symbol, advice=advice)
    if not closed:
        path, found = getattr(problem, MARK, ("", None))
        what = f"`{path}`" if path else "the graph"
        message = f"{what} cannot be exported: {first_line(problem)}"
        place = graph.plan.place if found is None else found
        fixed = " ".join(f"--size {name}={smallest}" for name, smallest in offsets.items())
        advice = f"fix {listing(list(offsets))}, which cannot take every size: `{fixed}`, or another size that fits"
        yield Diagnostic("FC0208", message, place, path, raised_here(problem), advice if offsets else None)


def _name_outputs(program: torch.export.ExportedProgram, graph: Graph) -> None:
    """Call what the program gives by the names of the graph's outputs; one that is called as an input gets a `_`."""
    names = [name for name, _ in graph.plan.outputs]
    nodes = {node.name: node for node in program.graph.nodes}
    made = {name: node for name, node in nodes.items() if node.op == "call_function"}
    given = [spec for spec in program.graph_signature.output_specs if spec.kind is OutputKind.USER_OUTPUT]
    if len(names) != len(given):  # an output of several tensors, which has no name for each of them
        return
    for spec, name in zip(given, names, strict=True):
        node = made.pop(getattr(spec.arg, "name", ""), None)
        if node is not None and isinstance(spec.arg, TensorArgument):
            given_name = name if name.isidentifier() else node.name
            while given_name in nodes and nodes[given_name].op != "call_function":
                given_name += "_"
            other = nodes.get(given_name, node)  # the name may be that of another value, which gets the one of this
            other.name, node.name = node.name, given_name
            nodes |= {other.name: other, node.name: node}
            spec.arg = TensorArgument(name=node.name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of torch, also those that it logs, such as that torchvision is not installed."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


# writing


def _as_pt2(program: torch.export.ExportedProgram) -> tuple[bytes, RunProgram]:
    stream = io.BytesIO()
    torch.export.save(program, stream)
    data = stream.getvalue()
    with _quiet():  # older versions of torch warn about read-only buffers
        read = torch.export.load(io.BytesIO(data)).module()
    return data, lambda tensors: read(*tensors)


def _as_onnx(
    program: torch.export.ExportedProgram, inputs: list[Input], symbols: tuple[str, ...]
) -> tuple[bytes, RunProgram]:
    import onnxruntime

    names = [str(name) for name in program.graph_signature.user_outputs]
    with _quiet():  # of torch.onnx; the outputs are compared
        written = torch.onnx.export(program, dynamo=True, verbose=False, output_names=names)
    assert written is not None
    model = written.model_proto
    _name_sizes(model.graph, inputs, symbols)
    data: bytes = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def run(tensors: tuple[Tensor, ...]) -> list[Tensor]:
        names = [given.name for given in session.get_inputs()]
        feed = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
        return [torch.as_tensor(output) for output in session.run(None, feed)]

    return data, run


def _name_sizes(graph: Any, inputs: list[Input], symbols: tuple[str, ...]) -> None:
    """Call the open sizes of an ONNX graph by the symbols of its inputs, in expressions too."""
    dims = {value.name: value.type.tensor_type.shape.dim for value in graph.input}
    names = {
        parts(dim.dim_param)[1]: parts(str(size))[1]
        for given in inputs
        for dim, size in zip(dims.get(given.name, ()), given.shape or (), strict=False)
        if parts(str(size))[1] in symbols and dim.dim_param
    }
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), dim.dim_param)


# comparing


def _difference(graph: Graph, run: RunProgram, given: tuple[Tensor, ...]) -> float:
    """The largest difference between the outputs of graph and program. Raises `RunError` beyond the tolerances."""
    with torch.no_grad():
        mine, theirs = (list(runtime.tensors(outputs)) for outputs in (graph(*given), run(given)))
    fits = len(mine) == len(theirs) and all(a.shape == b.shape for a, b in zip(mine, theirs, strict=True))
    pairs = [(a.double(), b.double()) for a, b in zip(mine, theirs, strict=False)]
    if not fits or not all(torch.allclose(a, b, RELATIVE, ABSOLUTE, equal_nan=True) for a, b in pairs):
        shapes = ", ".join(str(list(tensor.shape)) for tensor in given)
        message = f"the outputs of the program differ from the graph on inputs {shapes}: nothing was written"
        advice = "a module of the graph depends on sizes in a way that tracing does not capture"
        raise RunError(Diagnostic("FC0702", message, advice=advice))
    return max((float((a - b).abs().nan_to_num().max()) for a, b in pairs if a.numel()), default=0.0)
