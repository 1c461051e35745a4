"""Input checks for modules of torch and flowconf, where fake tensors miss an error or torch's message is unclear.

Each rule applies to one kind of module. It runs on the constructed module before the call, and returns the error and
the argument at fault, of the call or of `using`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from flowconf.graph import blocks
from flowconf.graph.shapes.sizes import Sizes
from flowconf.report import Advice, Suggestion


@dataclass(frozen=True)
class Fault:
    """An error, worded to follow the call and its input; `at` is the argument at fault, None for the whole call.

    `item` is the position of the number at fault in an argument with several.
    """

    message: str
    at: str | None = None
    advice: Advice | None = None
    item: int | None = None


@dataclass(frozen=True)
class Arrival:
    """The input of a module: the stream, and further arguments by name."""

    stream: Tensor
    using: dict[str, Any]
    sizes: Sizes

    def size_at(self, dim: int) -> int | None:
        """The size of a dimension of the stream; None if it has no such dimension."""
        return self.stream.shape[dim] if -self.stream.dim() <= dim < self.stream.dim() else None

    def is_open(self, size: int) -> bool:
        """Whether a size is unknown, such as `B`."""
        return self.sizes.number(size) != str(size)

    def tensor(self, name: str) -> Tensor | None:
        """A further argument, if it is a tensor."""
        value = self.using.get(name)
        return value if isinstance(value, Tensor) else None


def fault(built: nn.Module, stream: Any, using: dict[str, Any], sizes: Sizes) -> Fault | None:
    """The first error that a rule finds in the input of a module, or None."""
    if not isinstance(stream, Tensor):
        return None
    arrival = Arrival(stream, using, sizes)
    found = (rule(built, arrival) for kind, rule in RULES if isinstance(built, kind))
    return next((wrong for wrong in found if wrong is not None), None)


# windows: convolutions and pooling


def _spread(value: Any, count: int) -> list[int]:
    """One number for each of `count` dimensions."""
    numbers = list(value) if isinstance(value, tuple | list) else [value] * count
    return [int(number) for number in numbers] if len(numbers) == count else [int(numbers[0])] * count


def _window(built: Any, arrival: Arrival) -> Fault | None:
    """A kernel must fit into the padded input."""
    count = int(type(built).__name__[-2])
    if arrival.stream.dim() <= count or built.padding == "same":
        return None
    kernels = _spread(built.kernel_size, count)
    dilations = _spread(getattr(built, "dilation", 1), count)
    paddings = _spread(0 if built.padding == "valid" else built.padding, count)
    for size, kernel, padding, dilation in zip(
        arrival.stream.shape[-count:], kernels, paddings, dilations, strict=True
    ):
        pools = not isinstance(built, nn.modules.conv._ConvNd)
        if pools and padding * 2 > kernel:
            return Fault(f"`padding` {padding} is more than half of `kernel_size` {kernel}", "padding")
        if getattr(built, "padding_mode", "") == "reflect" and padding >= size:
            return Fault(f"`padding` {padding} must be less than the size {size} that it reflects", "padding")
        reach, room = dilation * (kernel - 1) + 1, size + 2 * padding
        if reach > room:
            over = f" with `dilation` {dilation}, which covers {reach}," if dilation > 1 else ""
            around = f" and `padding` {padding} on both sides" if padding else ""
            return Fault(f"a kernel of size {kernel}{over} is larger than the input size {size}{around}", "kernel_size")
    return None


def _transposed(built: Any, arrival: Arrival) -> Fault | None:
    for extra, stride, dilation in zip(built.output_padding, built.stride, built.dilation, strict=True):
        if extra >= max(stride, dilation):
            return Fault(f"`output_padding` {extra} must be less than `stride` {stride}", "output_padding")
    return None


def _reflected(built: Any, arrival: Arrival) -> Fault | None:
    count = len(built.padding) // 2
    for position, padding in enumerate(built.padding):
        size = arrival.stream.shape[-1 - position // 2] if arrival.stream.dim() > count else padding + 1
        if padding >= size:
            return Fault(f"`padding` {padding} must be less than the size {size} that it reflects", "padding")
    return None


# other shapes


def _sized(built: Any, arrival: Arrival) -> Fault | None:
    size = built.size
    return Fault(f"all sizes must be at least 1, got {min(size)}") if size and min(size) < 1 else None


def _another_size(sizes: Sequence[int], held: int) -> tuple[int, int] | None:
    """The position of the only size that has to change for a product of `held`, and its right value.

    If several could change, the one that becomes equal to another size.
    """
    others = [prod(sizes[:position]) * prod(sizes[position + 1 :]) for position in range(len(sizes))]
    found = [(position, held // rest) for position, rest in enumerate(others) if rest > 0 and held % rest == 0]
    if len(found) > 1:
        found = [(position, size) for position, size in found if size in sizes]
    return found[0] if len(found) == 1 else None


def _reshaped(message: str, at: str, sizes: Sequence[int], held: int, arrival: Arrival) -> Fault:
    right = _another_size(sizes, held)
    if right is None or arrival.sizes.number(held) != str(held):
        return Fault(message, at if at == "unflattened_size" else None)
    return Fault(message, at, Suggestion(str(right[1]), instead_of=str(sizes[right[0]])), right[0])


def _reshape(built: blocks.Reshape, arrival: Arrival) -> Fault | None:
    held, wanted = prod(arrival.stream.shape[1:]), prod(size for size in built.size if size != -1)
    fits = held % wanted == 0 if -1 in built.size and wanted else held == wanted
    number = arrival.sizes.number
    message = f"{list(built.size)} has {wanted} elements, but a row of the stream has {number(held)}"
    return None if fits else _reshaped(message, "size", built.size, held, arrival)


def _unflatten(built: nn.Unflatten, arrival: Arrival) -> Fault | None:
    held = arrival.size_at(int(built.dim))
    if held is None:
        return None
    sizes = [int(size) for size in built.unflattened_size]
    wanted = prod(size for size in sizes if size != -1)
    fits = held % wanted == 0 if -1 in sizes and wanted else held == wanted
    message = f"{sizes} has {wanted} elements, but dimension {built.dim} has size {arrival.sizes.number(held)}"
    return None if fits else _reshaped(message, "unflattened_size", sizes, held, arrival)


def _flatten(built: nn.Flatten, arrival: Arrival) -> Fault | None:
    first, last = (dim % arrival.stream.dim() for dim in (built.start_dim, built.end_dim))
    message = f"`start_dim` {built.start_dim} is after `end_dim` {built.end_dim}"
    return Fault(message, "end_dim") if first > last else None


def _normalised(built: Any, arrival: Arrival) -> Fault | None:
    wanted = [int(size) for size in built.normalized_shape]
    last = list(arrival.stream.shape[-len(wanted) :])
    if len(wanted) == 1 or last == wanted:
        return None
    return Fault(f"expected {wanted} as the last sizes, got {arrival.sizes.shape(last)}", "normalized_shape")


def _select(built: blocks.Select, arrival: Arrival) -> Fault | None:
    count = arrival.size_at(built.dim)
    if count is None or -count <= built.index < count:
        return None
    message = f"index {built.index} is out of range for dimension {built.dim} of size {count}"
    return Fault(message, "index", f"the last is {count - 1}")


def _concat(built: blocks.Concat, arrival: Arrival) -> Fault | None:
    found = (_joined(built, arrival, name) for name in arrival.using)
    return next((wrong for wrong in found if wrong is not None), None)


def _joined(built: blocks.Concat, arrival: Arrival, name: str) -> Fault | None:
    other, stream = arrival.tensor(name), arrival.stream
    if other is None:
        return None
    if other.dim() != stream.dim():
        return Fault(f"`{name}` must have {stream.dim()} dimensions like the stream, got {other.dim()}", name)
    along = built.dim % stream.dim()
    apart = [dim for dim in range(stream.dim()) if dim != along and stream.shape[dim] != other.shape[dim]]
    if not apart:
        return None
    dim, number = apart[0], arrival.sizes.number
    sizes = f"{number(stream.shape[dim])} and {number(other.shape[dim])}"
    message = f"all sizes except dimension {built.dim} must match, but dimension {dim} has {sizes}"
    if len(apart) == 1 and dim and stream.shape[along] == other.shape[along]:
        return Fault(message, "dim", f"write `Concat({dim})`")
    return Fault(message, name)


def _halved(built: nn.GLU, arrival: Arrival) -> Fault | None:
    size = arrival.size_at(built.dim) or 0
    return Fault(f"dimension {built.dim} must have an even size, got {size}", "dim") if size % 2 else None


def _shuffled(built: nn.PixelShuffle, arrival: Arrival) -> Fault | None:
    factor, channels = built.upscale_factor, arrival.size_at(-3) or 0
    if factor < 1 or channels % factor**2 == 0:
        return None
    return Fault(f"{channels} channels are not divisible by {factor} * {factor}", "upscale_factor")


def _unshuffled(built: nn.PixelUnshuffle, arrival: Arrival) -> Fault | None:
    factor = built.downscale_factor
    odd = [int(size) for size in arrival.stream.shape[-2:] if factor > 0 and size % factor]
    return Fault(f"the size {odd[0]} is not divisible by {factor}", "downscale_factor") if odd else None


def _channels_shuffled(built: nn.ChannelShuffle, arrival: Arrival) -> Fault | None:
    channels, groups = arrival.size_at(1) or 0, built.groups
    return Fault(f"{channels} channels are not divisible by {groups}", "groups") if channels % groups else None


MODES = {"nearest": (3, 4, 5), "nearest-exact": (3, 4, 5), "area": (3, 4, 5), "linear": (3,), "bilinear": (4,)}
MODES |= {"bicubic": (4,), "trilinear": (5,)}


def _upsampled(built: nn.Upsample, arrival: Arrival) -> Fault | None:
    if built.size is None and not built.scale_factor:
        return Fault("it requires `size`, or a `scale_factor` greater than 0")
    if built.mode not in MODES:
        return Fault(f"`mode` must be one of {', '.join(f'`{mode}`' for mode in MODES)}", "mode")
    if arrival.stream.dim() not in MODES[built.mode]:
        wanted = " or ".join(str(rank) for rank in MODES[built.mode])
        at = "mode" if arrival.stream.dim() in (3, 4, 5) else None
        return Fault(f"`{built.mode}` requires {wanted} dimensions, including batch and channels", at)
    return None


# two values


def _beside(built: Any, arrival: Arrival) -> Fault | None:
    """Further arguments are combined with the stream elementwise, with broadcasting."""
    for name in arrival.using:
        value = arrival.tensor(name)
        if value is not None and not _broadcast(arrival.stream.shape, value.shape):
            return Fault(f"`{name}` does not match the shape of the stream", name)
    return None


def _broadcast(one: Sequence[int], other: Sequence[int]) -> bool:
    pairs = zip(reversed(one), reversed(other), strict=False)
    return all(a == b or 1 in (a, b) for a, b in pairs)


def _scaled(built: blocks.Scale, arrival: Arrival) -> Fault | None:
    if _broadcast(arrival.stream.shape, built.factor.shape):
        return None
    count, last = list(built.factor.shape), arrival.sizes.number(arrival.stream.shape[-1])
    if len(count) == 1:
        return Fault(f"{count[0]} factors for a last size of {last}", "factor")
    return Fault(f"factors of shape {count} do not match", "factor")


def _bilinear(built: nn.Bilinear, arrival: Arrival) -> Fault | None:
    other = arrival.tensor("input2")
    if other is None or other.shape[-1] == built.in2_features:
        return None
    got = arrival.sizes.number(other.shape[-1])
    return Fault(f"`input2` has {got} features, but `in2_features` is {built.in2_features}", "in2_features")


def _compared(built: nn.Module, arrival: Arrival) -> Fault | None:
    target, stream = arrival.tensor("target"), arrival.stream
    if target is None or target.shape == stream.shape:
        return None
    return Fault(f"`target` must have the shape of the stream, {arrival.sizes.shape(stream.shape)}", "target")


def _classified(built: nn.Module, arrival: Arrival) -> Fault | None:
    """Class scores along dimension 1, with class indices or probabilities as the target."""
    target, stream = arrival.tensor("target"), arrival.stream
    if target is None or stream.dim() < 2:
        return None
    wanted = [*stream.shape[:1], *stream.shape[2:]]
    shares = isinstance(built, nn.CrossEntropyLoss) and target.is_floating_point()
    if list(target.shape) == (list(stream.shape) if shares else wanted) and (shares or target.dtype == torch.int64):
        return None
    return Fault(f"`target` must be class indices of shape {arrival.sizes.shape(wanted)} and type int64", "target")


def _softmax(built: nn.Softmax | nn.LogSoftmax | nn.Softmin, arrival: Arrival) -> Fault | None:
    """Without `dim`, torch chooses the first of three dimensions, and the second of two or four."""
    if built.dim is None and arrival.stream.dim() == 3:
        name = type(built).__name__
        return Fault("without `dim`, its sums would go over the batch", "dim", f"write `{name}(-1)`")
    return None


# sequences


def _sequence(arrival: Arrival, batch_first: bool) -> Fault | None:
    """A batch of sequences; an unknown size in the first dimension is the batch."""
    sizes, order = arrival.stream.shape, "[batch, length, features]" if batch_first else "[length, batch, features]"
    if len(sizes) not in (2, 3):
        return Fault(f"expected {order}")
    opens = [arrival.is_open(size) for size in sizes]
    if len(sizes) == 2 and opens[0]:
        advice = "add `Unflatten(1, [length, features])` before it to turn each row into a sequence"
        return Fault(f"expected {order}, but the batch would be read as one sequence", None, advice)
    if len(sizes) == 3 and not batch_first and opens[0] and not opens[1]:
        advice = "add `batch_first=true` to the call"
        return Fault(f"expected {order}, but the batch would be read as the length", "batch_first", advice)
    return None


def _recurrent(built: nn.RNNBase, arrival: Arrival) -> Fault | None:
    rank, wrong = arrival.stream.dim(), _sequence(arrival, built.batch_first)
    if wrong is not None or "hx" not in arrival.using:
        return wrong
    layers = built.num_layers * (2 if built.bidirectional else 1)
    rows = [arrival.stream.shape[0 if built.batch_first else 1]] if rank == 3 else []
    wanted = [layers, *rows, built.proj_size or built.hidden_size]
    if isinstance(built, nn.LSTM):
        return _pair(arrival, wanted, [layers, *rows, built.hidden_size])
    return _state(arrival, wanted)


def _cell(built: nn.RNNCellBase, arrival: Arrival) -> Fault | None:
    if arrival.stream.dim() not in (1, 2):
        advice = "use a `loop` with `over` to pass one time step at a time"
        return Fault("expected [batch, features], a single time step", None, advice)
    if "hx" not in arrival.using:
        return None
    wanted = [*arrival.stream.shape[:-1], built.hidden_size]
    return _pair(arrival, wanted, wanted) if isinstance(built, nn.LSTMCell) else _state(arrival, wanted)


def _state(arrival: Arrival, wanted: list[int]) -> Fault | None:
    value = arrival.using["hx"]
    given = list(value.shape) if isinstance(value, Tensor) else []
    if given == wanted:
        return None
    return Fault(f"`hx` must be {arrival.sizes.shape(wanted)}", "hidden_size" if given[:-1] == wanted[:-1] else "hx")


def _pair(arrival: Arrival, hidden: list[int], cell: list[int]) -> Fault | None:
    value = arrival.using["hx"]
    shapes = [list(one.shape) for one in value if isinstance(one, Tensor)] if isinstance(value, tuple | list) else []
    if shapes == [hidden, cell]:
        return None
    state, memory = map(arrival.sizes.shape, (hidden, cell))
    return Fault(f"`hx` must be a tuple of the hidden state {state} and the cell state {memory}", "hx")


# attention


def _values(arrival: Arrival, batch_first: bool, features: dict[str, int]) -> Fault | None:
    """Keys, values and memory must match the rank and batch of the stream, with the given numbers of features."""
    stream, number = arrival.stream, arrival.sizes.number
    for name, wanted in features.items():
        value = arrival.tensor(name)
        if value is None:
            continue
        if value.dim() != stream.dim():
            return Fault(f"`{name}` must have {stream.dim()} dimensions like the stream, got {value.dim()}", name)
        if not value.is_floating_point():
            return Fault(f"`{name}` must have a floating-point type", name)
        if value.shape[-1] != wanted:
            return Fault(f"`{name}` must have {wanted} features, got {number(value.shape[-1])}", name)
        rows = 0 if batch_first else 1
        if stream.dim() == 3 and value.shape[rows] != stream.shape[rows]:
            return Fault(f"`{name}` must have the batch size of the stream, {number(stream.shape[rows])}", name)
    return None


def _mask(arrival: Arrival, name: str, *shapes: list[int]) -> Fault | None:
    mask = arrival.tensor(name)
    if mask is None:
        return None
    if mask.dtype != torch.bool and not mask.is_floating_point():
        return Fault(f"`{name}` must have type `bool` or a floating-point type", name)
    if list(mask.shape) in shapes:
        return None
    return Fault(f"`{name}` must be {' or '.join(arrival.sizes.shape(shape) for shape in shapes)}", name)


def _masks(arrival: Arrival, batch_first: bool, heads: int, keys: Tensor, attention: str, padding: str) -> Fault | None:
    """The masks of an attention over `keys`."""
    stream = arrival.stream
    batched = stream.dim() == 3
    moments = 1 if batched and batch_first else 0
    rows = int(stream.shape[1 - moments]) if batched else 1
    length, count = int(stream.shape[moments]), int(keys.shape[moments])
    return _mask(arrival, attention, [length, count], [rows * heads, length, count]) or _mask(
        arrival, padding, [rows, count] if batched else [count]
    )


def _attention(built: nn.MultiheadAttention, arrival: Arrival) -> Fault | None:
    features = {"key": built.kdim, "value": built.vdim}
    wrong = _sequence(arrival, built.batch_first) or _values(arrival, built.batch_first, features)
    key, value = arrival.tensor("key"), arrival.tensor("value")
    if wrong is not None or key is None or value is None:
        return wrong
    moments = 1 if built.batch_first and key.dim() == 3 else 0
    if key.shape[moments] != value.shape[moments]:
        number = arrival.sizes.number
        lengths = f"{number(key.shape[moments])} and {number(value.shape[moments])}"
        return Fault(f"`key` and `value` must have the same length, got {lengths}", "value")
    return _masks(arrival, built.batch_first, built.num_heads, key, "attn_mask", "key_padding_mask")


def _encoder(built: Any, arrival: Arrival) -> Fault | None:
    layer = built.layers[0] if isinstance(built, nn.TransformerEncoder) else built
    if not isinstance(layer, nn.TransformerEncoderLayer):
        return None
    attention, first = layer.self_attn, layer.self_attn.batch_first
    wrong = _sequence(arrival, first)
    if wrong is not None or arrival.stream.shape[-1] != attention.embed_dim:
        return wrong
    name = "src_mask" if layer is built else "mask"
    return _masks(arrival, first, attention.num_heads, arrival.stream, name, "src_key_padding_mask")


def _decoder(built: Any, arrival: Arrival) -> Fault | None:
    layer = built.layers[0] if isinstance(built, nn.TransformerDecoder) else built
    if not isinstance(layer, nn.TransformerDecoderLayer):
        return None
    attention, first, memory = layer.self_attn, layer.self_attn.batch_first, arrival.tensor("memory")
    wrong = _sequence(arrival, first) or _values(arrival, first, {"memory": attention.embed_dim})
    if wrong is not None or memory is None:
        return wrong
    heads = attention.num_heads
    return _masks(arrival, first, heads, arrival.stream, "tgt_mask", "tgt_key_padding_mask") or _masks(
        arrival, first, heads, memory, "memory_mask", "memory_key_padding_mask"
    )


POOLS = (nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd)
ROUTERS = (blocks.SoftmaxRouter, blocks.SigmoidRouter, blocks.ArgmaxSelector)
COMPARERS = (
    nn.L1Loss, nn.MSELoss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss, nn.PoissonNLLLoss,
    nn.KLDivLoss, nn.SoftMarginLoss, nn.MultiLabelSoftMarginLoss,
)  # fmt: skip
RULES: tuple[tuple[Any, Callable[[Any, Arrival], Fault | None]], ...] = (
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d, *POOLS), _window),
    (nn.modules.conv._ConvTransposeNd, _transposed),
    ((nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d), _reflected),
    ((blocks.Learned, blocks.Zeros), _sized),
    (blocks.Reshape, _reshape),
    (nn.Unflatten, _unflatten),
    (nn.Flatten, _flatten),
    ((nn.LayerNorm, nn.RMSNorm), _normalised),
    (blocks.Select, _select),
    (blocks.Concat, _concat),
    (nn.GLU, _halved),
    (nn.PixelShuffle, _shuffled),
    (nn.PixelUnshuffle, _unshuffled),
    (nn.ChannelShuffle, _channels_shuffled),
    (nn.Upsample, _upsampled),
    ((blocks.StateAdd, nn.CosineSimilarity, nn.PairwiseDistance, *ROUTERS), _beside),
    (blocks.Scale, _scaled),
    (nn.Bilinear, _bilinear),
    (COMPARERS, _compared),
    ((nn.CrossEntropyLoss, nn.NLLLoss), _classified),
    ((nn.Softmax, nn.LogSoftmax, nn.Softmin), _softmax),
    (nn.RNNBase, _recurrent),
    (nn.RNNCellBase, _cell),
    (nn.MultiheadAttention, _attention),
    ((nn.TransformerEncoderLayer, nn.TransformerEncoder), _encoder),
    ((nn.TransformerDecoderLayer, nn.TransformerDecoder), _decoder),
)
"""Modules -> the rule for their input."""
