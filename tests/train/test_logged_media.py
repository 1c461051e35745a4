"""The images, histograms and texts of a log, as a report shows them."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest

from flowconf.train.runs import logged_media as module
from flowconf.train.runs.logged_media import LoggedMedia

PNG = b"\x89PNG\r\n\x1a\n and more"
ELSEWHERE = [
    "../secret/1.png", "images/../1.png", "images/a/../../1.png", "/etc/1.png", "images/1.png", "images/./1.png",
    "images/a\n/1.png", "images/a/1.png/", 3, None, ["images/a/1.png"],
]  # fmt: skip


def taken(*lines):
    media = LoggedMedia()
    for step, line in enumerate(lines, 1):
        media.take({"step": step, **line}, step)
    return media


def write(folder, file: str, content: bytes = PNG):
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def image(file: object):
    return {"images": {"a/b": {"file": file, "height": 1, "width": 1}}}


def test_the_newest_image_of_a_name_is_shown(tmp_path):
    write(tmp_path, "images/a/b/1.png", PNG + b"1")
    write(tmp_path, "images/a/b/2.png", PNG + b"2")
    media = taken(image("images/a/b/1.png"), image("images/a/b/2.png"), {"train/loss": 1.0})
    assert media.change == 2
    [shown] = media.as_data(tmp_path)["images"]
    assert (shown["name"], shown["step"], b64decode(shown["png"])) == ("a/b", 2, PNG + b"2")


@pytest.mark.parametrize("file", ELSEWHERE)
def test_a_file_elsewhere_is_no_image(file, tmp_path):
    write(tmp_path, "1.png")
    write(tmp_path, "images/1.png")
    assert taken(image(file)).as_data(tmp_path)["images"] == []


def test_what_is_no_image_is_only_named(tmp_path, monkeypatch):
    secret = tmp_path / "secret"
    write(secret, "1.png")
    run = tmp_path / "run"
    write(run, "images/text/1.png", b"text")
    write(run, "images/large/1.png", PNG * 1000)
    (run / "images/file").mkdir()
    (run / "images/file/1.png").symlink_to(secret / "1.png")
    (run / "images/folder").symlink_to(secret)
    monkeypatch.setattr(module, "LARGEST", 1000)
    for name in ("text", "large", "file", "folder", "missing"):
        [shown] = taken(image(f"images/{name}/1.png")).as_data(run)["images"]
        assert (shown["png"], shown["file"]) == ("", f"images/{name}/1.png")


def test_all_images_of_a_run_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ALL_IMAGES", 2 * len(PNG))
    lines = []
    for number in range(3):
        write(tmp_path, f"images/a/{number}.png")
        lines.append({"images": {f"a{number}": {"file": f"images/a/{number}.png"}}})
    assert [bool(one["png"]) for one in taken(*lines).as_data(tmp_path)["images"]] == [True, True, False]


def test_histograms_of_the_whole_run_are_kept(tmp_path):
    lines = [{"histograms": {"code": {"edges": [0, 0.5, step], "counts": [step, 1]}}} for step in range(1, 500)]
    steps = taken(*lines).as_data(tmp_path)["histograms"]["code"]
    assert len(steps) <= module.MOST_STEPS
    assert steps[-1] == {"step": 499, "edges": [0, 499], "counts": [499, 1]}
    assert steps[0]["step"] < 100
    assert [one["step"] for one in steps] == sorted(one["step"] for one in steps)


def test_the_last_texts_are_kept(tmp_path):
    texts = taken(*[{"texts": {"note": f"step {step}"}} for step in range(1, 9)]).as_data(tmp_path)["texts"]
    assert texts["note"][-1] == {"step": 8, "text": "step 8"}
    assert len(texts["note"]) == module.MOST_TEXTS


@pytest.mark.parametrize(
    "line",
    [
        {"images": [1], "histograms": "x", "texts": 3},
        {"images": {"a": 1}, "histograms": {"a": 1}, "texts": {"a": 1}},
        {"histograms": {"a": {"edges": [0, 1], "counts": [1, 2]}}},
        {"histograms": {"a": {"edges": [0, float("nan")], "counts": [1]}}},
        {"histograms": {"a": {"edges": [0, 10**400], "counts": [1]}}},
        {"histograms": {"a": {"edges": [], "counts": []}}},
        {"histograms": {"a": {"edges": list(range(10_001)), "counts": [1] * 10_000}}},
    ],
)
def test_what_flowconf_does_not_write_is_passed_over(line, tmp_path):
    found = taken(line).as_data(tmp_path)
    assert not any(found.values())
    json.dumps(found, allow_nan=False)


def test_names_are_bounded(tmp_path):
    found = taken({"texts": {str(number): "" for number in range(1000)}}).as_data(tmp_path)
    assert len(found["texts"]) == module.MOST_NAMES
