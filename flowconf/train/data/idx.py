"""The data set `idx`: MNIST and the data sets in its format."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from flowconf.language.value_types import Count, Share
from flowconf.train.data.collate import Field
from flowconf.train.data.declarations import Declared, provides
from flowconf.train.data.reading import refuse_missing, refused
from flowconf.train.data.splits import Resident, Source, Splits, shares_of

__all__ = ["idx"]

IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def _idx_fields(folder: str, flat: bool, **others: object) -> Declared:
    """The fields, from the header of the training images."""
    file = _idx_file(Path(folder), "train-images-idx3")
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
        head = opened.read(16)
    if len(head) < 16:
        return {}
    _, *size = struct.unpack(">3I", head[4:])
    return {"image": ((math.prod(size),) if flat else (1, *size), torch.float32), "label": ((), torch.int64)}


def _images_of_file(file: str, needed: Collection[str], /, flat: bool, **others: object) -> Resident:
    """The images of one idx file, without labels."""
    refuse_missing(file)
    image = _read_idx(Path(file))
    return pictures({"image": image}, flat)


@provides("image", "label", shapes=_idx_fields, paths=("folder",), rows=_images_of_file, cacheable=True)
def idx(*, folder: str, flat: bool = False, validation: Share = 0.1, split_seed: Count = 0) -> Splits:
    """The four files of MNIST and its relatives (Fashion-MNIST, KMNIST, EMNIST), gzipped or not.

    Fields: `image` [1, H, W] in [0, 1], or [H * W] with `flat`, and `label`. `validation` is a share of the training
    rows; the `t10k` files are the test split.
    """
    train, test = (_idx_pair(Path(folder), part) for part in ("train", "t10k"))
    held, rest = shares_of(len(train["label"]), [validation], split_seed)
    return Splits(
        pictures({name: tensor[rest] for name, tensor in train.items()}, flat),
        pictures({name: tensor[held] for name, tensor in train.items()}, flat) if len(held) else None,
        pictures(test, flat),
    )


def _idx_pair(folder: Path, part: str) -> dict[str, Tensor]:
    image, label = (_read_idx(_idx_file(folder, f"{part}-{what}")) for what in ("images-idx3", "labels-idx1"))
    if len(image) != len(label):
        raise refused(
            f"the `{part}` files of `{folder}` have {len(image):,} images, but {len(label):,} labels", str(folder)
        )
    return {"image": image, "label": label.long()}


def _idx_file(folder: Path, stem: str) -> Path:
    for name in (f"{stem}-ubyte", f"{stem}-ubyte.gz", f"{stem.replace('-idx', '.idx')}-ubyte"):
        if (folder / name).is_file():
            return folder / name
    raise refused(f"`{folder}` has no file `{stem}-ubyte` or `{stem}-ubyte.gz`", str(folder))


def _read_idx(file: Path) -> Tensor:
    """An array in the idx format: two zero bytes, the dtype, the number of dimensions, their sizes, the data."""
    import numpy

    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as problem:
        raise refused(f"cannot read `{file}`: {problem}", str(file)) from None
    if len(data) < 4 or len(data) < 4 + 4 * data[3] or data[:2] != b"\0\0" or data[2] not in IDX_TYPES:
        raise refused(f"`{file}` is not an idx file", str(file))
    axes = data[3]
    shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
    numbers = numpy.frombuffer(data, IDX_TYPES[data[2]], offset=4 + 4 * axes)
    if numbers.size != int(numpy.prod(shape)):
        raise refused(
            f"`{file}` is damaged: its header has shape {list(shape)}, but {numbers.size:,} values follow", str(file)
        )
    return torch.from_numpy(numbers.reshape(shape).astype(numbers.dtype.newbyteorder("=")))


def pictures(tensors: Mapping[str, Tensor], flat: bool, source: Source | None = None) -> Resident:
    """Images that are kept as bytes in memory, beside their labels if they have some."""
    rows, *sizes = tensors["image"].shape
    shape = (tensors["image"][0].numel(),) if flat else tuple(sizes) if len(sizes) == 3 else (1, *sizes)
    known: dict[str, Field] = {"image": (shape, torch.float32), "label": ((), torch.int64)}
    stored = {**tensors, "image": tensors["image"].reshape(rows, *shape)}
    return Resident(stored, fields={name: known[name] for name in stored}, source=source)
