"""A built graph: a module whose `forward` is generated source, with the tree of paths that its document describes.

Every graph in the tree, nested ones included, is an instance of `Graph`; what stands at a path is found, frozen, loaded
and observed by the same names that the document, the picture and the checkpoint use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from flowconf.draw.dot import dot
from flowconf.draw.svg import render
from flowconf.graph import freezing, swapping, views
from flowconf.graph.failed_step import add_notes
from flowconf.graph.runtime import over
from flowconf.graph.source.program import restore
from flowconf.graph.summary import Row, rows
from flowconf.graph.tree import GraphTree
from flowconf.graph.weights import loading as weights
from flowconf.graph.weights.loading import WeightReport
from flowconf.language.resolve.reserved_names import STATE
from flowconf.report import NOWHERE, Diagnostic, PathError


class Graph(GraphTree):
    """What all generated classes are; `flowconf.build` makes them."""

    # paths

    def subgraph(self, path: str) -> Graph:
        """The graph at a path. Raises `PathError` when there is no graph."""
        found = self.module_at(path)
        if not isinstance(found, Graph):
            message = f"`{path}` is a `{type(found).__name__}`, not a graph"
            raise PathError(Diagnostic("FC0701", message, NOWHERE, path))
        return found

    # frozen parts

    def freeze(self, path: str = "", params_only: bool = False) -> None:
        """Freeze what stands at a path: no gradients, and evaluation mode unless `params_only`.

        The nearest setting above a parameter wins, so a part below that was thawed by name stays thawed.
        Raises `PathError`.
        """
        freezing.set_frozen(self, self.module_at(path), "params" if params_only else "all")

    def thaw(self, path: str = "") -> None:
        """The opposite of `freeze`. Raises `PathError`."""
        freezing.set_frozen(self, self.module_at(path), "no")

    def is_frozen(self, path: str = "") -> bool:
        """Whether everything at a path is frozen. Raises `PathError`."""
        return freezing.is_frozen(self.module_at(path))

    def train(self, mode: bool = True) -> Graph:
        """Training or evaluation mode for everything that is not frozen."""
        super().train(mode)
        freezing.keep_evaluating(self, mode)
        return self

    def train_at(self, path: str, mode: bool = True) -> None:
        """`train` for what stands at a path. Raises `PathError`."""
        module = self.module_at(path)
        module.train(mode)
        freezing.keep_evaluating(module, mode)

    def swap(self, path: str, other: Graph) -> None:
        """Put another graph, with its weights, in the place of the nested graph at a path.

        It must take the same inputs and give the same outputs; shapes are checked anew. To be called on the outermost
        graph. Raises `PathError` and `ConfigError`, and then changes nothing.
        """
        swapping.swap(self, path, other)

    # values

    def view(self, references: Sequence[str]) -> Graph:
        """A module on the same parameters that gives just these values, as a dict by reference.

        Only what they need runs. A value inside a loop, map or repeat comes with all its iterations, stacked along
        dimension 1 (`[B, iterations, ...]`). Raises `PathError` for a reference that names nothing.
        """
        viewed = views.view(self, references)
        assert isinstance(viewed, Graph)
        return viewed

    @contextmanager
    def observe(self, *references: str) -> Iterator[dict[str, Any]]:
        """Within the block, every call of this graph also notes these values.

        A value inside a loop, map or repeat is noted as the list of all its values. Raises `PathError`.
        """
        with views.observe(self, references) as seen:
            yield seen

    def tagged(self, reference: str) -> Any:
        """What `observe` noted last of a reference, or None. Raises `PathError` for one that names nothing."""
        return views.tagged(self, reference)

    # state between calls

    @property
    def has_state(self) -> bool:
        """Whether any value is kept from one call to the next: a reference to a later step."""
        return any(STATE in module.__dict__ for module in self.modules())

    def reset_state(self) -> None:
        """Forget what earlier calls kept; the next call starts from zeros."""
        for module in self.modules():
            module.__dict__.get(STATE, {}).clear()

    def detach_state(self) -> None:
        """Keep the values, and cut their gradients: truncated backpropagation through time."""
        for module in self.modules():
            state = module.__dict__.get(STATE, {})
            state.update({name: over(Tensor.detach, [value]) for name, value in state.items()})

    def _apply(self, fn: Any, recurse: bool = True) -> Graph:
        """What `to`, `double` and the like do: the kept values go where the parameters go."""
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
        """Load weights into what stands at `at`, and account for every tensor on both sides.

        `source` is a file or folder of weights, `source_at` takes only that subtree of it, `rename` maps old prefixes
        to new ones. `missing` and `unused` are "error", "warn" or "ignore", `mismatched` (another shape) is "error" or
        "ignore": with "ignore" for all three everything that still fits is taken, and only nothing at all is an error.
        Raises `PathError` and `ConfigError`.
        """
        renames = tuple((rename or {}).items())
        request = weights.Request(str(source), source_at, renames, missing, unused, sha256, mismatched=mismatched)
        return weights.load(self.module_at(at), request, at)

    def save(self, file: str | PathLike[str], at: str = "", metadata: Mapping[str, str] | None = None) -> None:
        """Save what stands at `at` as safetensors, atomically; the graph's document travels in the metadata."""
        module = self.module_at(at)
        plan = module._plan if isinstance(module, Graph) else None
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        weights.save(module, plan, Path(file), metadata or {})

    # pictures and tables

    def summary(self) -> list[Row]:
        """One row for each path: kind, shape, parameters, frozen, checkpoint."""
        return rows(self)

    def dot(self, depth: int | None = None) -> str:
        """The picture of the document that this graph was built from, with its shapes, as DOT text.

        `depth` is how many levels of graphs are drawn, 1 for this one alone.
        """
        return dot(self._plan, self._shapes, depth=depth)

    def svg(self, file: str | PathLike[str], depth: int | None = None) -> None:
        """Write the picture as an SVG image. Raises `MachineError` when nothing here can draw it, and `OSError`."""
        Path(file).write_bytes(render(self.dot(depth), "svg"))

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name not in ("forward", "_seen")}
        return {**state, STATE: {}} if STATE in state else state

    def __reduce__(self) -> tuple[Any, ...]:
        return restore, (self._program, type(self).__name__), self.__getstate__()


class Outermost(Graph):
    """A graph that is called from outside: it says of a failure where in the tree it was."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return (self._compiled_call_impl or self._call_impl)(*args, **kwargs)  # as in torch, one frame less
        except Exception as problem:
            add_notes(problem, self, args, kwargs)
            raise


CLASSES = (Graph, Outermost)
"""What generated classes are: those of nested graphs, and that of the whole."""
