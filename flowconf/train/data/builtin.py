"""Built-in data sets that need no download."""

from __future__ import annotations

import importlib.util
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flowconf.graph.weights.listing import list_weights
from flowconf.language.value_types import Count, Factor, Positive, Share
from flowconf.report import Diagnostic, MachineError
from flowconf.train.data.collate import tensor_of
from flowconf.train.data.declarations import Declared, provides
from flowconf.train.data.reading import refuse_missing, refused
from flowconf.train.data.splits import Resident, Source, Splits, shares_of
from flowconf.train.seeds import seed_for

__all__ = ["arrays", "digits", "synthetic"]


def _digit_fields(flat: bool, **others: object) -> Declared:
    return {"image": ((64,) if flat else (1, 8, 8), torch.float32), "label": ((), torch.int64, 10)}


@provides("image", "label", shapes=_digit_fields)
def digits(*, flat: bool = True, validation: Share = 0.15, test: Share = 0.15, split_seed: Count = 0) -> Splits:
    """The 1,797 handwritten digits of scikit-learn, 8 x 8 pixels in [0, 1].

    Fields: `image` [64], or [1, 8, 8] without `flat`, and `label` (0 to 9). `validation` and `test` are shares of the
    rows; the assignment depends only on `split_seed`, so runs with different seeds can be compared.
    """
    rows = np.loadtxt(_digits_file(), delimiter=",", dtype=np.float32)
    image = torch.from_numpy(rows[:, :-1]).div(16)
    tensors = {"image": image if flat else image.view(-1, 1, 8, 8), "label": torch.from_numpy(rows[:, -1]).long()}
    return _split(tensors, validation, test, split_seed)


def _digits_file() -> Path:
    """The file in scikit-learn, found without importing it, which would take most of the time of a short run."""
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        message = "the data set `digits` requires scikit-learn"
        raise MachineError(Diagnostic("FC0601", message, advice="run `pip install 'flowconf[digits]'`"))
    return Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"


def _cloud_fields(shape: Sequence[int], classes: int, **others: object) -> Declared:
    return {"image": (tuple(shape), torch.float32), "label": ((), torch.int64, classes)}


@provides("image", "label", shapes=_cloud_fields)
def synthetic(
    *,
    rows: Positive = 4096,
    shape: Sequence[Positive] = (32,),
    classes: Positive = 10,
    spread: Factor = 1.0,
    validation: Share = 0.1,
    test: Share = 0.1,
    seed: int = 0,
) -> Splits:
    """Gaussian clusters around one random centre per class, for benchmarks and first steps.

    Fields: `image` of the given `shape` and `label`. `spread` is the standard deviation of the clusters; that of the
    centres is 1.
    """
    generator = torch.Generator().manual_seed(seed_for(seed, "synthetic"))
    centres = torch.randn(classes, *shape, generator=generator)
    label = torch.randint(classes, (rows,), generator=generator)
    image = centres[label] + spread * torch.randn(rows, *shape, generator=generator)
    return _split({"image": image, "label": label}, validation, test, seed)


def _array_fields(train: str, **others: object) -> Declared:
    """The fields of a file, from the headers of its arrays."""
    heads = _heads(train)
    if Path(train).suffix == ".safetensors":
        heads = ((found.name, found.shape, getattr(torch, found.dtype)) for found in list_weights(train).entries)
    return {
        name: (shape[1:], torch.float32 if dtype.is_floating_point else dtype) for name, shape, dtype in heads if shape
    }


def _heads(file: str) -> Iterator[tuple[str, tuple[int, ...], torch.dtype]]:
    """The name, shape and dtype of each array of an `.npz` file."""
    import numpy
    from numpy.lib import format as npy

    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            with archive.open(name) as opened:
                read = npy.read_array_header_1_0 if npy.read_magic(opened) == (1, 0) else npy.read_array_header_2_0
                shape, _, dtype = read(opened)
                yield name.removesuffix(".npy"), shape, torch.from_numpy(numpy.zeros(0, dtype)).dtype


