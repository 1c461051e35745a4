"""What can be told of a run before it begins."""
