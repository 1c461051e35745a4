"""What a document means: keys, calls, names and references, up to the Plan. No torch."""
