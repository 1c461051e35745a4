"""Plain data against the models of the schema: keys, values, and keys in the wrong place."""
