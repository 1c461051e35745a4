"""What a path may mean that does not exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowconf.text.near_files import near_path

YAML = (".yaml", ".toml")


@pytest.mark.parametrize(
    ("written", "endings", "near"),
    [
        ("runs/studnt", (), "runs/student"),
        ("rnus/student/one", (), "runs/student/one"),
        ("rnus/student/two", (), None),  # `runs` has no such file
        ("configs/unet.yml", YAML, "configs/unet.yaml"),
        ("cnfigs/unet.yaml", YAML, "configs/unet.yaml"),
        ("configs/unet.txt", (), None),
        ("configs/other.yaml", YAML, None),
        ("runs/student", (), None),  # it exists
        ("runs/student/one/deeper", (), None),  # below a file
        ("nul\0", (), None),
    ],
)
def test_the_nearest_name_takes_the_place_of_the_first_that_does_not_exist(
    tmp_path: Path, written: str, endings: tuple[str, ...], near: str | None
) -> None:
    for name in ("runs/student/one", "configs/unet.yaml", "configs/notes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert near_path(written, tmp_path, endings) == near
    absolute = near_path(str(tmp_path / written), endings=endings)
    assert absolute == (str(tmp_path / near) if near is not None else None)
