"""Decodes image files with Pillow, and examines them without decoding them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from flowconf.report import ConfigError, Diagnostic, Label, Place, why_not
from flowconf.train.data.collate import scaled
from flowconf.train.data.reading import refused, required

if TYPE_CHECKING:
    import numpy
    from PIL import Image

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""The formats that Pillow may read, whatever the suffix: for others it starts programs, such as Ghostscript."""
TURNED = (5, 6, 7, 8)
"""EXIF orientations that exchange the height and the width."""
EXAMINED = 100_000
"""Files that are examined before training, if they are not all decoded: evenly spaced ones of more files."""
THREADS = 4
NAMED = 5
"""Files that a message names."""
AGAIN = "remove it, or save it again"

Decoded = TypeVar("Decoded")


class Flaw(Exception):
    """Why a file cannot be decoded, in words that follow its name."""


@dataclass(frozen=True)
class Decoder:
    """Decodes image files."""

    channels: int
    size: tuple[int, int] | None
    """The height and width to which images are resized."""

    def __call__(self, file: Path) -> Tensor:
        """Bytes [channels, H, W], or floats in [0, 1] for a 16-bit image. Raises `Flaw`."""
        return self.with_size(file)[0]

    def with_size(self, file: Path) -> tuple[Tensor, tuple[int, int]]:
        """The same, and the height and width that the image has in the file. Raises `Flaw`."""
        import numpy

        pillow = _pillow()
        with _readable(file), pillow.open(file, formats=FORMATS) as opened:
            picture = _flattened(_upright(opened), self.channels)
            width, height = picture.size
            if self.size is not None and picture.size != self.size[::-1]:
                picture = picture.resize(self.size[::-1], pillow.Resampling.BILINEAR)
            found: numpy.ndarray[Any, Any] = numpy.array(picture)
        decoded = torch.from_numpy(found).view(*found.shape[:2], -1).permute(2, 0, 1)
        return decoded.expand(self.channels, -1, -1), (height, width)


@dataclass(frozen=True)
class MaskDecoder:
    """Decodes image files whose pixels are classes."""

    size: tuple[int, int]
    """The height and width to which masks are resized, by the nearest pixel."""

    def __call__(self, file: Path) -> Tensor:
        """The value of each pixel: int64 [H, W]. Raises `Flaw`."""
        import numpy

        pillow = _pillow()
        with _readable(file), pillow.open(file, formats=FORMATS) as opened:
            picture = _upright(opened)
            if picture.mode not in ("1", "L", "P") and not picture.mode.startswith("I"):
                raise Flaw(f"must have one class for each pixel, and is an image with the mode {picture.mode}")
            if picture.size != self.size[::-1]:
                picture = picture.resize(self.size[::-1], pillow.Resampling.NEAREST)
            found: numpy.ndarray[Any, Any] = numpy.array(picture)
        return torch.from_numpy(found.astype("int64"))


def decoded(decode: Callable[[Path], Decoded], file: Path) -> Decoded:
    """The result of `decode` for a file. Raises `ConfigError` if it cannot be decoded."""
    try:
        return decode(file)
    except Flaw as flaw:
        raise refused(f"`{file}` {flaw}", str(file), AGAIN) from None


def examined(files: Sequence[Path]) -> dict[Path, tuple[int, ...] | str]:
    """The results of `examine` for files, or for evenly spaced ones of many."""
    chosen = files[:: -(-len(files) // EXAMINED)] if files else files
    with ThreadPoolExecutor(THREADS) as threads:
        return dict(zip(chosen, threads.map(examine, chosen, chunksize=64), strict=True))


def refuse_flaws(results: Mapping[Path, tuple[int, ...] | str], count: int, root: Path) -> None:
    """Raise `ConfigError` for files that are no images, of what was found out about `count` files."""
    flaws = [(file, why) for file, why in results.items() if isinstance(why, str)]
    if len(flaws) == 1:
        file, why = flaws[0]
        raise refused(f"`{file}` {why}", str(file), AGAIN)
    if flaws:
        labels = [Label(f"`{file}` {why}", Place()) for file, why in flaws[:NAMED]]
        labels += [Label(f"and {len(flaws) - NAMED:,} more", Place())] if len(flaws) > NAMED else []
        message = f"{len(flaws):,} of {count:,} images cannot be read"
        advice = "remove them, or save them again"
        raise ConfigError(Diagnostic("FC0501", message, Place(str(root)), "data", tuple(labels), advice=advice))


def examine(file: Path) -> tuple[int, ...] | str:
    """The height and width that the header of an image file says, or why it is no image.

    A file without the bytes that end its format is decoded, which decides.
    """
    try:
        with _readable(file), _pillow().open(file, formats=FORMATS) as opened:
            width, height = opened.size
            is_turned = (opened.format != "PNG" or "exif" in opened.info) and opened.getexif().get(0x112) in TURNED
            if not _has_end(file, opened.format or ""):
                opened.load()
    except Flaw as flaw:
        return str(flaw)
    return (width, height) if is_turned else (height, width)


def _has_end(file: Path, form: str) -> bool:
    """Whether a file has the bytes with which its format ends; false for formats that have none."""
    marks = {"PNG": b"IEND", "JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "GIF": b";"}
    length = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(12)
        stream.seek(max(0, length - 64))
        tail = stream.read()
    if form == "WEBP":
        return int.from_bytes(head[4:8], "little") + 8 <= length
    return form in marks and marks[form] in tail


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """A block that reads an image file, whose exceptions become a `Flaw`."""
    from PIL import UnidentifiedImageError

    if file.exists() and not file.is_file():
        raise Flaw("is not a regular file")
    try:
        yield
    except Flaw:
        raise
    except UnidentifiedImageError:
        raise Flaw("is empty" if not file.stat().st_size else "is not an image") from None
    except Exception as problem:  # noqa: BLE001 - a damaged file may raise anything
        if isinstance(problem, OSError) and problem.errno is not None:
            raise Flaw(f"cannot be read: {why_not(problem)}") from None
        words = str(problem)
        is_short = "truncated" in words.lower() or isinstance(problem, EOFError)
        raise Flaw("is truncated" if is_short else f"cannot be read: {words[:1].lower()}{words[1:]}") from None


def _pillow() -> Any:
    """The module `PIL.Image`. Raises `MachineError` if Pillow is missing."""
    return required("PIL.Image", "the data set `images` requires Pillow", "images")


def _upright(picture: Image.Image) -> Image.Image:
    """An image, turned as its EXIF orientation says."""
    from PIL import ImageOps

    return ImageOps.exif_transpose(picture)


def _flattened(picture: Image.Image, channels: int) -> Image.Image:
    """An image without transparency and with `channels` channels; a 16-bit image has a single channel in [0, 1]."""
    import numpy
    from PIL import Image

    if picture.mode.startswith("I"):
        return Image.fromarray(numpy.asarray(picture).astype(numpy.float32) / 65535)
    mode = "L" if channels == 1 else "RGB"
    if not picture.has_transparency_data:
        return picture if picture.mode == "F" else picture.convert(mode)
    drawn = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert(mode)


def stacked(found: Sequence[Tensor]) -> Tensor:
    """Images of the same size as one tensor: bytes, or floats in [0, 1] if any of them is floating-point."""
    deep = any(picture.is_floating_point() for picture in found)
    return torch.stack([scaled(picture) for picture in found] if deep else list(found))
