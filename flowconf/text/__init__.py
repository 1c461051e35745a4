"""From YAML, TOML and the command line to plain data with places.

Knows nothing of networks. Hydra is imported by the first composition that needs it.
"""

from flowconf.report.origins import Document, MountOrigin, Origins, Path
from flowconf.text.compose import (
    Composition,
    Turn,
    compose,
    compose_graph_file,
    composing,
    multirun,
    sweep_folder,
    with_graphs,
)
from flowconf.text.documents import from_data, read
from flowconf.text.merge import MergeRules

__all__ = [
    "Composition",
    "Document",
    "MergeRules",
    "MountOrigin",
    "Origins",
    "Path",
    "Turn",
    "compose",
    "compose_graph_file",
    "composing",
    "from_data",
    "multirun",
    "read",
    "sweep_folder",
    "with_graphs",
]
