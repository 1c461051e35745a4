"""The meaning of a document: keys, calls, names and references, up to the Plan. No torch."""
