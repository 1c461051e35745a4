"""The data of training: splits of data sets, sets by name, and batches made ahead."""
