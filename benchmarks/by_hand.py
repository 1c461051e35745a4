"""The benchmark models as one would write them by hand: plain modules whose names are the paths of the graphs.

Their `state_dict`s load into each other, and their values and gradients are the same bits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowconf.fbrl.glimpse import Glimpse, View
from flowconf.graph.blocks import Learned


class ResidualTower(nn.Module):
    def __init__(self, width: int = 1024, blocks: int = 12) -> None:
        super().__init__()
        self.stem = nn.Linear(width, width)
        self.block = nn.ModuleList([layer(width, width) for _ in range(blocks)])
        self.head = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.block:
            x = x + block(x)
        return self.head(x)


class GatedRouting(nn.Module):
    def __init__(self, width: int = 512) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(width, width), nn.GELU())
        self.mixed = Mixture(width)
        self.head = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mixed(self.stem(x)))


class Mixture(nn.Module):
    """Eight experts, weighed by a router."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a = layer(width, width)
        self.b = layer(width, width)
        self.c = layer(width, width)
        self.d = layer(width, width)
        self.e = layer(width, width)
        self.f = layer(width, width)
        self.g = layer(width, width)
        self.h = layer(width, width)
        self.router = Router(width, 8)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.router(x)
        experts = (self.a, self.b, self.c, self.d, self.e, self.f, self.g, self.h)
        total = weights[:, 0:1] * experts[0](x)
        for number, expert in enumerate(experts[1:], 1):
            total = total + weights[:, number : number + 1] * expert(x)
        return total


class Router(nn.Module):
    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, experts)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.score(x), dim=-1)


class Mlp(nn.Module):
    def __init__(self, width: int = 1024, hidden: int = 2048) -> None:
        super().__init__()
        self.first = layer(width, hidden)
        self.second = layer(hidden, hidden)
        self.third = layer(hidden, hidden)
        self.fourth = layer(hidden, hidden)
        self.head = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.second(x)
        x = self.third(x)
        x = self.fourth(x)
        return self.head(x)


