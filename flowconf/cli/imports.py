"""Quick imports of torch: most commands need neither its compiler nor garbage collection while it is imported."""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:  # it imports much, and the base classes are empty but for the methods below
    Loader = MetaPathFinder = object

COMPILER = "torch._dynamo"


def quicken_torch() -> None:
    """Make the first `import torch` of this process quick, wherever it happens."""
    if "torch" not in sys.modules and not any(isinstance(finder, _TorchFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchFinder())


class _TorchFinder(MetaPathFinder):
    """Finds torch and its compiler where they are, and gives them other loaders."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name == "torch":
            return self._with_loader(_Uncollected, name, path)
        if name == COMPILER:
            return self._with_loader(_Deferred, name, path)
        if name.startswith((f"{COMPILER}.", "torch._inductor")) and name != f"{COMPILER}.config":
            return self._after_compiler(name)
        return None

    def _with_loader(
        self, loader: Callable[[Loader], Loader], name: str, path: Sequence[str] | None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = loader(spec.loader)
        return spec

    def _after_compiler(self, name: str) -> ModuleSpec | None:
        """Load the compiler before a module of it: its modules import each other in an order that the package sets."""
        compiler = sys.modules.get(COMPILER)
        if not isinstance(compiler, _Compiler):
            return None
        compiler.load()
        return ModuleSpec(name, _Loaded(sys.modules[name])) if name in sys.modules else None


class _Loaded(Loader):
    """Gives a module that was imported while it was looked for."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.spec = module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


class _Uncollected(Loader):
    """Executes a module without garbage collection, now and later: its many objects are never freed.

    Looking through them takes a fifth of the time to the first step of a run.
    """

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        collects = gc.isenabled()
        gc.disable()
        try:
            self.loader.exec_module(module)
        finally:
            gc.freeze()
            if collects:
                gc.enable()


class _Deferred(Loader):
    """Executes a package when an attribute of it is read. Its modules can be imported before that."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Compiler(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Executed later, by `_Compiler`."""


class _Compiler(ModuleType):
    """torch's compiler until it is needed.

    torch imports it whenever an optimizer or a fake tensor is made, to exclude functions from compilation and to mark
    breaks in compiled code. Without a compiler both do nothing.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "disable":
            return self._disable
        if name == "graph_break":
            return lambda *_, **__: None
        return getattr(self.load(), name)

    def load(self) -> ModuleType:
        """Execute the package; what is read from now on is its own."""
        assert self.__spec__ is not None
        if isinstance(self.__spec__.loader, _Deferred):
            self.__class__ = ModuleType  # type: ignore[assignment]
            self.__spec__.loader = self.__spec__.loader.loader
            self.__spec__.loader.exec_module(self)
        return self

    def _disable(self, function: Callable[..., Any] | None = None, *options: Any, **named: Any) -> Callable[..., Any]:
        """The function, excluded from compilation once the compiler is loaded."""
        if function is None:
            return self.load().disable(function, *options, **named)  # type: ignore[no-any-return]
        excluded = functools.cache(lambda: self.disable(function, *options, **named))

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return (function if type(self) is _Compiler else excluded())(*args, **kwargs)

        return call
