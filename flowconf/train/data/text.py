"""The data set `text`: windows of the characters or bytes of a text, or of token shards."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from flowconf.language.value_types import Positive, Share
from flowconf.train.data.collate import Batch, Field
from flowconf.train.data.declarations import Declared, matching, provides
from flowconf.train.data.reading import AS_UTF8, reading, refused
from flowconf.train.data.splits import Splits, classes_in

__all__ = ["text"]


def _token_fields(
    length: int, tokens: str, vocabulary: str | None, fitted: Mapping[str, Any] | None, **others: object
) -> Declared:
    classes = {"characters": len(_characters(vocabulary, fitted) or ""), "bytes": 256}.get(tokens)
    return dict.fromkeys(("tokens", "target"), ((length,), torch.int64, *([classes] if classes else [])))


def _of_file(
    path: str,
    needed: Collection[str],
    /,
    length: int,
    tokens: str,
    vocabulary: str | None,
    stride: int | None,
    fitted: Mapping[str, Any] | None,
    **others: object,
) -> Windows:
    """The windows of another text, whose characters are numbered as in that of the run."""
    streams, _ = _streams(path, tokens, _characters(vocabulary, fitted))
    found = Windows(streams, length, stride or length)
    if not len(found):
        raise refused(f"`{path}` has no window of {length} + 1 tokens", path)
    return found


@provides("tokens", "target", shapes=_token_fields, paths=("file",), rows=_of_file, cacheable=True)
def text(
    *,
    file: str,
    length: Positive,
    tokens: Literal["characters", "bytes", "shards"] = "characters",
    vocabulary: str | None = None,
    stride: Positive | None = None,
    validation: Share = 0.1,
    test: Share = 0.0,
    fitted: Mapping[str, Any] | None = None,
) -> Splits:
    """Windows of `length` tokens, and as `target` the same tokens shifted by one: int64 [length] each.

    `tokens` is `characters` (of the text in `file`, numbered by their position in `vocabulary`, by default the sorted
    characters of the text, which are kept with the run), `bytes` (of the file), or `shards`: `file` is then a pattern
    such as `data/*.npy` of one-dimensional arrays of token ids, which are memory-mapped. A window starts every `stride`
    tokens (null: `length`). Validation and test are taken from the end of the text, and no window before them reaches
    into them.
    """
    streams, known = _streams(file, tokens, _characters(vocabulary, fitted))
    windows = Windows(streams, length, stride or length)
    if not 0 <= validation + test < 1:
        message = f"the shares must sum to less than 1, got {validation} for validation and {test} for test"
        raise refused(message, file)
    rows = len(windows)
    held, tested = int(rows * validation), int(rows * test)
    overlapping = -(-length // windows.stride) - 1
    held_end = rows - tested - (overlapping if tested else 0)
    train = held_end - held - (overlapping if held else 0)
    if train < 1:
        message = f"`{file}` has {rows} windows of {length} + 1 tokens, too few to train on"
        raise refused(message, file, "write a smaller `length` or `stride`, or use more text")
    return Splits(
        windows.part(0, train),
        windows.part(held_end - held, held_end) if held else None,
        windows.part(rows - tested, rows) if tested else None,
        {field: {"categories": list(known)} for field in ("tokens", "target")} if known else None,
    )


def _characters(vocabulary: str | None, fitted: Mapping[str, Any] | None) -> str | None:
    """The characters by their numbers, as the config or the run says."""
    known = classes_in(fitted).get("tokens")
    return vocabulary if vocabulary is not None or known is None else "".join(known)


def _streams(file: str, tokens: str, vocabulary: str | None) -> tuple[list[Any], str]:
    """The token streams of a file, or of files, and the characters that they number. Raises `ConfigError`."""
    known = ""
    if tokens == "shards":
        streams = [_mapped(shard) for shard in matching(file)]
    else:
        numbers, known = _tokens(file, tokens, vocabulary)
        streams = [numbers]
    if not streams:
        raise refused(f"no file matches `{file}`", file)
    return streams, known


class Windows:
    """Windows of long token streams, gathered batch by batch."""

    def __init__(
        self, streams: Sequence[Any], length: int, stride: int, start: int = 0, end: int | None = None
    ) -> None:
        self.streams, self.length, self.stride = list(streams), length, stride
        counts = [max(0, (len(tokens) - 1 - length) // stride + 1) for tokens in self.streams]
        self.ends = torch.tensor(counts).cumsum(0)
        self.start, self.end = start, int(self.ends[-1]) if end is None else end
        self.fields: Mapping[str, Field] = dict.fromkeys(("tokens", "target"), ((length,), torch.int64))

    def __len__(self) -> int:
        return self.end - self.start

    def part(self, start: int, end: int) -> Windows:
        return Windows(self.streams, self.length, self.stride, start, end)

    def batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        import numpy

        found = []
        for row in (rows + self.start).tolist():
            number = int(torch.searchsorted(self.ends, row, right=True))
            at = (row - (int(self.ends[number - 1]) if number else 0)) * self.stride
            found.append(self.streams[number][at : at + self.length + 1])
        windows = torch.from_numpy(numpy.stack(found).astype("int64"))
        return {"tokens": windows[:, :-1].contiguous(), "target": windows[:, 1:].contiguous()}


def _tokens(file: str, kind: str, vocabulary: str | None) -> tuple[Any, str]:
    """The numbers of the characters or bytes of a file, and those characters in order. Raises `ConfigError`."""
    import numpy

    with reading(file, as_text=f"{AS_UTF8}, or write `tokens: bytes`"):
        data = Path(file).read_bytes()
        if kind == "bytes":
            return numpy.frombuffer(data, "u1"), ""
        points = numpy.frombuffer(data.decode().encode("utf-32-le"), "<u4")
    known, numbers = numpy.unique(points, return_inverse=True)
    if vocabulary is None:
        return numbers, "".join(map(chr, known.tolist()))
    order = {ord(character): number for number, character in enumerate(vocabulary)}
    strange = [chr(point) for point in known.tolist() if point not in order]
    if strange:
        shown = ", ".join(f"`{character!r}`" for character in strange[:5])
        raise refused(f"{len(strange)} characters of `{file}` are not in the vocabulary: {shown}", file)
    return numpy.array([order[point] for point in known.tolist()])[numbers], vocabulary


def _mapped(file: Path) -> Any:
    import numpy

    try:
        found = numpy.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as problem:
        raise refused(f"cannot read `{file}`: {problem}", str(file)) from None
    if found.ndim != 1 or found.dtype.kind not in "ui":
        raise refused(f"`{file}` must be a one-dimensional integer array, got {found.dtype} {found.shape}", str(file))
    return found
