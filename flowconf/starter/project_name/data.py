"""Data sets that configs can name. A batch is a dict of named tensors."""

import flowconf
import torch

FIELDS = {"signal": ((64,), torch.float32), "tone": ((), torch.int64, 3)}
"""Of each field: the shape of a row, its type and, if it holds classes, their number."""


@flowconf.register_dataset
@flowconf.provides(*FIELDS, shapes=lambda **arguments: FIELDS)
def tones(*, rows: int = 1000, noise: float = 1.0, seed: int) -> flowconf.Splits:
    """Sine waves of three frequencies in noise: `signal` and the class `tone` (0, 1 or 2)."""
    generator = torch.Generator().manual_seed(seed)

    def split(rows: int) -> flowconf.Resident:
        tone = torch.randint(3, (rows,), generator=generator)
        phase = 2 * torch.pi * torch.outer(4.0 * (tone + 1), torch.arange(64) / 64)
        signal = torch.sin(phase) + noise * torch.randn(rows, 64, generator=generator)
        return flowconf.Resident({"signal": signal, "tone": tone})

    return flowconf.Splits(train=split(rows), validation=split(200), test=split(200))
