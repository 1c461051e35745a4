"""The devices and the number format of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn, optim

from flowconf.language.config import Config
from flowconf.report import NOWHERE, Diagnostic, MachineError, Place, Suggestion

FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}
AMPERE = {"bf16": "fp16", "tf32": "fp32"}
"""The formats that require Ampere (compute capability 8.0), and the alternative for earlier devices."""

RequestedDevices = str | int | list[int]


def pick_devices(wanted: RequestedDevices, place: Place) -> list[torch.device]:
    """The devices for `trainer.devices` on this machine, one for each process.

    Without a CUDA device, a number means processes on the CPU. Raises `MachineError` if a device is not available.
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
        message = "`mps` is not available: torch found no Metal device"
        raise MachineError(Diagnostic("FC0601", message, place, "trainer.devices", advice="write `auto` or `cpu`"))
    return [device]


def devices_of(config: Config) -> list[torch.device]:
    """The devices of a config, one for each process. Raises `MachineError`."""
    return pick_devices(config.training.trainer.devices, config.origins.value(("trainer", "devices")))


def _cuda(number: int, there: int, wanted: str, place: Place) -> torch.device:
    if number < there:
        return torch.device("cuda", number)
    message = f"`{wanted}` is not available: torch {torch.__version__} found {there} CUDA devices"
    raise MachineError(Diagnostic("FC0601", message, place, "trainer.devices", advice="write `auto` or `cpu`"))


@contextmanager
def on_device(
    device: torch.device, precision: str, place: Place = NOWHERE, deterministic: bool = False
) -> Iterator[None]:
    """A block with torch's settings for a run, restored afterwards.

    `device` is the current CUDA device, which streams, sharding and what modules of a project allocate follow; its peak
    of memory is counted from here. TF32 is enabled for `tf32` and disabled otherwise. Raises `MachineError` for a
    precision that the device does not support.
    """
    _refuse_unknown(precision, device, place)
    with ExitStack() as block:
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch requires it; read at the first product
            block.callback(torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled())
            torch.use_deterministic_algorithms(True)
        if device.type == "cuda":
            block.enter_context(torch.cuda.device(device))
            torch.cuda.reset_peak_memory_stats(device)
            backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
            for backend in backends:
                block.callback(setattr, backend, "allow_tf32", backend.allow_tf32)
                backend.allow_tf32 = precision == "tf32"
        yield


def _refuse_unknown(name: str, device: torch.device, place: Place) -> None:
    """Raise `MachineError` for a number format that the device does not support."""
    message = advice = None
    if name == "tf32" and device.type != "cuda":
        message = f"`tf32` requires a CUDA device, but the run is on `{device.type}`"
        advice = Suggestion("fp32", instead_of=name)
    elif name in AMPERE and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        message = f"`{torch.cuda.get_device_name(device)}` does not support `{name}`"
        advice = Suggestion(AMPERE[name], instead_of=name)
    if message is not None:
        raise MachineError(Diagnostic("FC0601", message, place, "trainer.precision", advice=advice))


class Precision:
    """The number format of the forward pass, and the gradient scaling that `fp16` requires."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.format = FORMATS.get(name)
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type) if name == "fp16" else None
        self._plain: AbstractContextManager[None] = nullcontext()
        self._one = torch.ones((), device=device)
        self._scale = self._one

    @property
    def scale(self) -> Tensor | None:
        """The factor of gradients in the backward pass; None without one."""
        return None if self.scaler is None else self.scaled(self._one)

    def forward(self) -> AbstractContextManager[object]:
        """The autocast context of a forward pass."""
        if self.format is None:
            return self._plain
        return torch.autocast(self.device.type, self.format)

    def full(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """The outputs of a forward pass in `fp32`, the format of losses and metrics."""
        if self.format is None:
            return values
        return {name: _full(value, self.format) for name, value in values.items()}

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss, scaled for the backward pass."""
        return loss if self.scaler is None else self.scaler.scale(loss)

    def step(
        self,
        optimizers: Sequence[optim.Optimizer],
        parameters: list[nn.Parameter],
        clip: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        """One step of each optimizer, after clipping each gradient to `clip_value` and their norm to `clip`."""
        if self.scaler is None:
            self.clip(parameters, clip, clip_value)
            for optimizer in optimizers:
                optimizer.step()
            return
        optimizers = [optimizer for optimizer in optimizers if _has_gradients(optimizer)]
        if clip is not None or clip_value is not None:
            for optimizer in optimizers:
                self.scaler.unscale_(optimizer)
            self.clip(parameters, clip, clip_value)
        self._scale = self.scaler.scale(self._one)
        for optimizer in optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()

    def clip(self, parameters: list[nn.Parameter], clip: float | None, clip_value: float | None) -> None:
        """Clip each gradient to `clip_value`, and then their norm to `clip`."""
        if clip_value is not None:
            nn.utils.clip_grad_value_(parameters, clip_value)
        if clip is not None:
            nn.utils.clip_grad_norm_(parameters, clip)

    def skipped(self) -> bool:
        """Whether the last optimizer step was skipped, because gradients overflowed in `fp16`.

        The scale of the loss is then reduced for the next step. Synchronizes with the device.
        """
        return self.scaler is not None and self.scaler.get_scale() < self._scale.item()


def _has_gradients(optimizer: optim.Optimizer) -> bool:
    return any(parameter.grad is not None for group in optimizer.param_groups for parameter in group["params"])


def _full(value: Any, short: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype == short else value
    if isinstance(value, dict):
        return {name: _full(part, short) for name, part in value.items()}
    return value
