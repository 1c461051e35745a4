"""Trust in the project of a config or run, wherever a command or a program is started."""

from __future__ import annotations

import os
from pathlib import Path

from flowconf.language import projects


def trust_project(source: object, trust: bool) -> None:
    """With `trust`, import the modules of the project of a config or run from now on, even outside that project.

    Raises `ConfigError`.
    """
    if not trust or not isinstance(source, str | os.PathLike):
        return
    if not Path(source).is_dir():
        projects.trust(Path(os.path.realpath(source)).parent)
        return
    from flowconf.graph.weights.sources import find_run_folder
    from flowconf.train.runs.loading import started_from
    from flowconf.train.runs.sweeps import asked_for, is_sweep

    if is_sweep(Path(source)):
        projects.trust(Path(asked_for(Path(source)).config).parent)
        return
    folder = find_run_folder(Path(source))
    projects.trust(folder)
    origin = started_from(folder)
    if origin is not None:
        projects.trust(origin)
