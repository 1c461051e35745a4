"""Functions on tensors that a module stands for: `F.relu(x)` is what `ReLU` does.

The table names for each function the module and the arguments behind the tensor, in order; those that begin with `-`
say nothing about the result.
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
"""Arguments of functions that are called otherwise in the module."""
DEFAULTS: dict[str, Mapping[str, object]] = {"flatten": {"start_dim": 0, "end_dim": -1}}
"""Defaults of functions that the module does not share."""
SAME = ("contiguous", "clone")
"""Methods that give the values they are given."""


class NoModule(Exception):
    """Why no module stands for a function."""


def module_for(name: str, args: Sequence[object], kwargs: Mapping[str, object]) -> str:
    """The call of the module that does what a function does, with these arguments behind the tensor.

    The function was traced in evaluation mode. Raises `NoModule` with the reason.
    """
    if name not in FUNCTIONS:
        raise NoModule(f"no module does what `{name}` does")
    module, names = FUNCTIONS[name]
    given = {**DEFAULTS.get(name, {}), **dict(zip((n.lstrip("-") for n in names), args, strict=False))}
    given |= {RENAMED.get(key, key): value for key, value in kwargs.items()}
    if given.get("training"):
        raise NoModule(f"`{name}` is active in evaluation mode too; `training=self.training` would go by the mode")
    for key, value in given.items():
        if key not in names and f"-{key}" not in names and value is not None:
            raise NoModule(f"`{module}` has no argument `{key}`, which `{name}` is given")
    kept = {key: value for key, value in given.items() if key in names and not (key == "dtype" and value is None)}
    try:
        return call_of(modules.load(module)(**kept))
    except (Unrecoverable, TypeError, ValueError) as problem:
        raise NoModule(f"`{module}` cannot be made for `{name}`: {problem}") from None
