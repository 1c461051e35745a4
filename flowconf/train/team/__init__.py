"""The processes that train together: who they are, how they start, and what each computes and holds."""
