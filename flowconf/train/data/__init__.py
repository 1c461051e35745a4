"""What training reads: splits of data sets, sets by name, and batches made ahead."""
