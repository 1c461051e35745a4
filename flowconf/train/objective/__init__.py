"""The objective of training: losses, metrics, their weights, and the parameters that they update."""
