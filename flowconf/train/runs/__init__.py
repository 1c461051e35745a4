"""The folder of a run: its checkpoints and logs, and resuming from them."""
