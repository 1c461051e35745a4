"""The inside of a step: its cost, and the cause of a failure."""
