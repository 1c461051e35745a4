"""From YAML, TOML and the command line to plain data with places.

Knows nothing of networks. Hydra is imported by the first composition that needs it.
"""

from flowconf.report.origins import Document, MountOrigin, Origins, Path
from flowconf.text.compose import Composition, Failed, compose, compose_graph_file, sweep, with_graphs
from flowconf.text.documents import from_data, read
from flowconf.text.merge import MergeRules

__all__ = [
    "Composition",
    "Document",
    "Failed",
    "MergeRules",
    "MountOrigin",
    "Origins",
    "Path",
    "compose",
    "compose_graph_file",
    "from_data",
    "read",
    "sweep",
    "with_graphs",
]
