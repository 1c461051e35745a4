"""Graphs out of the house and into it: plain PyTorch, exported programs, and modules that exist."""
