"""What several modules of the project use."""

SCALE = 0.5
ONE = 1


def scaled(x, weight):
    return x * weight * SCALE
