"""`flowconf import`: a graph document for an existing Python module. The only command that runs code by name."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from torch import nn

    from flowconf.graph.exchange.importer import Imported

Shapes = dict[str, list[int | str]]


def import_module(
    factory: Annotated[
        str,
        typer.Argument(
            metavar="PACKAGE.MODULE:FACTORY",
            help="A module class, or a function without arguments that returns a module.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="The YAML file to write.")
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=[SIZE, ...]", help="The shape of an input: x=[B, 3, 32, 32]."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights", metavar="FILE", help="Write the module's weights as safetensors, with the names of the graph."
        ),
    ] = None,
) -> None:
    """Convert an existing module to a graph, as far as possible. This runs the module's code."""
    from flowconf.graph.exchange.importer import read
    from flowconf.text.output import write_output

    shapes = dict(_shape(text) for text in inputs or [])
    module = _made(factory)
    found = read(module, shapes)
    text = found.yaml(factory)
    if output is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_output(output, text.encode())
    for line in _account(module, found, shapes, weights):
        print(line, file=sys.stderr)


def _account(module: nn.Module, found: Imported, shapes: Shapes, weights: Path | None) -> list[str]:
    """The parts that could not be converted, or the result of comparing the graph with the module."""
    from flowconf.graph.exchange.importer import outputs_are_equal, rebuilt
    from flowconf.report import ConfigError, Diagnostic, RunError

    if found.unread:
        if weights is not None:
            message = f"`--weights` requires that all parts are converted, but {len(found.unread)} could not be"
            raise ConfigError(Diagnostic("FC0302", message))
        return [f"{len(found.unread)} could not be converted:", *(f"  {one}" for one in found.unread)]
    graph = rebuilt(module, found)
    lines = [f"all parts converted: {len(graph.state_dict())} tensors, {len(found.rename)} prefixes renamed"]
    if shapes:
        if not outputs_are_equal(module, graph, shapes):
            message = "with the same weights, the outputs of the graph differ from those of the module"
            raise RunError(Diagnostic("FC0702", message, advice="the module does something that tracing does not see"))
        lines.append("the outputs of the graph and the module are equal, bit for bit")
    if weights is not None:
        graph.save(weights)
        lines.append(f"wrote {weights}")
    return lines


def _made(spec: str) -> nn.Module:
    """The module that `package.module:Factory` names. Raises `ConfigError`."""
    from torch import nn

    from flowconf.report import ConfigError, Diagnostic, Place

    def refused(message: str, advice: str) -> ConfigError:
        return ConfigError(Diagnostic("FC0132", message, Place(word=spec), advice=advice))

    source, _, name = spec.partition(":")
    if not source or not name:
        raise refused(f"expected `package.module:Factory`, got `{spec}`", "name a class or function after the colon")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(source)
    except ImportError as problem:
        advice = "modules are imported relative to the current folder"
        raise refused(f"`{source}` cannot be imported: {problem}", advice) from None
    except (Exception, SystemExit) as problem:  # user code may raise anything
        raised = f"{type(problem).__name__}: {problem}"
        raise refused(f"`{source}` cannot be imported: {raised}", "fix the error in the module") from problem
    for part in name.split("."):
        if not hasattr(found, part):
            raise refused(f"`{source}` has no `{part}`", "write the name of a class or function in it")
        found = getattr(found, part)
    if not isinstance(found, nn.Module) and callable(found):
        try:
            found = found()
        except (Exception, SystemExit) as problem:  # user code may raise anything
            message = f"`{name}()` failed: {type(problem).__name__}: {problem}"
            raise refused(message, "name a function without arguments that returns the module") from problem
    if not isinstance(found, nn.Module):
        message = f"expected a module from `{spec}`, got `{type(found).__name__}`"
        raise refused(message, "name a function that returns a module")
    return found


def _shape(text: str) -> tuple[str, list[int | str]]:
    """`x=[B, 3]` as a name and sizes."""
    name, _, sizes = text.partition("=")
    try:
        listed = ast.parse(sizes.strip(), mode="eval").body
        items = listed.elts if isinstance(listed, ast.List | ast.Tuple) else []
        found = [item.id if isinstance(item, ast.Name) else ast.literal_eval(item) for item in items]
    except (SyntaxError, ValueError):
        found = []
    if not (name.isidentifier() and found and all(isinstance(size, int | str) for size in found)):
        raise typer.BadParameter(f"expected NAME=[SIZE, ...], got `{text}`", param_hint="'--input'")
    return name, found
