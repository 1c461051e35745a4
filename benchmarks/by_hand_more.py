"""More models by hand, for the graphs in `models/`: images, sequences and text. Not measured, only compared."""

from __future__ import annotations

from collections.abc import Callable

import torch
from by_hand import Residual, layer
from torch import Tensor, nn


def convolution(before: int, after: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, size, stride, 1), nn.BatchNorm2d(after), nn.ReLU())


class Chain(nn.Module):
    """Parts by name, one after the other."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.children():
            x = part(x)
        return x


def convnet(width: int = 64, classes: int = 100) -> nn.Module:
    return Chain(
        first=convolution(3, width).append(nn.MaxPool2d(2)),
        second=convolution(width, width * 2).append(nn.MaxPool2d(2)),
        third=convolution(width * 2, width * 4).append(nn.MaxPool2d(2)),
        fourth=convolution(width * 4, width * 8).append(nn.MaxPool2d(2)),
        fifth=convolution(width * 8, width * 8),
        head=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width * 8, classes)),
    )


def conv_autoenc(width: int = 64) -> nn.Module:
    def up(before: int, after: int) -> nn.Sequential:
        return nn.Sequential(nn.ConvTranspose2d(before, after, 4, 2, 1), nn.BatchNorm2d(after), nn.ReLU())

    return Chain(
        down_1=convolution(3, width, 4, 2),
        down_2=convolution(width, width * 2, 4, 2),
        down_3=convolution(width * 2, width * 4, 4, 2),
        down_4=convolution(width * 4, width * 8, 4, 2),
        up_1=up(width * 8, width * 4),
        up_2=up(width * 4, width * 2),
        up_3=up(width * 2, width),
        image_again=nn.Sequential(nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh()),
    )


def logistic() -> nn.Module:
    return Chain(logits=nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))


def digits_mlp(hidden: int = 256) -> nn.Module:
    first = nn.Sequential(nn.Flatten(), nn.Linear(784, hidden), nn.ReLU())
    return Chain(hidden=first, logits=nn.Linear(hidden, 10))


def digits_autoenc() -> nn.Module:
    return Chain(
        code=nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()),
        grown=nn.Sequential(nn.ConvTranspose2d(32, 16, 3, 2, 1, 1), nn.ReLU()),
        image_again=nn.Sequential(nn.ConvTranspose2d(16, 1, 3, 2, 1, 1), nn.Sigmoid()),
    )


def lenet(classes: int = 10) -> nn.Module:
    def edges(before: int, after: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(before, after, 5), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2))

    hidden = nn.Sequential(nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU())
    logits = nn.Linear(84, classes)
    return Chain(edges=edges(1, 6), parts=edges(6, 16), flat=nn.Flatten(), hidden=hidden, logits=logits)


class FeedbackLoop(nn.Module):
    def __init__(self, width: int = 512, most: int = 10) -> None:
        super().__init__()
        self.most = most
        self.stem = layer(width, width)
        self.refine = Residual(width)
        self.refine.condition = Halt(width)
        self.head = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(self.most):
            x = self.refine(x)
            if self.refine.condition(x) > 0:
                break
        return self.head(x)


class Halt(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(x).mean()


class GruSeq(nn.Module):
    def __init__(self, features: int = 256, width: int = 512, steps: int = 50) -> None:
        super().__init__()
        self.read = nn.Module()
        self.read.cell = nn.GRUCell(features, width)
        self.head = nn.Linear(width, features)

    def forward(self, sequence: Tensor) -> Tensor:
        cell = self.read.cell
        hidden = sequence.new_zeros(len(sequence), cell.hidden_size)
        for step in range(sequence.shape[1]):
            hidden = cell(sequence[:, step], hidden)
        return self.head(hidden)


class LstmSeq(nn.Module):
    def __init__(self, features: int = 256, width: int = 512, steps: int = 50) -> None:
        super().__init__()
        self.read = nn.LSTM(features, width, 2, batch_first=True)
        self.head = nn.Linear(width, features)

    def forward(self, sequence: Tensor) -> Tensor:
        return self.head(self.read(sequence)[0][:, -1])


class CharRnn(nn.Module):
    def __init__(self, vocabulary: int = 65, features: int = 128, width: int = 256, dropout: float = 0.2) -> None:
        super().__init__()
        self.embedded = nn.Embedding(vocabulary, features)
        self.read = nn.LSTM(features, width, 2, batch_first=True)
        self.drop = nn.Dropout(dropout)
        self.logits = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits(self.drop(self.read(self.embedded(tokens))[0]))


class Place(nn.Module):
    """A learned vector for each place."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.randn(length, width))


class PostNormLayer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(width, heads, batch_first=True)
        self.first_norm = nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, width * 4), nn.GELU(), nn.Linear(width * 4, width))
        self.second_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first_norm(x + self.attend(x, x, x)[0])
        return self.second_norm(x + self.feed(x))


class Transformer(nn.Module):
    def __init__(
        self, vocabulary: int = 8192, length: int = 128, width: int = 512, heads: int = 8, depth: int = 4
    ) -> None:
        super().__init__()
        self.embedded = nn.Embedding(vocabulary, width)
        self.place = Place(length, width)
        self.layer = nn.ModuleList([PostNormLayer(width, heads) for _ in range(depth)])
        self.logits = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedded(tokens) + self.place.value
        for block in self.layer:
            x = block(x)
        return self.logits(x)


class Attend(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix = nn.MultiheadAttention(width, heads, batch_first=True)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, later: Tensor) -> Tensor:
        x = self.norm(x)
        return self.drop(self.mix(x, x, x, attn_mask=later)[0])


class PreNormBlock(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attend = Attend(width, heads, dropout)
        feed = (nn.LayerNorm(width), nn.Linear(width, width * 4), nn.GELU(), nn.Linear(width * 4, width))
        self.feed = nn.Sequential(*feed, nn.Dropout(dropout))

    def forward(self, x: Tensor, later: Tensor) -> Tensor:
        x = x + self.attend(x, later)
        return x + self.feed(x)


class GptNano(nn.Module):
    def __init__(
        self,
        vocabulary: int = 65,
        length: int = 128,
        width: int = 128,
        heads: int = 4,
        depth: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.embedded = nn.Embedding(vocabulary, width)
        self.place = Place(length, width)
        self.drop = nn.Dropout(dropout)
        self.block = nn.ModuleList([PreNormBlock(width, heads, dropout) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.drop(self.embedded(tokens) + self.place.value)
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        for block in self.block:
            x = block(x, later)
        return self.logits(self.norm(x))


class Change(nn.Module):
    """Two convolutions, with batch statistics, that change the width and perhaps halve the image."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


class Block(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.change = Change(before, after, after // before)
        if before != after:
            self.change.skip = nn.Sequential(nn.Conv2d(before, after, 1, 2, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        skip: Callable[[Tensor], Tensor] = getattr(self.change, "skip", nn.Identity())
        return torch.relu(skip(x) + self.change(x))


class ResNet20(nn.Module):
    def __init__(self, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        wide, widest = width * 2, width * 4
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.first = nn.ModuleList([Block(width, width) for _ in range(3)])
        self.second_start = Block(width, wide)
        self.second = nn.ModuleList([Block(wide, wide) for _ in range(2)])
        self.third_start = Block(wide, widest)
        self.third = nn.ModuleList([Block(widest, widest) for _ in range(2)])
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widest, classes))

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        for block in (*self.first, self.second_start, *self.second, self.third_start, *self.third):
            x = block(x)
        return self.head(x)
