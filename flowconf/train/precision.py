"""Where and in which number format a run computes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn, optim

from flowconf.diagnostics import Diagnostic, MachineError, Place

FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(wanted: str, place: Place) -> torch.device:
    """The device that `auto`, `cpu`, `cuda:1` or the like stands for. Raises `MachineError` when it is not there."""
    if wanted == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    device = torch.device(wanted)
    if device.type == "cuda":
        there = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= there:
            message = f"`{wanted}` is not there: this machine offers {there} CUDA devices to torch {torch.__version__}"
            raise MachineError(Diagnostic("FC0601", message, place, "trainer.devices", help="write `auto` or `cpu`"))
        return torch.device("cuda", device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        message = "`mps` is not there: this machine has no Metal device for torch"
        raise MachineError(Diagnostic("FC0601", message, place, "trainer.devices", help="write `auto` or `cpu`"))
    return device


class Precision:
    """The number format of the forward pass, and the scaled backward pass that `fp16` needs."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.format = FORMATS.get(name)
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type) if name == "fp16" else None
        self._plain: AbstractContextManager[None] = nullcontext()

    def forward(self) -> AbstractContextManager[object]:
        """The context of a forward pass and its loss."""
        if self.format is None:
            return self._plain
        return torch.autocast(self.device.type, self.format)

    def update(
        self, loss: Tensor, optimizer: optim.Optimizer, parameters: list[nn.Parameter], clip: float | None
    ) -> None:
        """One backward pass and one step of the optimizer."""
        if self.scaler is None:
            loss.backward()  # type: ignore[no-untyped-call]
            if clip is not None:
                nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
            return
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if clip is not None:
            self.scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, clip)
        self.scaler.step(optimizer)
        self.scaler.update()
