"""Modules for graphs that are not in `torch.nn`. All public classes can be called by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

Number = int | float


class _OfSize(nn.Module):
    """A module whose output has a given size in each row."""

    def __init__(self, *size: int) -> None:
        """`size` is the shape of one row."""
        super().__init__()
        self.size = size

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.size))


class Learned(_OfSize):
    """A learned tensor, repeated for each row of the stream."""

    def __init__(self, *size: int) -> None:
        """`size` is the shape of one row. The values start at zero."""
        super().__init__(*size)
        self.value = nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        """`x` [B, ...]: [B, *size]."""
        return self.value.expand(x.shape[0], *self.size)


class Constant(nn.Module):
    """A constant tensor, repeated for each row of the stream."""

    value: Tensor

    def __init__(self, value: Number | Sequence[Number]) -> None:
        """`value` is one row: a number or a (nested) list."""
        super().__init__()
        self.register_buffer("value", torch.tensor(value, dtype=torch.float32), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`x` [B, ...]: [B, *value.shape]."""
        return self.value.expand(x.shape[0], *self.value.shape)

    def extra_repr(self) -> str:
        return str(self.value.tolist())


class Zeros(_OfSize):
    """Zeros for each row of the stream, for example as the initial state of a loop."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` [B, ...]: [B, *size], with the device of `x`, and its type if that is a floating-point type."""
        dtype = x.dtype if x.is_floating_point() else None
        return torch.zeros(x.shape[0], *self.size, dtype=dtype, device=x.device)


class Noise(_OfSize):
    """Normal random numbers for each row of the stream."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` [B, ...]: [B, *size], with the device of `x`, and its type if that is a floating-point type."""
        dtype = x.dtype if x.is_floating_point() else None
        return torch.randn(x.shape[0], *self.size, dtype=dtype, device=x.device)


class Mix(nn.Module):
    """A random point between the stream and another value, another one for each row."""

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """`x` and `other` [B, ...]: [B, ...]."""
        share = torch.rand(x.shape[0], *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device)
        return share * x + (1 - share) * other


class Differentiable(nn.Module):
    """The stream, with a gradient where none comes from before it: for losses that need the gradient of a value."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` [...]: [...]."""
        return x.detach().requires_grad_() if torch.is_grad_enabled() and not x.requires_grad else x


class CausalMask(nn.Module):
    """A causal mask for `attn_mask` of attention: true for later positions."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` [B, T, ...]: [T, T] bool, true above the diagonal."""
        return torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)


class Not(nn.Module):
    """The inverse of a mask, as for `key_padding_mask` of attention, which is true for the places to ignore."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` [...] bool or integers: [...] bool, true where `x` is false or 0."""
        return x.logical_not()


class Reshape(_OfSize):
    """Reshapes each row to a size, of which one number may be -1."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` [B, ...]: [B, *size]."""
        return x.reshape(x.shape[0], *self.size)


