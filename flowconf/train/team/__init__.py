"""Distributed training: launching processes, communication, shares of a batch, and sharded weights."""
