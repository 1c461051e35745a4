"""Optimization: built-in optimizers and schedules, parameter groups by path, and averages of weights."""
