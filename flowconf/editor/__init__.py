"""Editor support for configs while they are written: mistakes, completion, explanations, definitions.

`server.py` speaks the Language Server Protocol; everything else knows nothing of it. Positions are `Place`s, and the
texts of open files are those of `text.source.edited`.
"""
