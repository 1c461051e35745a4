"""Functions on tensors and their equivalent modules: `F.relu(x)` is `ReLU`.

The table has for each function the module and the arguments after the tensor, in order; those that begin with `-` do
not affect the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowconf.graph.exchange.recovered_calls import Unrecoverable, call_of
from flowconf.language.registry import modules

POOL = ("kernel_size", "stride", "padding")
MAX_POOL = (*POOL, "dilation", "ceil_mode", "return_indices")
DROPOUT = ("p", "-training", "-inplace")
FUNCTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "relu": ("ReLU", ("-inplace",)),
    "relu6": ("ReLU6", ("-inplace",)),
    "gelu": ("GELU", ("approximate",)),
    "silu": ("SiLU", ("-inplace",)),
    "mish": ("Mish", ("-inplace",)),
    "selu": ("SELU", ("-inplace",)),
    "elu": ("ELU", ("alpha", "-inplace")),
    "celu": ("CELU", ("alpha", "-inplace")),
    "leaky_relu": ("LeakyReLU", ("negative_slope", "-inplace")),
    "hardtanh": ("Hardtanh", ("min_val", "max_val", "-inplace")),
    "hardswish": ("Hardswish", ("-inplace",)),
    "hardsigmoid": ("Hardsigmoid", ("-inplace",)),
    "softplus": ("Softplus", ("beta", "threshold")),
    "softsign": ("Softsign", ()),
    "logsigmoid": ("LogSigmoid", ()),
    "tanh": ("Tanh", ()),
    "sigmoid": ("Sigmoid", ()),
    "softmax": ("Softmax", ("dim", "-_stacklevel", "dtype")),
    "log_softmax": ("LogSoftmax", ("dim", "-_stacklevel", "dtype")),
    "dropout": ("Dropout", DROPOUT),
    "dropout1d": ("Dropout1d", DROPOUT),
    "dropout2d": ("Dropout2d", DROPOUT),
    "max_pool1d": ("MaxPool1d", MAX_POOL),
    "max_pool2d": ("MaxPool2d", MAX_POOL),
    "avg_pool1d": ("AvgPool1d", (*POOL, "ceil_mode", "count_include_pad")),
    "avg_pool2d": ("AvgPool2d", (*POOL, "ceil_mode", "count_include_pad", "divisor_override")),
    "adaptive_avg_pool1d": ("AdaptiveAvgPool1d", ("output_size",)),
    "adaptive_avg_pool2d": ("AdaptiveAvgPool2d", ("output_size",)),
    "adaptive_max_pool2d": ("AdaptiveMaxPool2d", ("output_size", "return_indices")),
    "flatten": ("Flatten", ("start_dim", "end_dim")),
    "unflatten": ("Unflatten", ("dim", "unflattened_size")),
    "pixel_shuffle": ("PixelShuffle", ("upscale_factor",)),
    "mean": ("Mean", ("dim", "keepdim")),
    "transpose": ("Transpose", ("first", "second")),
}
RENAMED = {"sizes": "unflattened_size", "dim0": "first", "dim1": "second"}
"""Arguments of functions -> their names in the module."""
DEFAULTS: dict[str, Mapping[str, object]] = {"flatten": {"start_dim": 0, "end_dim": -1}}
"""Defaults of functions that differ from the module."""
SAME = ("contiguous", "clone")
"""Methods that return the same values."""


class NoModule(Exception):
    """Why a function has no equivalent module."""


def module_for(name: str, args: Sequence[object], kwargs: Mapping[str, object]) -> str:
    """The call of the module that is equivalent to a function with these arguments after the tensor.

    The function was traced in evaluation mode. Raises `NoModule` with the reason.
    """
    if name not in FUNCTIONS:
        raise NoModule(f"`{name}` has no equivalent module")
    module, names = FUNCTIONS[name]
    given = {**DEFAULTS.get(name, {}), **dict(zip((n.lstrip("-") for n in names), args, strict=False))}
    given |= {RENAMED.get(key, key): value for key, value in kwargs.items()}
    if given.get("training"):
        raise NoModule(f"`{name}` is also active in evaluation mode; use `training=self.training`")
    for key, value in given.items():
        if key not in names and f"-{key}" not in names and value is not None:
            raise NoModule(f"`{module}` has no argument `{key}` of `{name}`")
    kept = {key: value for key, value in given.items() if key in names and not (key == "dtype" and value is None)}
    try:
        return call_of(modules.load(module)(**kept))
    except (Unrecoverable, TypeError, ValueError) as problem:
        raise NoModule(f"`{module}` cannot replace `{name}`: {problem}") from None
