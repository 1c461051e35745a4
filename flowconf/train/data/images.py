"""Folders of images, one for each class.

Every file is examined before training starts: its header, its end, and all of it where images are kept in memory.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from flowconf.language.value_types import Count, Positive, Share
from flowconf.report import ConfigError, Diagnostic, Label, Place, suggest
from flowconf.train.data.collate import Batch, Field, scaled
from flowconf.train.data.declarations import Declared, provides
from flowconf.train.data.decoding import Decoder, Flaw, decoded, examined, refuse_flaws, stacked
from flowconf.train.data.idx import pictures
from flowconf.train.data.reading import refused
from flowconf.train.data.splits import Source, Split, Splits, classes_in, shares_of

__all__ = ["images"]

SUFFIXES = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
RESIDENT = 512 * 2**20
"""Maximum bytes of decoded images that are kept in memory."""
FIRST = 8
"""Files of a split of which one has to be an image, to know the size of its images."""
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}
"""The names of the split folders of an image data set, case-insensitive."""
JUNK = ("__macosx", "@eadir", "$recycle.bin", "lost+found")
"""Folders that systems create, besides hidden ones, in lower case."""


def _image_fields(
    folder: str, size: Sequence[int] | None, channels: int, fitted: Mapping[str, Any] | None, **others: object
) -> Declared:
    classes = len(_classes(Path(folder), fitted)[1])
    image = {"image": ((channels, *size), torch.float32)} if size else {}
    return {"label": ((), torch.int64, *([classes] if classes else [])), **image}


def _of_file(
    file: str, needed: Collection[str], /, size: Sequence[int] | None, channels: int, **others: object
) -> Split:
    """The images in a folder, or a single one, without labels."""
    root = Path(file)
    files = (
        [root] if root.is_file() else [path for path in sorted(root.rglob("*")) if _is_image(path.relative_to(root))]
    )
    if not files:
        raise refused(f"`{file}` has no images" if root.is_dir() else f"there is no file or folder `{file}`", file)
    found = _made({"rows": [(path, 0) for path in files]}, size, channels, False, root)["rows"]
    assert isinstance(found, _Images)
    found.fields = {"image": found.fields["image"]}
    return found


@provides("image", "label", shapes=_image_fields, paths=("folder",), rows=_of_file, cacheable=True)
def images(
    *,
    folder: str,
    size: tuple[Positive, Positive] | None = None,
    channels: Literal[1, 3] = 3,
    validation: Share | None = None,
    test: Share | None = None,
    split_seed: Count = 0,
    resident: bool | None = None,
    fitted: Mapping[str, Any] | None = None,
) -> Splits:
    """Images in one folder per class: `folder/CLASS/*.png`, or `folder/train/CLASS/*.png` with `val` and `test`.

    A validation folder may also be named `valid`, `validation` or `dev`; hidden files are skipped. Fields: `image`
    [channels, H, W] in [0, 1] and `label`, the index of the class among the sorted ones of the training images, which
    are kept with the run. EXIF rotation is applied, transparent images are composited on white, and 16-bit images keep
    their depth.
    `channels` is 1 or 3; `size` is [H, W], or null if all images have the same size. `validation` and `test` are shares
    of the rows, or of those in the folder `train`, if there are no such folders: 0.1 each by default, and `test` 0 if
    there is a folder `train`. With `resident`, all images are decoded once (null: if they take less than 512 MB);
    otherwise `data.workers` decode them batch by batch.
    """
    root = Path(folder)
    parts = _split_folders(root)
    base, classes = _classes(root, fitted)
    if not base.is_dir() or not _folders_of(base):
        advice = "put the images of each class in a folder with its name"
        raise refused(f"`{base}` has no class folders", folder, advice)
    strange = next((name for name in classes if name.encode(errors="replace").decode() != name), None)
    if strange is not None:
        raise refused(f"the name of the folder `{base / strange}` is not valid UTF-8", folder, "rename it")
    found = {name: _listed(path, classes) for name, path in (parts or {"train": root}).items()}
    _refuse_empty(found, parts, base, classes if fitted is None else ())
    shares = _shares(parts, validation, test, folder)
    held, tested, rest = shares_of(len(found["train"]), shares, split_seed)
    chosen = {"train": rest, "val": held, "test": tested}
    taken = {name: [found["train"][row] for row in which.sort().values.tolist()] for name, which in chosen.items()}
    rows = {name: taken[name] or found.get(name, []) for name in taken}
    made = _made({name: files for name, files in rows.items() if files}, size, channels, resident, root)
    return Splits(made["train"], made.get("val"), made.get("test"), {"label": {"categories": classes}})


def _shares(parts: Mapping[str, Path], validation: float | None, test: float | None, folder: str) -> list[float]:
    """The shares of the training rows for validation and test. Raises `ConfigError` for one that has a folder too."""
    for name, key, share in (("val", "validation", validation), ("test", "test", test)):
        if name in parts and share:
            message = f"`{key}: {share:g}` takes rows from `{parts['train']}`, but there is a folder `{parts[name]}`"
            raise refused(message, folder, f"remove `{key}`, or the folder")
    return [
        0.0 if "val" in parts else 0.1 if validation is None else validation,
        0.0 if "test" in parts else test if test is not None else 0.0 if parts else 0.1,
    ]


Files = Sequence[tuple[Path, int]]
"""Image files, each with the number of its class."""


def _made(
    rows: Mapping[str, Files], size: Sequence[int] | None, channels: int, resident: bool | None, root: Path
) -> dict[str, Split]:
    """The splits. Raises `ConfigError` for files that cannot be decoded, and for different sizes."""
    decoder = Decoder(channels, None if size is None else (size[0], size[1]))
    found = {name: _Images(files, decoder) for name, files in rows.items()}
    first = next((shape for split in found.values() if (shape := split.first_shape()) is not None), None)
    kept = [split for split in found.values() if (split.fits(first) if resident is None else resident)]
    results: dict[Path, tuple[int, ...] | str] = {}
    for split in found.values():
        results |= split.decoded() if split in kept else examined([file for file, _ in split.files])
    refuse_flaws(results, sum(map(len, rows.values())), root)
    shapes = {file: result for file, result in results.items() if not isinstance(result, str)}
    shape = (channels, *(_same_size(shapes, decoder) if size is None else size))
    for split in found.values():
        split.fields = {"image": (shape, torch.float32), "label": ((), torch.int64)}
    return {name: split.kept() if split in kept else split for name, split in found.items()}


class _Images:
    """Image files that are decoded batch by batch, or kept in memory once they are decoded."""

    def __init__(self, files: Files, decoder: Decoder) -> None:
        self.files = list(files)
        self.decoder = decoder
        self.labels = torch.tensor([label for _, label in files])
        self.source = Source([str(file) for file, _ in files])
        self.fields: Mapping[str, Field] = {}
        self.pictures: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        wanted, found = self.fields["image"][0], []
        for row in rows.tolist():
            file, _ = self.files[row]
            found.append(decoded(self.decoder, file))
            if tuple(found[-1].shape) != wanted:
                message = f"`{file}` is {list(found[-1].shape[1:])}, but the first image is {list(wanted[1:])}"
                raise refused(message, str(file), _size_advice(wanted[1:]))
        return {"image": scaled(stacked(found)), "label": self.labels[rows]}

    def column(self, name: str) -> Tensor:
        """The labels of all rows, without decoding an image. Raises `ValueError` for the images."""
        if name != "label":
            raise ValueError(f"rows can be drawn by `label`, and not by `{name}`")
        return self.labels

    def first_shape(self) -> tuple[int, ...] | None:
        """The shape of the first image that can be decoded, among the first ones."""
        for file, _ in self.files[:FIRST]:
            with suppress(Flaw):
                return tuple(self.decoder(file).shape)
        return None

    def fits(self, shape: tuple[int, ...] | None) -> bool:
        """Whether all images fit into memory if each has this shape."""
        return shape is not None and len(self) * math.prod(shape) <= RESIDENT

    def decoded(self) -> dict[Path, tuple[int, ...] | str]:
        """Decode and keep every image: its height and width, or why it cannot be decoded."""
        found: dict[Path, tuple[int, ...] | str] = {}
        for file, _ in self.files:
            try:
                self.pictures.append(self.decoder(file))
                found[file] = tuple(self.pictures[-1].shape[1:])
            except Flaw as flaw:
                found[file] = str(flaw)
        return found

    def kept(self) -> Split:
        """The decoded images, in memory."""
        return pictures({"image": stacked(self.pictures), "label": self.labels}, flat=False, source=self.source)


def _same_size(shapes: Mapping[Path, tuple[int, ...]], decoder: Decoder) -> tuple[int, ...]:
    """The size of all images. Raises `ConfigError` for different ones; a header alone does not decide."""
    first = next(iter(shapes))
    size = tuple(decoder(first).shape[1:])
    others = [file for file, shape in shapes.items() if shape != size]
    for file in others:
        other = list(decoder(file).shape[1:])
        if other == list(size):
            continue
        message = f"`{file}` is {other}, but `{first}` is {list(size)}"
        more = f"{len(others):,} of {len(shapes):,} images have another size than the first"
        labels = (Label(more, Place()),) if len(others) > 1 else ()
        raise ConfigError(Diagnostic("FC0501", message, Place(str(file)), "data", labels, advice=_size_advice(size)))
    return size


def _size_advice(size: Sequence[int]) -> str:
    return f"write `size: [{size[0]}, {size[1]}]` in `data`, to which all images are resized"


# files


def _classes(root: Path, fitted: Mapping[str, Any] | None) -> tuple[Path, list[str]]:
    """The folder of the training images, and the classes in the order of their numbers: those of the run, if any."""
    base = _split_folders(root).get("train", root)
    there = [inner.name for inner in _folders_of(base)] if base.is_dir() else []
    return base, classes_in(fitted).get("label", there)


def _folders_of(folder: Path) -> list[Path]:
    """The folders of classes, sorted by name."""
    return [entry for entry in _visible(folder) if entry.is_dir()]


def _visible(folder: Path) -> list[Path]:
    """The entries of a folder that are neither hidden nor made by a system, sorted by name."""
    return sorted(entry for entry in folder.iterdir() if not _is_hidden(entry.name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in JUNK


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
            raise refused(message, str(root), "merge them, or move one of them")
        else:
            found[split] = folder
    if found and "train" not in found and not others:
        there = " and ".join(f"`{folder.name}`" for folder in found.values())
        raise refused(f"`{root}` has {there}, but no `train`", str(root), "put the training images in `train/CLASS/`")
    return found if "train" in found else {}


def _listed(folder: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    found = []
    for inner in _folders_of(folder):
        if inner.name not in classes:
            advice = suggest(inner.name, classes, "classes")
            raise refused(f"the class `{inner.name}` of `{folder}` has no training images", str(folder), advice)
        label = classes.index(inner.name)
        os.scandir(inner).close()  # an unreadable folder would seem to be empty
        found += [(file, label) for file in sorted(inner.rglob("*")) if _is_image(file.relative_to(inner))]
    return found


def _is_image(path: Path) -> bool:
    """Whether a file has the suffix of an image, and neither it nor a folder above it is hidden."""
    return path.suffix.lower() in SUFFIXES and not any(map(_is_hidden, path.parts))


def _refuse_empty(found: Mapping[str, Files], parts: Mapping[str, Path], base: Path, classes: Sequence[str]) -> None:
    """Raise `ConfigError` for a split without images, and for a class without training images."""
    advice = f"supported suffixes: {', '.join(f'`{ending}`' for ending in SUFFIXES)}"
    for name, files in found.items():
        if not files:
            where = str(parts.get(name, base))
            raise refused(f"`{where}` has no images", where, advice)
    learned = {label for _, label in found.get("train", ())}
    for label, name in enumerate(classes):
        if "train" in found and label not in learned:
            raise refused(f"the class `{name}` has no images in `{base}`", str(base / name), advice)
