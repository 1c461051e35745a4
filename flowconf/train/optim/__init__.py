"""How parameters move: optimizers and schedules by name, groups by path, and averages."""
