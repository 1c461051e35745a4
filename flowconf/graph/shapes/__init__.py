"""The shape check: what fits and what does not, before anything real exists."""
