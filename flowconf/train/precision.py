"""Where and in which number format a run computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn, optim

from flowconf.diagnostics import Diagnostic, MachineError, Place

FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}


Wanted = str | int | list[int]


def pick_devices(wanted: Wanted, place: Place) -> list[torch.device]:
    """The devices that `trainer.devices` stands for on this machine, one for each process.

    A number means processes on the CPU where there is no CUDA device. Raises `MachineError` when one is not there.
    """
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        return [torch.device("cuda", number) for number in range(there)] or [torch.device("cpu")]
    if isinstance(wanted, int) and not there:
        return [torch.device("cpu")] * wanted
    if isinstance(wanted, int | list):
        numbers = list(range(wanted)) if isinstance(wanted, int) else wanted
        return [_cuda(number, there, f"[{', '.join(map(str, numbers))}]", place) for number in numbers]
    device = torch.device(wanted)
    if device.type == "cuda":
        return [_cuda(device.index or 0, there, wanted, place)]
    if device.type == "mps" and not torch.backends.mps.is_available():
        message = "`mps` is not there: this machine has no Metal device for torch"
        raise MachineError(Diagnostic("FC0601", message, place, "trainer.devices", help="write `auto` or `cpu`"))
    return [device]


def _cuda(number: int, there: int, wanted: str, place: Place) -> torch.device:
    if number < there:
        return torch.device("cuda", number)
    message = f"`{wanted}` is not there: this machine offers {there} CUDA devices to torch {torch.__version__}"
    raise MachineError(Diagnostic("FC0601", message, place, "trainer.devices", help="write `auto` or `cpu`"))


@contextmanager
def numbers(name: str, device: torch.device) -> Iterator[None]:
    """Within the block, CUDA's matrix units round to TF32 for `tf32` and for nothing else; then all is as before.

    Raises `MachineError` for `tf32` on a device that has no such units.
    """
    if device.type != "cuda":
        if name == "tf32":
            message = f"`tf32` is a number format of CUDA devices, and the run is on `{device.type}`"
            raise MachineError(Diagnostic("FC0601", message, path="trainer.precision", help="write `fp32`"))
        yield
        return
    matrices, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matrices.allow_tf32, convolutions.allow_tf32
    matrices.allow_tf32 = convolutions.allow_tf32 = name == "tf32"
    try:
        yield
    finally:
        matrices.allow_tf32, convolutions.allow_tf32 = before


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

    def scaled(self, loss: Tensor) -> Tensor:
        """What a backward pass starts from."""
        return loss if self.scaler is None else self.scaler.scale(loss)

    def step(
        self,
        optimizer: optim.Optimizer,
        parameters: list[nn.Parameter],
        clip: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        """One step of the optimizer; before it each gradient is limited to `clip_value`, and their norm to `clip`."""
        if self.scaler is not None and (clip is not None or clip_value is not None):
            self.scaler.unscale_(optimizer)
        if clip_value is not None:
            nn.utils.clip_grad_value_(parameters, clip_value)
        if clip is not None:
            nn.utils.clip_grad_norm_(parameters, clip)
        if self.scaler is None:
            optimizer.step()
            return
        self.scaler.step(optimizer)
        self.scaler.update()
