"""Generated source: the demands on a forward pass, the code generator, and its execution."""
