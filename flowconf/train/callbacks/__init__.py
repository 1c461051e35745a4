"""Callbacks: objects of a project that watch a run and do not change it."""
