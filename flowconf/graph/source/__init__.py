"""Generated source: what a forward pass has to give, how it is written, and how it is run."""
