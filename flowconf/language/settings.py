"""The settings of the modules at a path of a Plan, besides what they compute: weights, initial values, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from flowconf.language.arguments import Call, Literal
from flowconf.language.paths import join, nearest
from flowconf.report import NOWHERE, Place

if TYPE_CHECKING:
    from flowconf.language.changing import Changing  # whose import takes longer than listing runs


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The source of the weights of a subgraph; exactly one of `path`, `config` and `hub` is set."""

    path: str | None = None
    config: str | None = None
    hub: str | None = None
    revision: str | None = None
    file: str | None = None
    step: int | None = None
    at: str | None = None
    rename: tuple[tuple[str, str], ...] = ()
    missing: str = "error"
    unused: str = "warn"
    mismatched: str = "error"
    sha256: str | None = None
    where: tuple[tuple[str, Any], ...] = ()
    """Dotted key -> the value that it has in the config of a run."""
    place: Place = field(default=NOWHERE, compare=False)
    places: tuple[tuple[str, Place], ...] = field(default=(), compare=False)
    """The places of `step`, `revision`, `file`, `at`, `sha256`, each old prefix of `rename` (as `rename.OLD`) and each
    key of `where`."""


@dataclass(frozen=True, slots=True)
class Start:
    """The initial value of a parameter: a function of `torch.nn.init`, a number, a list, or a scale of the default."""

    parameter: str
    how: Call | Literal
    scale: float | None = None
    place: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Link:
    """The modules at `path` are linked to those at `home`, empty until it is resolved from `text`, which is written."""

    path: str
    home: str = ""
    text: str = field(default="", compare=False, repr=False)
    place: Place = field(default=NOWHERE, compare=False)
    key: Place = field(default=NOWHERE, compare=False)

    @property
    def name(self) -> str:
        """The path of what is linked."""
        return self.path

    def below(self, prefix: str) -> Self:
        """The same with the paths of a surrounding graph."""
        return replace(self, path=join(prefix, self.path), home=join(prefix, self.home))


@dataclass(frozen=True, slots=True)
class Tie(Link):
    """A parameter of the module at `path` that is the parameter `of` of the module at `home`: one tensor."""

    parameter: str = ""
    of: str = ""

    @property
    def name(self) -> str:
        """The name of the parameter that is replaced."""
        return f"{self.path}.{self.parameter}"

    @property
    def other(self) -> str:
        """The name of the parameter that it is."""
        return f"{self.home}.{self.of}"


@dataclass(frozen=True, slots=True)
class Follow(Link):
    """The parameters of the module at `path` are moving averages of those of the module at `home`.

    After each step of a run they move by the part 1 - `decay` of the difference.
    """

    decay: float | Changing = 0.0


@dataclass(frozen=True, slots=True)
class Adapter:
    """Adapters of the modules at `paths`, all below `path`: a registered name, and its arguments.

    `inside` are modules with their own `forward`, in which the selector may select further ones when they are built.
    """

    path: str
    selector: str
    name: str
    args: tuple[tuple[str, Literal], ...] = ()
    paths: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    place: Place = field(default=NOWHERE, compare=False)
    name_place: Place = field(default=NOWHERE, compare=False)

    def below(self, prefix: str) -> Adapter:
        """The same with the paths of a surrounding graph."""
        paths, inside = (tuple(join(prefix, path) for path in part) for part in (self.paths, self.inside))
        return replace(self, path=join(prefix, self.path), paths=paths, inside=inside)


@dataclass(frozen=True, slots=True)
class Setting:
    """The settings of the modules at a path. `frozen` is "all", "params" or "no"."""

    path: str
    frozen: str | None = None
    checkpoint: Checkpoint | None = None
    init: tuple[Start, ...] = ()
    place: Place = field(default=NOWHERE, compare=False)


def freezing_above(parameter: str, settings: Mapping[str, Setting]) -> Setting | None:
    """The nearest of some `frozen` settings, by path, at or above a parameter; those of adapters are the nearest."""
    if not settings:
        return None
    adapters = (settings.get(f"**.{part}") for part in parameter.split("."))
    return next(filter(None, adapters), None) or nearest(parameter.rpartition(".")[0], settings)
