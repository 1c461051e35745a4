"""From YAML, TOML and the command line to plain data with places. Knows nothing of networks."""
