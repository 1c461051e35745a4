"""The road of the design: who may import whom, and what a glance at `--help` may cost."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import flowconf
from flowconf.language import registry, schema
from flowconf.language.advice import sections
from flowconf.language.signatures import public_names

PACKAGE = Path(flowconf.__file__).parent
ROAD = ["report", "text", "language", "draw", "graph", "train", "editor", "api", "cli"]
"""A part may import those that stand before it."""

ALLOWED = {part: set(ROAD[:index]) for index, part in enumerate(ROAD)} | {
    "fbrl": {"report", "text", "language", "graph", "train"},
    "offers": {"language"},
    "__init__": {"report", "text", "language", "graph", "api"},
    "__main__": {"cli"},
}
HEAVY = ("torch", "hydra", "omegaconf", "pydantic", "torchmetrics", "safetensors", "numpy", "tensorboard")
WITHOUT_TORCH = ("report", "text", "language", "draw")
FILES = sorted(file for file in PACKAGE.rglob("*.py") if file.relative_to(PACKAGE).parts[0] != "starter")


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(file: Path, for_types: bool = False) -> Iterator[tuple[int, str]]:
    """Every imported module of a file, inside functions as well; `for_types`: those for type checkers too."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if not for_types and isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively"
            module = node.module or ""
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down_the_road(file):
    part = part_of(file)
    allowed = ALLOWED[part] | {part}
    for line, module in imports(file):
        names = module.split(".")
        if names[0] != "flowconf" or len(names) == 1:
            continue
        assert names[1] in allowed, f"{file}:{line}: `{part}` may not import `{module}`"


LATER = re.compile(r"\bfbrl\b|flowconf[./](graph[./]blocks|train|fbrl)")
FLAGSHIP = {name for file in ("glimpse", "losses", "metrics", "data") for name in public_names(f"flowconf.fbrl.{file}")}


@pytest.mark.parametrize("file", [file for file in FILES if part_of(file) in ("text", "language")], ids=str)
def test_no_text_names_what_comes_later_on_the_road(file):
    """Names reach the language by registration; here no string and no docstring knows them."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            where = f"{file}:{node.lineno}"
            assert LATER.search(node.value) is None, where
            assert node.value not in FLAGSHIP, where


LANGUAGE = {*schema.VERBS, *schema.STEP_KEYS, *sections.TOP, *registry.modules.names()} - {"defaults"}


@pytest.mark.parametrize("file", [file for file in FILES if part_of(file) == "text"], ids=str)
def test_text_knows_no_key_of_the_language(file):
    """What merging must know of it is data (`MergeRules`)."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    known = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert not LANGUAGE.intersection(known)


@pytest.mark.parametrize(
    "file", [file for file in FILES if part_of(file) in WITHOUT_TORCH], ids=lambda file: str(file.relative_to(PACKAGE))
)
def test_torch_begins_in_graph(file):
    for line, module in imports(file):
        assert module.split(".")[0] != "torch", f"{file}:{line} imports torch"


def module_of(file: Path) -> str:
    names = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


MODULES = {module_of(file): file for file in FILES}


@cache
def neighbours(module: str) -> list[str]:
    """The modules of the package that a module imports."""
    named = (name for _, name in imports(MODULES[module], for_types=True))
    found = (name if name in MODULES else name.rpartition(".")[0] for name in named)
    return sorted({name for name in found if name in MODULES})


def circle_through(module: str) -> list[str] | None:
    """The shortest way along imports from a module back to it."""
    ways = deque([[module]])
    seen: set[str] = set()
    while ways:
        way = ways.popleft()
        for name in neighbours(way[-1]):
            if name == module:
                return [*way, module]
            if name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return None


@pytest.mark.parametrize("module", MODULES)
def test_no_imports_go_in_a_circle(module):
    circle = circle_through(module)
    assert circle is None, " -> ".join(circle)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_file_is_long(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 620


def imported_by(*arguments: str) -> set[str]:
    """The top-level packages that a Python call imports."""
    call = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(call, capture_output=True, text=True, check=True, timeout=120)
    names = re.findall(r"^import time:.*\|\s*(\S+)$", done.stderr, flags=re.MULTILINE)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["check", "--help"]], ids=" ".join)
def test_help_is_light(arguments):
    assert imported_by("-m", "flowconf", *arguments).isdisjoint(HEAVY)


def test_importing_the_package_is_light():
    assert imported_by("-c", "import flowconf").isdisjoint(HEAVY)


def test_checking_needs_no_torch():
    assert "torch" not in imported_by("-c", "import flowconf.api, flowconf.draw.svg")


PLAIN = """
data: {name: digits}
model: {inputs: {image: [B, 64]}, flow: {a: ReLU}}
loss: {a: {fn: l1, input: a, target: image}}
"""


def test_a_config_that_stands_alone_needs_no_hydra(tmp_path):
    file = tmp_path / "plain.yaml"
    file.write_text(PLAIN)
    loaded = imported_by("-c", f"from flowconf.api import load; load({str(file)!r})")
    assert loaded.isdisjoint({"torch", "hydra", "omegaconf", "antlr4"})


def test_listing_runs_needs_neither_torch_nor_the_models_of_configs(tmp_path):
    run = tmp_path / "runs" / "a" / "2026-01-01_00-00-00"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    call = f"import sys; from flowconf.cli.main import main; sys.exit(main(['runs', {str(tmp_path / 'runs')!r}]))"
    assert imported_by("-c", call).isdisjoint({"torch", "pydantic", "hydra"})


def test_listing_weights_needs_no_torch(tmp_path):
    file = tmp_path / "small.safetensors"
    save_file({"head.weight": torch.zeros(2, 3)}, file)
    call = f"import sys; from flowconf.cli.main import main; sys.exit(main(['weights', {str(file)!r}]))"
    assert "torch" not in imported_by("-c", call)


@pytest.mark.parametrize("command", ["check", "train"])
def test_mistakes_before_shapes_are_reported_without_torch(command, tmp_path):
    file = tmp_path / "wrong.yaml"
    file.write_text(PLAIN.replace("ReLU", "RelU"))
    call = f"import sys; from flowconf.cli.main import main; sys.exit(main([{command!r}, {str(file)!r}]) != 2)"
    assert "torch" not in imported_by("-c", call)
