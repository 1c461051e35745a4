"""Observers of a run, which do not change it: callbacks and statistics."""
