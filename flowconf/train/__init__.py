"""Training: the loop, what it optimises and measures, the data it reads, and the run folders it leaves."""
