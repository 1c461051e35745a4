"""From the Plan to modules: shapes, generated source, the tree of paths, weights. Here torch begins."""

from flowconf.graph.build import build_graph, check_checkpoints, check_shapes, load_checkpoints
from flowconf.graph.graph import Graph
from flowconf.graph.summary import Row
from flowconf.graph.weights.loading import WeightReport

__all__ = ["Graph", "Row", "WeightReport", "build_graph", "check_checkpoints", "check_shapes", "load_checkpoints"]
