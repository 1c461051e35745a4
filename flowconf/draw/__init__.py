"""Pictures of a Plan: DOT text, and what Graphviz makes of it. Needs no torch."""
