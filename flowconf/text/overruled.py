"""Values of a main file that a config group after `_self_` in its defaults list sets as well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flowconf.report import Diagnostic, Label, Place
from flowconf.report.origins import Node, Origins, Path, dotted
from flowconf.text.defaults import Included


@dataclass(frozen=True)
class Overruled:
    """A value `written` in the main file that a group replaces by `now`; `named` is the group's entry in the list."""

    path: Path
    written: Node
    now: Node
    group: str
    package: str
    named: Place

    def holds(self, root: Node) -> bool:
        """Whether the group's value is still the final one."""
        final = root.at(self.path)
        return final is not None and final.place == self.now.place

    def warning(self) -> Diagnostic:
        key, group, now = dotted(self.path), self.group, self.now.plain()
        message = f"`{key}` is `{now}` from the config group `{group}`, not `{self.written.plain()}`"
        labels = (
            Label(f"`{group}` sets `{now}`", self.now.place),
            Label("entries after `_self_` override this file", self.named),
        )
        advice = f"remove one of the two, or list the group before `_self_`: `- {group}@{self.package}`"
        return Diagnostic("FC0107", message, self.written.place, key, labels, advice, severity="warning")


def overruled(before: Node, added: Node, included: Included, named: Place, main: str | None) -> Iterator[Overruled]:
    """The values of the file `main` in `before` that a group is about to replace."""
    for path, now in Origins(added).items():
        written = before.at(path)
        both_mappings = written is not None and isinstance(written.value, dict) and isinstance(now.value, dict)
        if written is None or written.place.file != main or both_mappings:
            continue
        above = before.at(path[:-1])
        if above is not None and isinstance(above.value, dict) and written.plain() != now.plain():
            yield Overruled(path, written, now, included.config_path, included.package, named)
