"""Reading files and dicts as they are."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from flowconf.report import ConfigError
from flowconf.text.documents import from_data, read


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("missing.yaml", None, "FC0001", "there is no file"),
        ("binary.yaml", b"a: \x00\x01\x02", "FC0001", "binary"),
        ("latin.yaml", "a: 1\nb: \u00e9".encode("latin-1"), "FC0001", "byte 0xe9"),
        ("wide.yaml", "a: 1".encode("utf-16"), "FC0001", "UTF-16"),
        ("large.yaml", b"#" * 4_000_001, "FC0001", "4,000,001 bytes"),
        ("text.json", b"{}", "FC0001", "neither a YAML nor a TOML file"),
    ],
)
def test_what_cannot_be_read_is_refused(
    tmp_path: Path, name: str, content: bytes | None, code: str, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        read(tmp_path / name)
    assert [one.code for one in caught.value.diagnostics] == [code]
    assert caught.value.diagnostics[0].place.file == str(tmp_path / name)


def test_the_place_of_a_wrong_byte_is_reported(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes("a: 1\nbé: ".encode() + b"\xff")
    with pytest.raises(ConfigError) as caught:
        read(tmp_path / "x.yaml")
    place = caught.value.diagnostics[0].place
    assert (place.line, place.column) == (2, 5)


def test_a_folder_or_a_pipe_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    for name, words in (
        ("folder.yaml", "a folder"),
        ("pipe.yaml", "not a regular file"),
        ("a\0b.yaml", "NUL character"),
    ):
        with pytest.raises(ConfigError, match=words):
            read(tmp_path / name)


def test_a_folder_of_configs_and_one_of_runs_say_what_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("configs/b.yaml", "configs/a.yaml", "runs/a/1/run.json"):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()
    expected = {
        "configs": "write the file of a config, such as `configs/a.yaml`",
        "runs/a": "a run is continued by `flowconf train --resume runs/a`",
        "runs/a/1": "a run is continued by `flowconf train --resume runs/a/1`",
        "runs": None,
    }
    for folder, advice in expected.items():
        with pytest.raises(ConfigError, match="is a folder") as raised:
            read(folder)
        assert raised.value.diagnostics[0].help == advice


@pytest.mark.parametrize("written", ["configs/digts.yaml", "configs/digits.yml", "cnfigs/digits.yaml", "digits"])
def test_a_missing_file_is_suggested_its_neighbour(written: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/digits.yaml").write_text("a: 1")
    with pytest.raises(ConfigError) as caught:
        read(written)
    assert caught.value.diagnostics[0].help == "write `configs/digits.yaml`"


def test_a_byte_order_mark_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    document = read(tmp_path / "x.yaml")
    assert document.data == {"a": 1}
    assert document.origins.key(("a",)).column == 1


def test_places_hold_the_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yml").write_text("a: 1")
    assert read("x.yml").origins.value(("a",)).file == str(tmp_path / "x.yml")


def test_a_dict_keeps_objects_and_names_its_origin() -> None:
    module = object()
    document = from_data({"flow": {"a": module, 1: (2, 3)}}, origin="notebook")
    assert document.data == {"flow": {"a": module, "1": [2, 3]}}
    assert document.data["flow"]["a"] is module
    assert str(document.origins.value(("flow", "a"))) == "notebook"


def test_a_dict_that_has_no_end_is_refused() -> None:
    data: dict[str, Any] = {"a": {}}
    data["a"]["b"] = data
    with pytest.raises(ConfigError) as caught:
        from_data(data)
    assert caught.value.diagnostics[0].code == "FC0005"
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(ConfigError) as caught:
        from_data({"a": deep})
    assert caught.value.diagnostics[0].code == "FC0006"


def test_documents_travel_between_processes() -> None:
    document = read("x.yaml", "a: {b: 1}")
    again = pickle.loads(pickle.dumps(document))
    assert again.data == document.data
    assert again.origins.value(("a", "b")) == document.origins.value(("a", "b"))
