"""Drawings of a Plan: DOT text, rendered by Graphviz. Does not need torch."""
