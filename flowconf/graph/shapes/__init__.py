"""The shape check: runs a graph on fake tensors before real modules are created."""
