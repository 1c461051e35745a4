"""Built-in data sets for common files: MNIST-like `idx` files, folders of images, text, and token shards.

Paths are relative to the current folder. Data that is small enough is kept in memory as bytes, and converted to float
in each batch.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from flowconf.language.value_types import Count, Positive, Share
from flowconf.report import Advice, ConfigError, Diagnostic, MachineError, Place, suggest
from flowconf.train.data.collate import Batch, Field
from flowconf.train.data.splits import Declared, Resident, Split, Splits, matching, provides, shares_of

if TYPE_CHECKING:
    import numpy
    from PIL import Image

__all__ = ["idx", "images", "text"]

IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
RESIDENT = 512 * 2**20
"""Maximum bytes of decoded images that are kept in memory."""
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""The names of the split folders of an image data set, case-insensitive."""


def _idx_fields(folder: str, flat: bool, **others: object) -> Declared:
    """The fields, from the header of the training images."""
    file = _idx_file(Path(folder), "train-images-idx3")
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
        head = opened.read(16)
    if len(head) < 16:
        return {}
    _, *size = struct.unpack(">3I", head[4:])
    return {"image": ((math.prod(size),) if flat else (1, *size), torch.float32), "label": ((), torch.int64)}


@provides("image", "label", shapes=_idx_fields, paths=("folder",))
def idx(*, folder: str, flat: bool = False, validation: Share = 0.1, split_seed: Count = 0) -> Splits:
    """The four files of MNIST and its relatives (Fashion-MNIST, KMNIST, EMNIST), gzipped or not.

    Fields: `image` [1, H, W] in [0, 1], or [H * W] with `flat`, and `label`. `validation` is a share of the training
    rows; the `t10k` files are the test split.
    """
    train, test = (_idx_pair(Path(folder), part) for part in ("train", "t10k"))
    held, rest = shares_of(len(train["label"]), [validation], split_seed)
    return Splits(
        _pictures({name: tensor[rest] for name, tensor in train.items()}, flat),
        _pictures({name: tensor[held] for name, tensor in train.items()}, flat) if len(held) else None,
        _pictures(test, flat),
    )


def _image_fields(folder: str, size: Sequence[int] | None, channels: int, **others: object) -> Declared:
    classes = len(_classes(Path(folder))[1])
    image = {"image": ((channels, *size), torch.float32)} if size else {}
    return {"label": ((), torch.int64, *([classes] if classes else [])), **image}


@provides("image", "label", shapes=_image_fields, paths=("folder",))
def images(
    *,
    folder: str,
    size: tuple[Positive, Positive] | None = None,
    channels: Literal[1, 3] = 3,
    validation: Share = 0.1,
    test: Share = 0.1,
    split_seed: Count = 0,
    resident: bool | None = None,
) -> Splits:
    """Images in one folder per class: `folder/CLASS/*.png`, or `folder/train/CLASS/*.png` with `val` and `test`.

    A validation folder may also be named `valid`, `validation` or `dev`; hidden files are skipped. Fields: `image`
    [channels, H, W] in [0, 1] and `label`, the index of the class in sorted order. EXIF rotation is applied,
    transparent images are composited on white, and 16-bit images keep their depth.
    `channels` is 1 or 3; `size` is [H, W], or null if all images have the same size. `validation` and `test` are shares
    of the rows if there are no such folders. With `resident`, all images are decoded once (null: if they take less
    than 512 MB); otherwise `data.workers` decode them batch by batch.
    """
    root = Path(folder)
    parts = _split_folders(root)
    base, classes = _classes(root)
    if not classes:
        raise _refused(
            f"`{base}` has no class folders", folder, "put the images of each class in a folder with its name"
        )
    found = {name: _listed(path, classes) for name, path in (parts or {"train": root}).items()}
    _refuse_empty(found, parts, base, classes)
    if "train" in parts:
        rows = found
    else:
        held, tested, rest = shares_of(len(found["train"]), [validation, test], split_seed)
        chosen = {"train": rest, "val": held, "test": tested}
        rows = {name: [found["train"][row] for row in which.tolist()] for name, which in chosen.items()}
    made = {name: _Images(some, size, channels) for name, some in rows.items() if some}
    splits: dict[str, Split] = {name: split.kept() if split.stays(resident) else split for name, split in made.items()}
    return Splits(splits["train"], splits.get("val"), splits.get("test"))


def _token_fields(length: int, tokens: str, vocabulary: str | None, **others: object) -> Declared:
    classes = {"characters": len(vocabulary or ""), "bytes": 256}.get(tokens)
    return dict.fromkeys(("tokens", "target"), ((length,), torch.int64, *([classes] if classes else [])))


