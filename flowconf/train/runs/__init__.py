"""What a run leaves: its folder, checkpoints and logs, and what going on from there needs."""
