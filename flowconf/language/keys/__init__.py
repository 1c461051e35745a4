"""Validation of plain data against the models of the schema: keys, values, and misplaced keys."""