@provides("tokens", "target", shapes=_token_fields, paths=("file",))
def text(
    *,
    file: str,
    length: Positive,
    tokens: Literal["characters", "bytes", "shards"] = "characters",
    vocabulary: str | None = None,
    stride: Positive | None = None,
    validation: Share = 0.1,
    test: Share = 0.0,
) -> Splits:
    """Windows of `length` tokens, and as `target` the same tokens shifted by one: int64 [length] each.

    `tokens` is `characters` (of the text in `file`, numbered by their position in `vocabulary`, by default the sorted
    characters of the text), `bytes` (of the file), or `shards`: `file` is then a pattern such as `data/*.npy` of
    one-dimensional arrays of token ids, which are memory-mapped. A window starts every `stride` tokens (null:
    `length`). Validation and test are taken from the end of the text.
    """
    if tokens == "shards":
        streams = [_mapped(shard) for shard in matching(file)]
    elif tokens in ("characters", "bytes"):
        streams = [_tokens(file, tokens, vocabulary)]
    else:
        raise _refused(f"unknown tokens `{tokens}`", file, suggest(tokens, ["characters", "bytes", "shards"], "tokens"))
    if not streams:
        raise _refused(f"no file matches `{file}`", file)
    windows = _Windows(streams, length, stride or length)
    if not 0 <= validation + test < 1:
        message = f"the shares must sum to less than 1, got {validation} for validation and {test} for test"
        raise _refused(message, file)
    rows = len(windows)
    held, tested = int(rows * validation), int(rows * test)
    train = rows - held - tested
    if train < 1:
        message = f"`{file}` has {rows} windows of {length} + 1 tokens, too few to train on"
        raise _refused(message, file, "write a smaller `length` or `stride`, or use more text")
    return Splits(
        windows.part(0, train),
        windows.part(train, train + held) if held else None,
        windows.part(train + held, rows) if tested else None,
    )


# idx


def _idx_pair(folder: Path, part: str) -> dict[str, Tensor]:
    image, label = (_read_idx(_idx_file(folder, f"{part}-{what}")) for what in ("images-idx3", "labels-idx1"))
    if len(image) != len(label):
        raise _refused(
            f"the `{part}` files of `{folder}` have {len(image):,} images, but {len(label):,} labels", str(folder)
        )
    return {"image": image, "label": label.long()}


def _idx_file(folder: Path, stem: str) -> Path:
    for name in (f"{stem}-ubyte", f"{stem}-ubyte.gz", f"{stem.replace('-idx', '.idx')}-ubyte"):
        if (folder / name).is_file():
            return folder / name
    raise _refused(f"`{folder}` has no file `{stem}-ubyte` or `{stem}-ubyte.gz`", str(folder))


def _read_idx(file: Path) -> Tensor:
    """An array in the idx format: two zero bytes, the dtype, the number of dimensions, their sizes, the data."""
    import numpy

    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as problem:
        raise _refused(f"cannot read `{file}`: {problem}", str(file)) from None
    if len(data) < 4 or len(data) < 4 + 4 * data[3] or data[:2] != b"\0\0" or data[2] not in IDX_TYPES:
        raise _refused(f"`{file}` is not an idx file", str(file))
    axes = data[3]
    shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
    numbers = numpy.frombuffer(data, IDX_TYPES[data[2]], offset=4 + 4 * axes)
    if numbers.size != int(numpy.prod(shape)):
        raise _refused(
            f"`{file}` is damaged: its header has shape {list(shape)}, but {numbers.size:,} values follow", str(file)
        )
    return torch.from_numpy(numbers.reshape(shape).astype(numbers.dtype.newbyteorder("=")))


def _pictures(tensors: Mapping[str, Tensor], flat: bool) -> Resident:
    """Images that are kept as bytes in memory, and converted to floats in [0, 1] in each batch."""
    rows, *sizes = tensors["image"].shape
    shape = (tensors["image"][0].numel(),) if flat else tuple(sizes) if len(sizes) == 3 else (1, *sizes)

    def scaled(batch: Batch, generator: torch.Generator) -> Batch:
        return {**batch, "image": _scaled(batch["image"])}

    stored = {"image": tensors["image"].reshape(rows, *shape), "label": tensors["label"]}
    return Resident(stored, scaled, {"image": (shape, torch.float32), "label": ((), torch.int64)})


# images


def _classes(root: Path) -> tuple[Path, list[str]]:
    """The folder of the training images, and its classes in the order of their numbers."""
    base = _split_folders(root).get("train", root)
    return base, sorted(inner.name for inner in _visible(base) if inner.is_dir()) if base.is_dir() else []


