"""The site: which pages it has, that they name everything, and that it builds without a warning."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import flowconf
from flowconf.language.catalogue import SHELVES
from flowconf.report import CODES

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs" / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", SHELVES)
def test_the_page_of_names_has_every_name_of_a_table(name, pages):
    section = re.search(rf"^## {name.capitalize()}\n(.*?)(?=^## |\Z)", pages.names(), re.MULTILINE | re.DOTALL)[1]
    assert sorted(re.findall(r"^`(\w+)\(", section, re.MULTILINE)) == sorted(set(SHELVES[name].table.names()))


def test_the_reference_has_every_public_name(pages):
    headings = re.findall(r"heading: flowconf\.(\w+)|^### flowconf\.(\w+)$", pages.api(), re.MULTILINE)
    assert sorted(a or b for a, b in headings) == sorted(flowconf.__all__)


def test_the_errors_are_all_listed(pages):
    assert re.findall(r"^\| \[(\w+)\]", pages.errors(), re.MULTILINE) == list(CODES)


def test_every_page_is_in_the_navigation(pages):
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    listed = re.findall(r"[\w/-]+\.md", str(navigation))
    assert sorted(listed) == sorted(name for name in pages.pages() if not name.startswith("errors/FC"))


def test_links_lead_to_pages(pages, tmp_path):
    pages.main(tmp_path / "site")
    for name, text in pages.pages().items():
        links = [
            link for _, link in pages.LINK.findall(re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
        ]
        dead = [link for link in links if not (tmp_path / "site" / name).parent.joinpath(link).exists()]
        assert dead == [], name


@pytest.mark.parametrize(
    ("head", "shown"),
    [
        ("```yaml part", "```yaml"),
        ("```yaml broken.yaml refused", '```yaml title="broken.yaml (refused)"'),
        ("```python blocks.py", '```python title="blocks.py"'),
        ("```console", "```console"),
    ],
)
def test_the_words_after_a_language_are_not_shown(head, shown, pages):
    assert pages.FENCE.sub(pages._titled, f"{head}\na\n```\n").startswith(f"{shown}\n")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs `make docs` once")
def test_the_site_builds_without_a_warning(pages, tmp_path):
    pages.main(tmp_path / "build" / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": path}
    call = [sys.executable, "-m", "mkdocs", "build"]
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    assert "Linear(in_features" in (tmp_path / "build" / "site" / "names.html").read_text(encoding="utf-8")