class Scale(nn.Module):
    """Multiplies the stream by a constant, with broadcasting."""

    factor: Tensor

    def __init__(self, factor: Number | Sequence[Number]) -> None:
        super().__init__()
        self.register_buffer("factor", torch.tensor(factor, dtype=torch.float32), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`x` [..., *factor.shape]: the same shape."""
        return x * self.factor

    def extra_repr(self) -> str:
        return str(self.factor.tolist())


class Select(nn.Module):
    """Selects one index of a dimension."""

    def __init__(self, index: int, dim: int = 1) -> None:
        super().__init__()
        self.index, self.dim = index, dim

    def forward(self, x: Tensor) -> Tensor:
        """`x` [B, ..., N, ...]: the same without the dimension `dim`."""
        return x.select(self.dim, self.index)

    def extra_repr(self) -> str:
        return f"{self.index}, dim={self.dim}"


class Mean(nn.Module):
    """The mean over one or more dimensions."""

    def __init__(self, dim: int | Sequence[int] = 1, keepdim: bool = False) -> None:
        super().__init__()
        self.dim = dim if isinstance(dim, int) else tuple(dim)
        self.keepdim = keepdim

    def forward(self, x: Tensor) -> Tensor:
        """`x` of any shape: the same without the dimensions `dim`, or with size 1 there."""
        return x.mean(self.dim, self.keepdim)

    def extra_repr(self) -> str:
        return f"{self.dim}, keepdim={self.keepdim}"


class Transpose(nn.Module):
    """Swaps two dimensions."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        """`x` of any shape with these dimensions."""
        return x.transpose(self.first, self.second)

    def extra_repr(self) -> str:
        return f"{self.first}, {self.second}"


class Concat(nn.Module):
    """Concatenates the stream and further values, in the order of `using`."""

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, stream: Tensor, **others: Tensor) -> Tensor:
        """The stream and the `others`, at least one, must have the same sizes except for `dim`."""
        if not others:
            raise ValueError("there is nothing to concatenate with the stream: `using` names the other values")
        return torch.cat([stream, *others.values()], self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Tuple(nn.Module):
    """The stream and further values as a tuple, in the order of `using`: such as the state `(h, c)` of an LSTM cell."""

    def forward(self, stream: Tensor, **others: Tensor) -> tuple[Tensor, ...]:
        """Any values: the same ones."""
        return (stream, *others.values())


class Detach(nn.Module):
    """The stream without its history: no gradient passes through it."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` of any shape: the same values."""
        return x.detach()


class _Sampled(NamedTuple):
    """A sample of a normal distribution, with its parameters, all of one shape."""

    sample: Tensor
    mean: Tensor
    log_variance: Tensor


class Gaussian(nn.Module):
    """Samples a normal distribution, whose mean and log-variance are the halves of the stream along a dimension.

    In evaluation mode, the sample is the mean. The loss `gaussian_kl` takes `mean` and `log_variance`.
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> _Sampled:
        """`x` [B, ..., 2 * N, ...]: `sample`, `mean` and `log_variance`, each [B, ..., N, ...]."""
        mean, log_variance = x.chunk(2, self.dim)
        if mean.shape != log_variance.shape:
            raise ValueError(f"the size of dimension {self.dim}, means and log-variances, is odd: {x.shape[self.dim]}")
        sample = mean + (0.5 * log_variance).exp() * torch.randn_like(mean) if self.training else mean
        return _Sampled(sample, mean, log_variance)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class StateAdd(nn.Module):
    """Adds another value to the stream."""

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """`x` and `state` must be broadcastable."""
        return x + state


class _Router(nn.Module):
    """Scores each expert by the stream and the further inputs of the router, in declared order."""

    def __init__(self, in_features: int, experts: int) -> None:
        super().__init__()
        self.in_features, self.experts = in_features, experts
        self.score = nn.Linear(in_features, experts)

    def scores(self, x: Tensor, added: Mapping[str, Tensor]) -> Tensor:
        """`x` [..., in_features], to which further values are added: [..., experts]."""
        scores: Tensor = self.score(sum(added.values(), x))
        return scores


class SoftmaxRouter(_Router):
    """One weight for each expert, positive and with a sum of 1."""

    def forward(self, x: Tensor, **added: Tensor) -> Tensor:
        """`x` [..., in_features], to which further values are added: [..., experts]."""
        return torch.softmax(self.scores(x, added), -1)


class TopRouter(_Router):
    """One weight for each expert: a softmax over the `k` highest scores, and 0 for the others."""

    def __init__(self, in_features: int, experts: int, k: int) -> None:
        super().__init__(in_features, experts)
        if not 1 <= k <= experts:
            raise ValueError(f"`k` must be from 1 to {experts}, got {k}")
        self.k = k

    def forward(self, x: Tensor, **added: Tensor) -> Tensor:
        """`x` [..., in_features], to which further values are added: [..., experts]."""
        scores = self.scores(x, added)
        kept = scores.topk(self.k, -1)
        return torch.zeros_like(scores).scatter(-1, kept.indices, torch.softmax(kept.values, -1))


class SigmoidRouter(_Router):
    """One weight for each expert, independently between 0 and 1."""

    def forward(self, x: Tensor, **added: Tensor) -> Tensor:
        """`x` [..., in_features], to which further values are added: [..., experts]."""
        return torch.sigmoid(self.scores(x, added))


class ArgmaxSelector(_Router):
    """Selects the branch with the highest score for each row. The selection has no gradient."""

    def __init__(self, in_features: int, branches: int) -> None:
        super().__init__(in_features, branches)
        self.branches = branches

    def forward(self, x: Tensor, **added: Tensor) -> Tensor:
        """`x` [B, in_features], to which further values are added: [B] int64."""
        return self.scores(x, added).argmax(-1)


class FixedSelector(nn.Module):
    """Always selects the same branch."""

    index: Tensor

    def __init__(self, index: int) -> None:
        super().__init__()
        self.register_buffer("index", torch.tensor(index), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`x` of any shape: a scalar int64."""
        return self.index

    def extra_repr(self) -> str:
        return str(int(self.index))


class ThresholdHalt(nn.Module):
    """Ends a loop when the largest element of the stream exceeds a threshold."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        """`x` of any shape: a scalar, positive to stop."""
        return x.max() - self.threshold

    def extra_repr(self) -> str:
        return f"{self.threshold:g}"


class LearnedHalt(nn.Module):
    """Ends a loop when a learned score, averaged over the stream, is positive."""

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.score = nn.Linear(in_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`x` [..., in_features]: a scalar, positive to stop."""
        score: Tensor = self.score(x)
        return score.mean()