def _visible(folder: Path) -> list[Path]:
    """The entries of a folder that are not hidden, sorted by name."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _split_folders(root: Path) -> dict[str, Path]:
    """The folders of the splits, if one is for training. Raises `ConfigError` for two folders of the same split."""
    if not root.is_dir():
        return {}
    found: dict[str, Path] = {}
    others = []
    for folder in (entry for entry in _visible(root) if entry.is_dir()):
        split = next((name for name, names in SPLITS.items() if folder.name.lower() in names), None)
        if split is None:
            others.append(folder)
        elif split in found:
            message = f"duplicate split in `{root}`: `{found[split].name}` and `{folder.name}`"
            raise _refused(message, str(root), "merge them, or move one of them")
        else:
            found[split] = folder
    if found and "train" not in found and not others:
        there = " and ".join(f"`{folder.name}`" for folder in found.values())
        raise _refused(f"`{root}` has {there}, but no `train`", str(root), "put the training images in `train/CLASS/`")
    return found if "train" in found else {}


def _listed(folder: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    found = []
    for inner in _visible(folder):
        if inner.is_dir():
            if inner.name not in classes:
                raise _refused(f"the class `{inner.name}` of `{folder}` has no training images", str(folder))
            label = classes.index(inner.name)
            os.scandir(inner).close()  # an unreadable folder would seem to be empty
            found += [(file, label) for file in sorted(inner.rglob("*")) if _is_image(file.relative_to(inner))]
    return found


def _is_image(path: Path) -> bool:
    """Whether a file has the suffix of an image, and neither it nor a folder above it is hidden."""
    return path.suffix.lower() in IMAGES and not any(part.startswith(".") for part in path.parts)


def _refuse_empty(
    found: Mapping[str, Sequence[tuple[Path, int]]], parts: Mapping[str, Path], base: Path, classes: Sequence[str]
) -> None:
    """Raise `ConfigError` for a split without images, and for a class without training images."""
    advice = f"supported suffixes: {', '.join(f'`{ending}`' for ending in IMAGES)}"
    for name, files in found.items():
        if not files:
            where = str(parts.get(name, base))
            raise _refused(f"`{where}` has no images", where, advice)
    learned = {label for _, label in found.get("train", ())}
    for label, name in enumerate(classes):
        if "train" in found and label not in learned:
            raise _refused(f"the class `{name}` has no images in `{base}`", str(base / name), advice)


class _Images:
    """Image files that are decoded batch by batch."""

    def __init__(self, files: Sequence[tuple[Path, int]], size: Sequence[int] | None, channels: int) -> None:
        if channels not in (1, 3):
            raise ValueError(f"`channels` must be 1 or 3, got {channels}")
        self.files = list(files)
        self.channels = channels
        self.resizes = size is not None
        self.size: tuple[int, int] | None = (size[0], size[1]) if size is not None else None
        _, height, width = self._decode(self.files[0][0]).shape
        self.size = (height, width)
        self.fields: Mapping[str, Field] = {
            "image": ((channels, *self.size), torch.float32),
            "label": ((), torch.int64),
        }

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        pictures = _stacked([self._decode(self.files[row][0]) for row in rows.tolist()])
        labels = torch.tensor([self.files[row][1] for row in rows.tolist()])
        return {"image": _scaled(pictures), "label": labels}

    def stays(self, wanted: bool | None) -> bool:
        """Whether to decode all images at once."""
        assert self.size is not None
        return len(self) * self.channels * self.size[0] * self.size[1] <= RESIDENT if wanted is None else wanted

    def kept(self) -> Resident:
        """All images, decoded."""
        pictures = _stacked([self._decode(file) for file, _ in self.files])
        return _pictures({"image": pictures, "label": torch.tensor([label for _, label in self.files])}, flat=False)

    def _decode(self, file: Path) -> Tensor:
        """Bytes [channels, H, W], or floats in [0, 1] for a 16-bit image."""
        try:
            from PIL import Image, ImageOps, UnidentifiedImageError
        except ModuleNotFoundError:
            message = "the data set `images` requires Pillow"
            raise MachineError(Diagnostic("FC0601", message, advice="run `pip install 'flowconf[images]'`")) from None
        import numpy

        try:
            with Image.open(file) as opened:
                picture = _flattened(ImageOps.exif_transpose(opened), self.channels)
        except UnidentifiedImageError:
            raise _refused(f"`{file}` is not an image", str(file), "remove it, or save it again") from None
        except Exception as problem:  # noqa: BLE001 - a damaged file may raise anything
            raise _refused(f"cannot read the image `{file}`: {problem}", str(file)) from None
        width, height = picture.size
        if self.size is not None and (height, width) != self.size:
            if not self.resizes:
                message = f"`{file}` has size [{height}, {width}], but the first image has {list(self.size)}"
                raise _refused(message, str(file), "set `size`, as in `size: [64, 64]`")
            picture = picture.resize((self.size[1], self.size[0]), Image.Resampling.BILINEAR)
        found: numpy.ndarray[Any, Any] = numpy.array(picture)
        decoded = torch.from_numpy(found).view(*found.shape[:2], -1).permute(2, 0, 1)
        return decoded.expand(self.channels, -1, -1)


def _flattened(picture: Image.Image, channels: int) -> Image.Image:
    """An image without transparency and with `channels` channels; a 16-bit image has a single channel in [0, 1]."""
    import numpy
    from PIL import Image

    if picture.mode.startswith("I"):
        return Image.fromarray(numpy.asarray(picture).astype(numpy.float32) / 65535)
    mode = "L" if channels == 1 else "RGB"
    if not picture.has_transparency_data:
        return picture.convert(mode)
    drawn = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert(mode)


def _stacked(pictures: Sequence[Tensor]) -> Tensor:
    """Images of the same size as one tensor: bytes, or floats in [0, 1] if any of them is floating-point."""
    deep = any(picture.is_floating_point() for picture in pictures)
    return torch.stack([_scaled(picture) for picture in pictures] if deep else list(pictures))


def _scaled(pictures: Tensor) -> Tensor:
    """Images as floats in [0, 1]."""
    return pictures if pictures.is_floating_point() else pictures.float().div_(255)


# texts


class _Windows:
    """Windows of long token streams, gathered batch by batch."""

    def __init__(
        self, streams: Sequence[Any], length: int, stride: int, start: int = 0, end: int | None = None
    ) -> None:
        if length < 1 or stride < 1:
            raise ValueError(f"`length` and `stride` must be at least 1, got {length} and {stride}")
        self.streams, self.length, self.stride = list(streams), length, stride
        counts = [max(0, (len(tokens) - 1 - length) // stride + 1) for tokens in self.streams]
        self.ends = torch.tensor(counts).cumsum(0)
        self.start, self.end = start, int(self.ends[-1]) if end is None else end
        self.fields: Mapping[str, Field] = dict.fromkeys(("tokens", "target"), ((length,), torch.int64))

    def __len__(self) -> int:
        return self.end - self.start

    def part(self, start: int, end: int) -> _Windows:
        return _Windows(self.streams, self.length, self.stride, start, end)

    def batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        import numpy

        found = []
        for row in (rows + self.start).tolist():
            number = int(torch.searchsorted(self.ends, row, right=True))
            at = (row - (int(self.ends[number - 1]) if number else 0)) * self.stride
            found.append(self.streams[number][at : at + self.length + 1])
        windows = torch.from_numpy(numpy.stack(found).astype("int64"))
        return {"tokens": windows[:, :-1].contiguous(), "target": windows[:, 1:].contiguous()}


def _tokens(file: str, kind: str, vocabulary: str | None) -> Any:
    import numpy

    try:
        data = Path(file).read_bytes()
        if kind == "bytes":
            return numpy.frombuffer(data, "u1")
        points = numpy.frombuffer(data.decode().encode("utf-32-le"), "<u4")
    except (OSError, UnicodeDecodeError) as problem:
        if isinstance(problem, UnicodeDecodeError):
            advice = "save the file as UTF-8, or write `tokens: bytes`"
            raise _refused(f"`{file}` is not valid UTF-8 at byte {problem.start + 1:,}", file, advice) from None
        raise _refused(f"cannot read `{file}`: {problem.strerror}", file) from None
    known, numbers = numpy.unique(points, return_inverse=True)
    if vocabulary is None:
        return numbers
    order = {ord(character): number for number, character in enumerate(vocabulary)}
    strange = [chr(point) for point in known.tolist() if point not in order]
    if strange:
        shown = ", ".join(f"`{character!r}`" for character in strange[:5])
        raise _refused(f"{len(strange)} characters of `{file}` are not in the vocabulary: {shown}", file)
    return numpy.array([order[point] for point in known.tolist()])[numbers]


def _mapped(file: Path) -> Any:
    import numpy

    try:
        found = numpy.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as problem:
        raise _refused(f"cannot read `{file}`: {problem}", str(file)) from None
    if found.ndim != 1 or found.dtype.kind not in "ui":
        raise _refused(f"`{file}` must be a one-dimensional integer array, got {found.dtype} {found.shape}", str(file))
    return found


def _refused(message: str, file: str, advice: Advice | None = None) -> ConfigError:
    return ConfigError(Diagnostic("FC0501", message, Place(file), "data", advice=advice))
