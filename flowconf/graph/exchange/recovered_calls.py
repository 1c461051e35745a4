"""Recovers the call that constructs a module: `Linear(in_features=3, ...)` -> `Linear(3, 4, bias=false)`.

Arguments are read from attributes of the same name. A call is accepted only if it constructs an equal module: with the
same description, plain attributes, and shapes and types of tensors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from flowconf.language import arguments, signatures
from flowconf.language.registry import modules
from flowconf.language.signatures import Parameter
from flowconf.report import dtype_name

NOT_ARGUMENTS = ("device", "dtype")
NOT_COMPARED = ("training", "call_super_init", "dump_patches")


MISSING = object()
"""An argument that the module does not store."""


class Unrecoverable(Exception):
    """Why the call of a module cannot be recovered."""


Ways = dict[str, Callable[[Any], object]]


def _of_first_layer(way: Callable[[Any], object]) -> Callable[[Any], object]:
    return lambda module: way(module.encoder.layers[0])


TRANSFORMER_LAYER: Ways = {
    "d_model": lambda m: m.self_attn.embed_dim,
    "nhead": lambda m: m.self_attn.num_heads,
    "dim_feedforward": lambda m: m.linear1.out_features,
    "dropout": lambda m: m.dropout.p,
    "activation": lambda m: getattr(m.activation, "__name__", MISSING),
    "layer_norm_eps": lambda m: m.norm1.eps,
    "batch_first": lambda m: m.self_attn.batch_first,
    "bias": lambda m: m.linear1.bias is not None,
}
WAYS: dict[str, Ways] = {
    "MultiheadAttention": {"bias": lambda m: m.in_proj_bias is not None, "add_bias_kv": lambda m: m.bias_k is not None},
    "TransformerEncoderLayer": TRANSFORMER_LAYER,
    "TransformerDecoderLayer": TRANSFORMER_LAYER,
    "Transformer": {
        **{name: _of_first_layer(way) for name, way in TRANSFORMER_LAYER.items()},
        "num_encoder_layers": lambda m: len(m.encoder.layers),
        "num_decoder_layers": lambda m: len(m.decoder.layers),
        "norm_first": lambda m: m.encoder.layers[0].norm_first,
    },
    "TransformerEncoder": {"encoder_layer": lambda m: m.layers[0]},
    "TransformerDecoder": {"decoder_layer": lambda m: m.layers[0]},
}
"""Class -> argument -> how to read it, if no attribute has its name."""


def is_known(module: nn.Module) -> bool:
    """Whether the class of a module is registered under its name."""
    name = type(module).__name__
    return name in modules and modules.load(name) is type(module)


def call_of(module: nn.Module) -> str:
    """The call that constructs an equal module. Raises `Unrecoverable` with the reason."""
    cls, given = type(module), _arguments(module)
    shortest = {name: _shortened(value) for name, value in given.items()}
    reasons = []
    for tried in (shortest, given):
        made = _made(cls, tried)
        if made is None:
            reasons.append(f"`{cls.__name__}` rejects the arguments that were read from it")
            continue
        difference = _difference(module, made)
        if difference is None:
            required = tuple(p.name for p in _parameters(cls) if p.required)
            return written_call(cls.__name__, _needed(module, tried, required), required)
        reasons.append(f"{difference} cannot be expressed by arguments of `{cls.__name__}`")
    raise Unrecoverable(reasons[-1])


def _needed(module: nn.Module, given: Mapping[str, object], required: tuple[str, ...]) -> dict[str, object]:
    """The arguments without those that are implied by the others."""
    kept = dict(given)
    for name in reversed([name for name in given if name not in required]):
        fewer = {other: value for other, value in kept.items() if other != name}
        made = _made(type(module), fewer)
        if made is not None and _difference(module, made) is None:
            kept = fewer
    return kept


def _shortened(value: object) -> object:
    """A single value for a tuple of equal ones, which most constructors accept."""
    return value[0] if isinstance(value, tuple) and value and len(set(map(repr, value))) == 1 else value


def written_call(name: str, given: Mapping[str, object], positional: tuple[str, ...] = ()) -> str:
    """The text of a call in a document; `positional` are written without their names."""
    shown = [_written(given[key]) for key in positional if key in given]
    shown += [f"{key}={_written(value)}" for key, value in given.items() if key not in positional]
    return f"{name}({', '.join(shown)})" if shown else name


def _written(value: object) -> str:
    """The text of a value in a call."""
    match value:
        case tuple() | list():
            return f"[{', '.join(map(_written, value))}]"
        case nn.Module():
            return call_of(value)
        case None | bool() | int() | float() | str():
            return arguments.written(value)
    raise Unrecoverable(f"a `{type(value).__name__}` is not allowed in a call")


def _parameters(cls: type[nn.Module]) -> tuple[Parameter, ...]:
    """The arguments of a constructor that affect its outputs."""
    known = cls.__name__ in modules and modules.load(cls.__name__) is cls
    source = modules.class_source(cls.__name__) if known else signatures.of_class(cls)
    found = source.init.parameters
    return tuple(p for p in found if p.name not in NOT_ARGUMENTS and not p.name.startswith("_"))


def _arguments(module: nn.Module) -> dict[str, object]:
    """The required arguments, and the optional ones that differ from their defaults."""
    given: dict[str, object] = {}
    optional: dict[str, object] = {}
    for parameter in _parameters(type(module)):
        value = _found(module, parameter.name)
        if parameter.kind in ("*", "**"):
            continue
        if not parameter.required:
            optional[parameter.name] = value
        elif value is MISSING:
            raise Unrecoverable(f"`{type(module).__name__}` does not keep its argument `{parameter.name}`")
        else:
            given[parameter.name] = value
    plain = _made(type(module), given)
    known = {name: value for name, value in optional.items() if value is not MISSING}
    return given | {n: v for n, v in known.items() if plain is None or not _same(v, _found(plain, n))}


def _found(module: nn.Module, name: str) -> object:
    """The value of an argument; for those such as `bias`, whether the parameter exists."""
    way = WAYS.get(type(module).__name__, {}).get(name)
    if way is not None:
        return way(module)
    if name in module._parameters:
        return module._parameters[name] is not None
    value = getattr(module, name, MISSING)
    return value.tolist() if isinstance(value, Tensor) else value


def _same(one: object, other: object) -> bool:
    if isinstance(one, nn.Module) or isinstance(other, nn.Module):
        return repr(one) == repr(other)
    return type(one) is type(other) and one == other


def _made(cls: type[nn.Module], given: Mapping[str, object]) -> nn.Module | None:
    """A module on the meta device, or None if the class rejects the arguments."""
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # already issued when the original was constructed
            return cls(**given)
    except Exception:  # noqa: BLE001 - a constructor may raise anything
        return None


def _difference(module: nn.Module, made: nn.Module) -> str | None:
    """The first difference between two modules, or None."""
    mine, theirs = module.state_dict(), made.state_dict()
    if list(mine) != list(theirs):
        return "the names of its tensors"
    for name, tensor in mine.items():
        if tensor.shape != theirs[name].shape or tensor.dtype != theirs[name].dtype:
            return f"`{name}` {list(tensor.shape)} of type {dtype_name(tensor.dtype)}"
    for path, part in module.named_modules():
        other = made.get_submodule(path)
        for name, value in _plain(part).items():
            if name in vars(other) and not _same(value, vars(other)[name]):
                return f"`{f'{path}.{name}' if path else name}` = {value!r}"
    return None if repr(module) == repr(made) else "its description"


def _plain(module: nn.Module) -> dict[str, object]:
    """The attributes of a module that are plain values."""
    simple = (bool, int, float, str, tuple, type(None))
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and name not in NOT_COMPARED and isinstance(value, simple)
    }
