"""Blocks that configs can use, beside those of `torch.nn`."""

import flowconf
import torch
from torch import Tensor, nn


@flowconf.register
class Spectrum(nn.Module):
    """The magnitude of each frequency: [B, n] -> [B, n // 2 + 1]."""

    def forward(self, signal: Tensor) -> Tensor:
        return torch.fft.rfft(signal).abs()
