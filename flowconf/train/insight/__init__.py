"""What happens inside of a step: what it costs, and what went wrong."""
