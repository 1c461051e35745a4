"""From the Plan to modules: shapes, generated source, the tree of paths, weights. This package requires torch."""

from flowconf.graph.build import build_graph, check_shapes, check_weights, load_checkpoints, requests
from flowconf.graph.graph import Graph
from flowconf.graph.summary import Row
from flowconf.graph.weights.loading import WeightReport

__all__ = [
    "Graph",
    "Row",
    "WeightReport",
    "build_graph",
    "check_shapes",
    "check_weights",
    "load_checkpoints",
    "requests",
]
