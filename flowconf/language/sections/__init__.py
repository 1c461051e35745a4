"""Checks of the sections that describe training, as far as they are possible without torch."""
