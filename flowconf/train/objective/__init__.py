"""What training optimises and measures: losses, metrics, their weights, and which parameters they move."""
