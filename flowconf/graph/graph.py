"""A built graph: a module whose `forward` is generated source, with the tree of paths of its document.

All graphs in the tree, including nested ones, are instances of `Graph`; modules are found, frozen, loaded and observed
by the same paths as in the document, the diagram and the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from flowconf.draw.data import as_data
from flowconf.draw.dot import dot
from flowconf.draw.levels import picture
from flowconf.draw.page.assemble import graph_page, in_frame
from flowconf.draw.svg import render
from flowconf.graph import freezing, swapping, views
from flowconf.graph.facts import facts_of_graph
from flowconf.graph.failed_step import add_notes
from flowconf.graph.runtime import over
from flowconf.graph.source.program import restore
from flowconf.graph.summary import Summary, rows
from flowconf.graph.tree import GraphTree
from flowconf.graph.weights import loading as weights
from flowconf.graph.weights.loading import WeightReport
from flowconf.language.resolve.reserved_names import STATE
from flowconf.language.settings import Checkpoint
from flowconf.report import NOWHERE, Diagnostic, PathError, listing
from flowconf.text.output import write_output


class Graph(GraphTree):
    """The base class of all generated classes; `flowconf.build` returns an instance."""

    # paths

    def subgraph(self, path: str) -> Graph:
        """The graph at a path. Raises `PathError` if there is none."""
        found = self.module_at(path)
        if not isinstance(found, Graph):
            message = f"`{path}` is a `{type(found).__name__}`, not a graph"
            inner = [f"{path}.{name}" for name, module in found.named_modules() if isinstance(module, Graph)]
            advice = (
                f"graphs below it: {listing(inner)}"
                if inner
                else "only graphs are written or drawn alone; in Python, `module_at` gives any module"
            )
            raise PathError(Diagnostic("FC0701", message, NOWHERE, path, advice=advice))
        return found

    # frozen parts

    def freeze(self, selector: str = "", params_only: bool = False) -> None:
        """Freeze what a selector means: no gradients, and for whole modules evaluation mode unless `params_only`.

        The nearest setting above a parameter takes precedence, so parts that were thawed by path stay thawed.
        Raises `PathError`.
        """
        self._set_frozen(selector, "params" if params_only else "all")

    def thaw(self, selector: str = "") -> None:
        """Undo `freeze`. Raises `PathError`."""
        self._set_frozen(selector, "no")

    def _set_frozen(self, selector: str, setting: str) -> None:
        modules, parameters = self.parts_at(selector)
        freezing.set_frozen(self, [(module, setting) for module in modules])
        for parameter in parameters:
            parameter.requires_grad_(setting == "no")

    def is_frozen(self, path: str = "") -> bool:
        """Whether everything at a path is frozen. Raises `PathError`."""
        return all(freezing.is_frozen(module) for _, module in self.modules_at(path))

    def train(self, mode: bool = True) -> Graph:
        """Set training or evaluation mode for all parts that are not frozen."""
        freezing.set_mode(self, mode)
        return self

    def train_at(self, path: str, mode: bool = True) -> None:
        """`train` for the module at a path. Raises `PathError`."""
        freezing.set_mode(self.module_at(path), mode)

    def swap(self, path: str, other: Graph) -> None:
        """Replace the nested graph at a path by another one, with its weights.

        It must have the same inputs and outputs; shapes are checked again. Must be called on the outermost graph.
        Raises `PathError` and `ConfigError`, and then changes nothing.
        """
        swapping.swap(self, path, other)

    # values

    def view(self, references: Sequence[str]) -> Graph:
        """A module with the same parameters that returns only these values, as a dict by reference.

        Only the required steps run. A value inside a loop, map or repeat is returned for all iterations, stacked along
        dimension 1 (`[B, iterations, ...]`). Raises `PathError` for an unknown reference.
        """
        viewed = views.view(self, references)
        assert isinstance(viewed, Graph)
        return viewed

    @contextmanager
    def observe(self, *references: str) -> Iterator[dict[str, Any]]:
        """Record these values in every call of this graph within the block.

        A value inside a loop, map or repeat is recorded as the list of all its values. Raises `PathError`.
        """
        with views.observe(self, references) as seen:
            yield seen

    def tagged(self, reference: str) -> Any:
        """The last value of a reference recorded by `observe`, or None. Raises `PathError` for an unknown reference."""
        return views.tagged(self, reference)

    # state between calls

    @property
    def has_state(self) -> bool:
        """Whether any state is kept between calls: a reference to a later step."""
        return any(STATE in module.__dict__ for module in self.modules())

    def reset_state(self) -> None:
        """Clear the state of earlier calls; the next call starts from zeros."""
        for module in self.modules():
            module.__dict__.get(STATE, {}).clear()

    def detach_state(self) -> None:
        """Detach the state, for truncated backpropagation through time."""
        for module in self.modules():
            state = module.__dict__.get(STATE, {})
            state.update({name: over(Tensor.detach, [value]) for name, value in state.items()})

    def _apply(self, fn: Any, recurse: bool = True) -> Graph:
        """The implementation of `to`, `double` and the like: the state is converted like the parameters."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        state = self.__dict__.get(STATE, {})
        state.update({name: over(fn, [value]) for name, value in state.items()})
        return self

    # weights

    def load(
        self,
        source: str | PathLike[str],
        at: str = "",
        *,
        source_at: str | None = None,
        rename: Mapping[str, str] | None = None,
        missing: str = "error",
        unused: str = "warn",
        mismatched: str = "error",
        sha256: str | None = None,
    ) -> WeightReport:
        """Load weights into the module at `at`, with a report of every tensor on both sides.

        `source` is a file or folder of weights, `source_at` selects a subtree of it, `rename` maps old prefixes to new
        ones, in which `*` is any one name. `missing` and `unused` are "error", "warn" or "ignore", `mismatched`
        (another shape) is "error" or "ignore": with "ignore" for all three, all matching tensors are loaded, and only
        no match at all is an error. Raises `PathError` and `ConfigError`.
        """
        renames = tuple((rename or {}).items())
        how = Checkpoint(
            at=source_at, rename=renames, missing=missing, unused=unused, mismatched=mismatched, sha256=sha256
        )
        return weights.load(self.module_at(at), weights.Request(str(source), how, weights.as_argument), at)

    def save(self, file: str | PathLike[str], at: str = "", metadata: Mapping[str, str] | None = None) -> None:
        """Save the module at `at` as safetensors, atomically, with the document of the graph in the metadata.

        `at` may be a selector such as `encoder.**.lora`: then what it means is saved with its full names.
        """
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        if "*" in at:
            weights.save_some(self, self.parameters_at(at), Path(file), metadata or {})
            return
        module = self.module_at(at)
        plan = module._plan if isinstance(module, Graph) else None
        weights.save(module, plan, Path(file), metadata or {})

    # diagrams and tables

    def summary(self) -> Summary:
        """One row for each path: kind, shape, parameters, frozen, checkpoint."""
        return rows(self)

    def html(self) -> str:
        """This graph as a page: one HTML file that folds, unfolds and searches, and needs no network.

        Example:
            Path("model.html").write_text(graph.html(), encoding="utf-8")
        """
        facts = facts_of_graph(self)
        return graph_page(as_data(picture(self._plan, facts, opened=True), facts))

    def _repr_html_(self) -> str:
        """The page, for notebooks, in a sandboxed frame."""
        return in_frame(self.html())

    def dot(self, depth: int | None = None) -> str:
        """The diagram of the document of this graph, with its shapes, as DOT text.

        `depth` is the number of levels of graphs that are drawn, 1 for only this one.
        """
        return dot(picture(self._plan, facts_of_graph(self)), depth=depth)

    def svg(self, file: str | PathLike[str], depth: int | None = None) -> None:
        """Write the diagram as an SVG image. Raises `MachineError` if no renderer is available, and `OSError`."""
        write_output(Path(file), render(self.dot(depth), "svg"))

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name not in ("forward", "_seen")}
        return {**state, STATE: {}} if STATE in state else state

    def __reduce__(self) -> tuple[Any, ...]:
        return restore, (self._program, type(self).__name__), self.__getstate__()


class Outermost(Graph):
    """The outermost graph, which adds the failed step to exceptions."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return (self._compiled_call_impl or self._call_impl)(*args, **kwargs)  # as in torch, one frame less
        except Exception as problem:
            add_notes(problem, self, args, kwargs)
            raise


CLASSES = (Graph, Outermost)
"""The base classes of generated classes: of nested graphs, and of the outermost one."""
