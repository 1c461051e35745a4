"""The commands that train or that work with runs, one file for each."""
