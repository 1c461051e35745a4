"""Saving and loading of weights: files, sources, load reports, and the comparison of two graphs."""
