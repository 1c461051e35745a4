"""`flowconf show`: the composed config, and the origin of each value."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from flowconf.cli.arguments import Described, Overrides, TrustOption, config_of, trust_project_of


def show(
    file: Described,
    overrides: Overrides = None,
    origin: Annotated[
        bool, typer.Option("--origin", help="Add the origin of each value, and the values that it overrides.")
    ] = False,
    resolve: Annotated[
        bool, typer.Option("--resolve", help="Print the values of environment variables instead of `${oc.env:...}`.")
    ] = False,
    trust: TrustOption = False,
) -> None:
    """Print the composed config as YAML. Text from the environment may be secret: its reference is printed."""
    trust_project_of(file, trust)
    from flowconf.api import compose
    from flowconf.text.write import describe, dump

    document = compose(config_of(file), overrides or []).document
    origins = document.origins

    def note(path: tuple[str | int, ...]) -> str:
        return describe(origins.value(path), origins.history(path))

    data = document.data if resolve else origins.root.written()
    sys.stdout.write(dump(data, note if origin else None))
