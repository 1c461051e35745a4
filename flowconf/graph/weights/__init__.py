"""Weights in and out of a graph: files, sources, accounts, and what carries over."""