class IterativeRefine(nn.Module):
    def __init__(self, width: int = 1024, times: int = 8) -> None:
        super().__init__()
        self.times = times
        self.stem = layer(width, width)
        self.refine = Residual(width)
        self.head = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(self.times):
            x = self.refine(x)
        return self.head(x)


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.change = layer(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.change(x)


def layer(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(before, after), nn.GELU(), nn.LayerNorm(after))


# the readers


class Start(nn.Module):
    """What the eye expects before the first look, and the middle of the image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = Learned(width)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.hidden(image), image.new_zeros(len(image), 2)


class Sensor(nn.Module):
    """A patch of the image [B, 1, H, W] at a place [B, 2], seen as a whole: [B, width]."""

    def __init__(self, height: int, across: int, step: int, width: int) -> None:
        super().__init__()
        self.where = nn.Linear(2, width)
        self.patch = Glimpse([height, across], step)
        self.what = nn.Sequential(nn.Flatten(), nn.Linear(height * across, width), nn.ReLU())
        self.seen = nn.Sequential(nn.Linear(width, width), nn.ReLU())

    def forward(self, image: Tensor, at: Tensor) -> Tensor:
        where = self.where(at)
        what = self.what(self.patch(image, at))
        return self.seen(what + where)


class WideSensor(nn.Module):
    """A wide patch of the image [B, 1, H, W] at a place [B, 2], by convolutions along the text: [B, width]."""

    def __init__(self, height: int, across: int, step: int, width: int) -> None:
        super().__init__()
        self.where = nn.Linear(2, width)
        self.patch = Glimpse([height, across], step)
        self.strokes = nn.Sequential(nn.Conv2d(1, 16, (height, 5), padding=(0, 2)), nn.ReLU())
        self.letters = nn.Sequential(nn.Conv2d(16, 32, (1, 5), stride=(1, 2), padding=(0, 2)), nn.ReLU())
        self.what = nn.Sequential(nn.Flatten(), nn.Linear(16 * across, width), nn.ReLU())
        self.seen = nn.Sequential(nn.Linear(width, width), nn.ReLU())

    def forward(self, image: Tensor, at: Tensor) -> Tensor:
        where = self.where(at)
        what = self.what(self.letters(self.strokes(self.patch(image, at))))
        return self.seen(what + where)


class Look(nn.Module):
    """One look: see, think, and say where to look next."""

    def __init__(self, sensor: Sensor | WideSensor, think: nn.GRUCell, move: nn.Sequential) -> None:
        super().__init__()
        self.sensor = sensor
        self.think = think
        self.move = move

    def forward(self, image: Tensor, hidden: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.think(self.sensor(image, at), hidden)
        return hidden, self.move(hidden)


class Decoder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.seed = nn.Sequential(nn.Linear(width, 16 * 8 * 8), nn.ReLU(), nn.Unflatten(1, (16, 8, 8)))
        self.grow = nn.Sequential(nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1), nn.ReLU())
        self.image = nn.Sequential(nn.Conv2d(8, 1, 3, padding=1), nn.Sigmoid())

    def forward(self, latent: Tensor) -> Tensor:
        return self.image(self.grow(self.seed(latent)))


class LetterReader(nn.Module):
    def __init__(self, width: int = 128, reads: int = 6) -> None:
        super().__init__()
        self.reads = reads
        self.start = Start(width)
        move = nn.Sequential(nn.Linear(width, 2), nn.Tanh())
        self.scan = Look(Sensor(8, 12, 1, width), nn.GRUCell(width, width), move)
        self.read = Look(Sensor(8, 8, 1, width), self.scan.think, self.scan.move)
        self.latent = nn.Linear(width, width)
        self.reproduction = Decoder(width)
        self.logits = nn.Linear(width, 26)

    def forward(self, image: Tensor) -> Tensor:
        """`image` [B, 1, 32, 32]: the logits of its letter, [B, 26]."""
        hidden, at = self.start(image)
        hidden, at = self.scan(image, hidden, at)
        for _ in range(self.reads):
            hidden, at = self.read(image, hidden, at)
        return self.logits(self.latent(hidden))


class LetterTraining(LetterReader):
    """The same reader, which also gives what its losses need."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        hidden, at = self.start(image)
        hidden, at = self.scan(image, hidden, at)
        found, looked = at, []
        for _ in range(self.reads):
            hidden, at = self.read(image, hidden, at)
            looked.append(at)
        latent = self.latent(hidden)
        return {
            "logits": self.logits(latent),
            "reproduction": self.reproduction(latent),
            "scan.at": found.unsqueeze(1),
            "read.at": torch.stack(looked, 1),
        }


class WordReader(nn.Module):
    """Finds the letters of a word and their number; a frozen letter reader reads each of them."""

    scale: Tensor

    def __init__(self, width: int = 128, looks: int = 3, places: int = 4) -> None:
        super().__init__()
        self.looks, self.places = looks, places
        self.blur = nn.AvgPool2d(3, stride=1, padding=1)
        self.start = Start(width)
        move = nn.Sequential(nn.Linear(width, 2), nn.Tanh())
        self.scan = Look(WideSensor(8, 48, 2, width), nn.GRUCell(width, width), move)
        self.length = nn.Linear(width, 4)
        self.where = nn.Sequential(nn.Linear(width, 2 * places), nn.Tanh())
        self.register_buffer("scale", torch.tensor([1.0, 0.3]), persistent=False)
        self.views = View([32, 32])
        self.letter = LetterReader()
        self.letter.requires_grad_(False)

    def train(self, mode: bool = True) -> WordReader:
        super().train(mode)
        self.letter.eval()
        return self

    def locate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """`image` [B, 1, 32, 96]: the places of its letters [B, places, 2] and the logits of their number [B, 4]."""
        blurred = self.blur(image)
        hidden, at = self.start(blurred)
        for _ in range(self.looks):
            hidden, at = self.scan(blurred, hidden, at)
        length = self.length(hidden)
        return self.where(hidden).view(-1, self.places, 2) * self.scale, length

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """`image` [B, 1, 32, 96]: the logits of each letter [B, places, 26] and of their number [B, 4]."""
        where, length = self.locate(image)
        views = self.views(where.flatten(0, 1), image.repeat_interleave(self.places, 0))
        letters = self.letter(views).view(-1, self.places, 26)
        return {"letters": letters, "length": length}


class WordTraining(WordReader):
    """The same reader, which gives what its losses need and reads no letter."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        where, length = self.locate(image)
        return {"length": length, "where": where}
