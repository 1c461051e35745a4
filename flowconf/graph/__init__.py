"""From the Plan to modules: shapes, generated source, the tree of paths, weights. This package requires torch."""
