"""The page: one HTML file that shows a graph, works without a network, and runs nothing that is not in it."""
