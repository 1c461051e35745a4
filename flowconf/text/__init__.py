"""Texts to plain data with places: reads YAML and TOML, and composes configs.

Knows nothing of networks. Hydra is imported by the first composition, not before.
"""

from flowconf.report.origins import Document, Mount, Origins, Path
from flowconf.text.compose import Composition, Failed, compose, compose_graph_file, sweep, with_graphs
from flowconf.text.documents import from_data, read
from flowconf.text.merge import MergeRules

__all__ = [
    "Composition",
    "Document",
    "Failed",
    "MergeRules",
    "Mount",
    "Origins",
    "Path",
    "compose",
    "compose_graph_file",
    "from_data",
    "read",
    "sweep",
    "with_graphs",
]
