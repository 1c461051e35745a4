"""From a graph document to its Plan: calls, names, references, parameters, structure."""
