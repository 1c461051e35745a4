"""Equal calls in the shape check: modules of torch and of flowconf are constructed once, and run once on equal inputs.

The first of equal modules is the prototype of the others, which are copies of it with separate parameters. What
the first call gave is kept, with the parameters and the inputs that each output depends on. A prototype lives as long
as the process, so that a config that is checked again is checked from what is known. The parameters are on the meta
device, and so is the first of equal calls, because fake tensors are slow; they run what the meta device cannot run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._guards import active_fake_mode
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from flowconf.graph.gradients import leaves
from flowconf.graph.shapes import fake_values
from flowconf.graph.shapes.fake_values import called, real
from flowconf.language.arguments import Argument, Call, Hole, ListArgument, Literal
from flowconf.language.registry import modules

MOST = 4096
"""The number of prototypes, and of inputs of each, that are kept."""
CPU, META = torch.device("cpu"), torch.device("meta")
Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Output:
    """An output on the meta device, and the positions of the parameters and of the inputs that its gradient reaches."""

    value: Tensor
    parameters: tuple[int, ...]
    inputs: tuple[int, ...]


@dataclass(eq=False)
class Prototype:
    """A module on the meta device, and what its copies gave for each kind of input; None: each has to be run."""

    module: nn.Module
    given: dict[Hashable, tuple[list[_Output], TreeSpec] | None] = field(default_factory=dict)

    def copy(self) -> nn.Module:
        """A copy of the module with separate parameters, which `on_fakes` can run."""
        return _copied(self.module, _parameter)


class KnownCall:
    """A call of `built`, a copy of a prototype, with fake tensors."""

    def __init__(self, prototype: Prototype, built: nn.Module, stream: Tensor, using: Mapping[str, Tensor]) -> None:
        self.built, self.known, self.names = built, prototype.given, tuple(using)
        self.inputs = (stream, *using.values())
        self.versions = [one._version for one in self.inputs]
        self.key = (torch.is_grad_enabled(), *using, *((*_kind(one), one.requires_grad) for one in self.inputs))

    def output(self) -> Any:
        """The output, if it is known from an equal call, or None."""
        found = self.known.get(self.key)
        if found is None:
            return None
        outputs, spec = found
        parameters = list(self.built.parameters()) if any(one.parameters for one in outputs) else ()
        return tree_unflatten([self._like(one, parameters) for one in outputs], spec)

    def _like(self, known: _Output, parameters: Sequence[Tensor]) -> Tensor:
        mode = self.inputs[0].fake_mode  # type: ignore[attr-defined]
        sources = [*(parameters[i] for i in known.parameters), *(self.inputs[i] for i in known.inputs)]
        return _faked(known.value, mode, sources)

    def run_on_meta(self) -> None:
        """Run the call on the meta device, and keep its output, unless it has to be run on fake tensors."""
        if self.key in self.known:
            return
        inputs = [_like(one).requires_grad_(one.requires_grad) for one in self.inputs]
        try:
            with real():
                value = called(self.built, inputs[0], dict(zip(self.names, inputs[1:], strict=True)))
        except Exception:  # noqa: BLE001 - raised again on fake tensors, whose words are reported
            return
        self._note(value, inputs, [0] * len(inputs))

    def note(self, value: Any) -> None:
        """Keep the output of this call for equal ones, unless the module gives or changes an input."""
        if self.key not in self.known:
            self._note(value, self.inputs, self.versions)

    def _note(self, value: Any, inputs: Sequence[Tensor], versions: Sequence[int]) -> None:
        if len(self.known) >= MOST:
            self.known.clear()
        outputs, spec = tree_flatten(value)
        is_usual = versions == [one._version for one in inputs] and all(_is_new(one, inputs) for one in outputs)
        parameters = list(self.built.parameters())
        found = [_noted(one, inputs, parameters) for one in outputs] if is_usual else [None]
        self.known[self.key] = None if None in found else ([one for one in found if one is not None], spec)


def _is_new(value: Any, inputs: Sequence[Tensor]) -> bool:
    """Whether an output is a tensor like the inputs, and neither one of them nor a parameter."""
    is_given = any(value is one for one in inputs)
    is_leaf = isinstance(value, Tensor) and value.requires_grad and value.grad_fn is None
    return type(value) is type(inputs[0]) and value.device == inputs[0].device and not is_given and not is_leaf


def _noted(value: Tensor, inputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> _Output | None:
    """An output, with the parameters and inputs that it depends on; None if it depends on anything else."""
    inner = {one.grad_fn for one in inputs} - {None}
    found, ends = leaves(value, inner)
    given = [one for one in inputs if one in found or one.grad_fn in ends]
    if found - {*parameters, *given}:
        return None
    return _Output(_like(value), _positions(parameters, found), _positions(inputs, set(given)))


@lru_cache(MOST)
def _prototypes(_: Hashable) -> list[Prototype]:
    """The prototype of equal calls, once there is one."""
    return []


def prototypes(call: Call, sizes: Sequence[int]) -> list[Prototype] | None:
    """The prototype of calls with these `_`, to be filled with the first; None if each has to be constructed."""
    key = _key(call)
    if key is None or torch.get_default_device() != CPU:
        return None
    return _prototypes((key, *sizes, torch.get_default_dtype()))


def prototype(module: nn.Module) -> Prototype:
    """A prototype like a module on fake tensors."""
    return Prototype(_copied(module, _like))


def on_fakes(module: nn.Module) -> nn.Module:
    """A module like a copy of a prototype, within `faked`, on fake tensors that depend on its parameters."""
    mode = active_fake_mode()
    assert mode is not None
    return _copied(module, lambda one: _faked(one, mode, [one] if one.requires_grad else ()))


def known_call(
    prototype: Prototype | None, built: nn.Module, stream: Any, using: Mapping[str, Any]
) -> KnownCall | None:
    """A call of a module with one of the usual inputs; None for all others."""
    inputs = (stream, *using.values())
    if prototype is None or any(type(one) is not FakeTensor or one.device != CPU for one in inputs):
        return None
    return KnownCall(prototype, built, stream, using)


def constructed(constructor: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
    """What a constructor gives within `faked`; modules of torch, which have no other tensors, by way of a prototype."""
    is_quick = constructor.__module__.startswith("torch.nn.") and torch.get_default_device() == CPU
    if is_quick and all(map(_is_plain, (*args, *kwargs.values()))):
        try:
            with real(), META:
                made = constructor(*args, **kwargs)
        except Exception:  # noqa: BLE001 - raised again below, in the words of fake tensors
            return fake_values.constructed(constructor, args, kwargs)
        mode = active_fake_mode()
        assert mode is not None
        return _copied(made, lambda tensor: _faked(tensor, mode))
    return fake_values.constructed(constructor, args, kwargs)


class _Computation(nn.Module):
    """A function of tensors as a module without parameters, for `KnownCall`."""

    def __init__(self, function: Callable[..., Tensor], args: tuple[Hashable, ...]) -> None:
        super().__init__()
        self.function, self.args = function, args

    def forward(self, first: Tensor, **others: Tensor) -> Tensor:
        return self.function([first, *others.values()], *self.args)


@lru_cache(MOST)
def _computation(function: Callable[..., Tensor], *args: Hashable) -> Prototype:
    return Prototype(_Computation(function, args))


def computed(function: Callable[..., Tensor], values: Sequence[Tensor], *args: Hashable) -> Tensor:
    """What a function gives for some tensors and `args`; run once for tensors of equal kinds. Raises what it raises."""
    of = _computation(function, *args)
    known = known_call(of, of.module, values[0], {str(number): value for number, value in enumerate(values[1:])})
    if known is None:
        return function(values, *args)
    known.run_on_meta()
    given = known.output()
    return function(values, *args) if given is None else given


def _is_plain(argument: Any) -> bool:
    """Whether an argument is neither a module nor the name of a device."""
    items = argument if isinstance(argument, list) else [argument]
    return all(one is None or isinstance(one, int | float) for one in items)


class _Known(torch.autograd.Function):
    """A value that was computed before, with the gradient of what it depends on."""

    @staticmethod
    def forward(ctx: Any, mode: FakeTensorMode, value: Tensor, *given: Tensor) -> Tensor:
        ctx.save_for_backward(*given)
        return _faked(value, mode)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return (None, None, *(_gradient(gradient, one) for one in ctx.saved_tensors))


def _gradient(gradient: Tensor, of: Tensor) -> Tensor:
    """A gradient that depends on that of the output; of a parameter, one of its shape."""
    if isinstance(of, FakeTensor):
        return gradient.sum() * of
    with real():
        return torch.empty_like(of)


def _faked(tensor: Tensor, mode: FakeTensorMode, sources: Sequence[Tensor] = ()) -> Tensor:
    """A fake tensor like one on the meta device, which depends on some sources."""
    if sources:
        with real():  # or autograd asks the mode for the device of each tensor
            return _Known.apply(mode, tensor, *sources)  # type: ignore[no-untyped-call, no-any-return]
    fake = FakeTensor(mode, tensor, CPU)
    if isinstance(tensor, nn.Parameter):
        fake._is_param = True
    return fake


def _parameter(tensor: Tensor) -> Tensor:
    """A parameter like one of a prototype, whose buffers are shared."""
    return nn.Parameter(tensor, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else tensor


def _like(tensor: Tensor) -> Tensor:
    """A tensor on the meta device."""
    with real():
        like = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=META)
    return nn.Parameter(like, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else like


def _copied(module: nn.Module, change: Change) -> nn.Module:
    if not module._modules and not isinstance(module, nn.RNNBase):  # which holds its parameters in lists as well
        new = module.__new__(type(module))
        new.__dict__ |= vars(module)
        for name in ("_parameters", "_buffers"):
            tensors = vars(module)[name]
            new.__dict__[name] = {key: None if one is None else change(one) for key, one in tensors.items()}
        return new
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(one): change(one) for one in tensors})


def _kind(tensor: Tensor) -> tuple[Hashable, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _positions(tensors: Sequence[Tensor], found: set[Tensor]) -> tuple[int, ...]:
    return tuple(number for number, tensor in enumerate(tensors) if tensor in found)


def _key(argument: Argument) -> Hashable:
    """Equal for arguments that construct the same; None if a module in it has to be constructed each time."""
    match argument:
        case Literal(value=value):
            return repr(value)  # `1`, `1.0` and `true` are equal in Python
        case Hole():
            return Hole
        case ListArgument(items):
            of, given = None, items
        case Call(name=name):
            if modules.is_opened(name):
                return None
            of = modules.load(name), *(keyword for keyword, _ in argument.kwargs)
            given = argument.arguments
    keys = [_key(one) for one in given]
    return None if None in keys else (of, *keys)
