"""What sees a run and does not change it: callbacks and statistics."""
