"""`flowconf weights`: files, folders and runs, listed from their headers."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import flowconf
from flowconf.cli.main import main
from flowconf.cli.weights import readable
from flowconf.graph.weights.listing import list_weights

GRAPH = {"flow": {"deep": {"graph": {"flow": {"out": "Linear(8, 8)"}}, "repeat": 11}}}
LISTED = """\
small.safetensors: 4 tensors, 58 numbers, 232 B
  label: small
  step: 12
  hash: {hash}
  format: flowconf 2

path      shape   type     numbers   size
-----------------------------------------
head                            18   72 B
  bias    [2]     float32        2    8 B
  weight  [2, 8]  float32       16   64 B
stem                            40  160 B
  bias    [8]     float32        8   32 B
  weight  [8, 4]  float32       32  128 B
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    graph = flowconf.build({"label": "small", "flow": {"stem": "Linear(4, 8)", "head": "Linear(8, 2)"}})
    graph.save("small.safetensors", metadata={"step": "12"})
    return graph


def test_a_file_is_listed_with_what_it_says_of_itself(small, capsys):
    from flowconf.graph.weights.structural_hash import structural_hash

    assert main(["weights", "small.safetensors"]) == 0
    out = capsys.readouterr().out
    expected = LISTED.format(hash=structural_hash(small.plan))
    head, table = out.split("\n\n")
    assert sorted(head.splitlines()) == sorted(expected.split("\n\n")[0].splitlines())
    assert table == expected.split("\n\n")[1]


@pytest.mark.usefixtures("small")
def test_only_what_stands_at_a_path(capsys):
    assert main(["weights", "small.safetensors", "--at", "head"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("small.safetensors: 2 tensors, 18 numbers, 72 B")
    assert "stem" not in out


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["small.safetensors", "--at", "hed"], "write `head`"),
        (["small.safetensors", "--at", "head.wight"], "unknown name `wight` in `head`"),
        (["nowhere.safetensors"], "the checkpoint `nowhere.safetensors` does not exist"),
        (["."], "cannot be read as weights"),
        (["broken.pt"], "cannot be read as weights"),
        (["model.onnx"], "is not a weights file"),
    ],
)
def test_mistakes_are_reported_in_words(arguments, words, tmp_path, capsys):
    (tmp_path / "best.safetensors").write_bytes(struct.pack("<Q", 10**12) + b"{}")
    (tmp_path / "broken.pt").write_bytes(b"no zip")
    (tmp_path / "model.onnx").write_bytes(b"")
    assert main(["weights", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "Traceback" not in err


def test_a_run_folder_means_its_best_weights(small, tmp_path, capsys):
    small.save(tmp_path / "run" / "checkpoints" / "best.safetensors")
    (tmp_path / "run" / "run.json").write_text("{}", encoding="utf-8")
    assert main(["weights", "run"]) == 0
    assert capsys.readouterr().out.startswith("run/checkpoints/best.safetensors: 4 tensors")


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_listed_through_weights_only(tmp_path, wrap, zipped):
    state = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)).half().state_dict()
    torch.save(wrap(state), tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    found = list_weights(tmp_path / "w.pt")
    assert [(entry.name, entry.shape, entry.dtype, entry.size) for entry in found.entries] == [
        (name, tuple(t.shape), str(t.dtype).removeprefix("torch."), t.nbytes) for name, t in state.items()
    ]


class Exploding:
    def __reduce__(self):
        return print, ("run",)


def test_a_pickle_with_code_in_it_is_refused(tmp_path, capsys):
    torch.save({"a": Exploding()}, tmp_path / "bad.pt")
    assert main(["weights", str(tmp_path / "bad.pt")]) == 2
    assert capsys.readouterr().out == ""


def test_a_text_that_is_called_a_pickle_is_refused_in_words(tmp_path, capsys):
    (tmp_path / "text.pt").write_text("hi\n")
    assert main(["weights", str(tmp_path / "text.pt")]) == 2
    assert "cannot be read as weights: it is not a file of `torch.save`" in capsys.readouterr().err


def test_one_tensor_is_one_tensor(tmp_path, capsys):
    torch.save({"a": torch.zeros(3)}, tmp_path / "one.pt")
    assert main(["weights", str(tmp_path / "one.pt")]) == 0
    assert ": 1 tensor, 3 numbers" in capsys.readouterr().out


def test_every_type_has_its_name_and_size(tmp_path):
    types = [torch.float64, torch.bfloat16, torch.int8, torch.uint8, torch.bool, torch.int64, torch.float8_e4m3fn]
    tensors = {str(dtype).removeprefix("torch."): torch.zeros(3, dtype=dtype) for dtype in types}
    save_file(tensors, tmp_path / "types.safetensors")
    for entry in list_weights(tmp_path / "types.safetensors").entries:
        assert entry.dtype == entry.name
        assert entry.size == tensors[entry.name].nbytes


def test_only_the_header_is_read(tmp_path):
    """A sparse file of two gigabytes is listed at once, and in little memory."""
    header = {"big": {"dtype": "F32", "shape": [2**29], "data_offsets": [0, 2**31]}}
    text = json.dumps(header).encode()
    with (tmp_path / "big.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + 2**31)
    (entry,) = list_weights(tmp_path / "big.safetensors").entries
    assert (entry.size, entry.numbers) == (2**31, 2**29)


def test_the_state_of_a_run_stands_apart(tmp_path, capsys):
    save_file({"a.weight": torch.zeros(2), "@random/torch": torch.zeros(1000)}, tmp_path / "run.safetensors")
    assert main(["weights", str(tmp_path / "run.safetensors")]) == 0
    out = capsys.readouterr().out
    assert "1 tensor, 2 numbers, 8 B" in out
    assert "training state: 1 tensor, 4.0 kB" in out


def test_copies_stand_in_the_order_of_their_numbers(tmp_path, capsys):
    flowconf.build(GRAPH).save(tmp_path / "deep.safetensors")
    assert main(["weights", str(tmp_path / "deep.safetensors"), "--at", "deep"]) == 0
    rows = [line.split()[0] for line in capsys.readouterr().out.split("\n\n")[1].splitlines()[2:]]
    assert [row for row in rows if row.isdecimal()] == [str(number) for number in range(11)]


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB")]
)
def test_sizes_are_readable(size, text):
    assert readable(size) == text
