"""What the commands do that train, or that work with runs: one file for each."""