@provides(shapes=_array_fields, paths=("train", "validation", "test"), cacheable=True)
def arrays(
    *, train: str, validation: str | Share | None = None, test: str | Share | None = None, split_seed: Count = 0
) -> Splits:
    """Named arrays from `.npz` or `.safetensors` files, whose first dimension is the rows; each array is a field.

    `validation` and `test` are separate files, or shares of the rows of `train`. Paths are relative to the current
    folder. Floating-point arrays are converted to float32; pickled ones are rejected.
    """
    tensors = read_rows(train)
    shares = [part if isinstance(part, float | int) else 0.0 for part in (validation, test)]
    splits = _split(tensors, shares[0], shares[1], split_seed, train)
    return Splits(
        splits.train,
        _whole(validation) if isinstance(validation, str) else splits.validation,
        _whole(test) if isinstance(test, str) else splits.test,
    )


ARRAYS = "an `.npz` or `.safetensors` file"


def read_arrays(file: str) -> dict[str, Tensor]:
    """Named arrays from a file; floating-point ones are converted to float32. Raises `ConfigError`."""
    if not has_arrays(file):
        raise refused(f"expected {ARRAYS}, got `{file}`", file)
    read = _READERS[Path(file).suffix]
    refuse_missing(file)
    tensors = read(file)
    if not tensors:
        raise refused(f"`{file}` contains no arrays", file)
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def has_arrays(file: str) -> bool:
    """Whether a file is one of arrays, by its suffix."""
    return Path(file).suffix in _READERS


def read_rows(file: str) -> dict[str, Tensor]:
    """The same for arrays that all have the same number of rows. Raises `ConfigError`."""
    tensors = read_arrays(file)
    rows = {name: len(tensor) if tensor.ndim else None for name, tensor in tensors.items()}
    if None in rows.values() or len(set(rows.values())) > 1:
        counts = ", ".join(f"`{name}` {'none' if count is None else count}" for name, count in rows.items())
        raise refused(f"the arrays of `{file}` must have the same number of rows, got {counts}", file)
    if 0 in rows.values():
        raise refused(f"the arrays of `{file}` have no rows", file)
    return tensors


def _read_npz(file: str) -> dict[str, Tensor]:
    import numpy

    Path(file).open("rb").close()  # an unreadable file would be reported as damaged
    if not zipfile.is_zipfile(file):
        raise refused(f"`{file}` is damaged or not an `.npz` file", file)
    tensors = {}
    try:
        with numpy.load(file, allow_pickle=False) as archive:
            for name in archive.files:
                try:
                    tensors[name] = tensor_of(archive[name])
                except TypeError:
                    raise refused(f"the array `{name}` of `{file}` is not numeric", file) from None
                except ValueError:  # an object array, which would have to be unpickled and could run code
                    advice = "save it as a numeric array"
                    raise refused(f"the array `{name}` of `{file}` is pickled or damaged", file, advice) from None
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as problem:
        raise refused(f"`{file}` is damaged: {problem}", file) from None
    return tensors


def _read_safetensors(file: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as problem:
        raise refused(f"`{file}` is damaged or not a `.safetensors` file: {problem}", file) from None


def _whole(file: str) -> Resident:
    """All rows of a file."""
    tensors = read_rows(file)
    return Resident(tensors, source=Source(file, torch.arange(len(next(iter(tensors.values()))))))


def _split(tensors: Mapping[str, Tensor], validation: float, test: float, seed: int, file: str | None = None) -> Splits:
    held, tested, rest = shares_of(len(next(iter(tensors.values()))), [validation, test], seed)

    def part(rows: Tensor) -> Resident | None:
        source = None if file is None else Source(file, rows)
        return Resident({name: tensor[rows] for name, tensor in tensors.items()}, source=source) if len(rows) else None

    train = part(rest)
    assert train is not None
    return Splits(train, part(held), part(tested))


_READERS = {".npz": _read_npz, ".safetensors": _read_safetensors}
