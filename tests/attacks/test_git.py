"""A repository that names programs in its own config: asking for its state starts none of them."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from flowconf.train.runs.repository import git_state

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
ENVIRONMENT = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


@pytest.fixture
def git(tmp_path):
    def run(*words, folder=tmp_path / "repo"):
        folder.mkdir(exist_ok=True)
        who = ["-c", "user.name=me", "-c", "user.email=me@here"]
        call = ["git", *who, "-C", str(folder), *words]
        return subprocess.run(call, check=True, capture_output=True, text=True, env=ENVIRONMENT).stdout

    return run


@pytest.fixture
def repository(git, tmp_path):
    """One commit; a file that changed, one that was only touched, one that is new, and a submodule with a change."""
    folder = tmp_path / "repo"
    git("init", "-q", "-b", "main")
    for name in ("changed.yaml", "touched.yaml", "same.yaml"):
        (folder / name).write_text(f"{name}: 1\n")
    (folder / "link").symlink_to("same.yaml")
    (folder / ".gitattributes").write_text("*.yaml filter=evil diff=evil merge=evil\n")
    git("init", "-q", folder=folder / "sub")
    git("commit", "-q", "--allow-empty", "-m", "below", folder=folder / "sub")
    git("add", "-A")
    git("commit", "-q", "-m", "first")
    (folder / "changed.yaml").write_text("changed: 2\n")
    os.utime(folder / "touched.yaml", (1, 1))
    (folder / "new.yaml").write_text("new: 1\n")
    git("-c", "filter.evil.clean=cat", "add", "new.yaml")
    return folder


def test_its_state_is_reported(repository, git):
    commit = git("rev-parse", "HEAD").strip()
    assert git_state(repository) == {"commit": commit, "branch": "main", "changed": ["new.yaml", "changed.yaml"]}
    assert git_state(repository / "sub")["changed"] == []


def test_a_repository_without_a_commit(git, tmp_path):
    git("init", "-q", "-b", "main")
    (tmp_path / "repo" / "a\x1b[2J.yaml").write_text("a: 1\n")
    git("add", "-A")
    assert git_state(tmp_path / "repo") == {"commit": "(initial)", "branch": "main", "changed": [r"a\x1b[2J.yaml"]}


def test_a_folder_that_only_looks_like_a_repository_is_none(git, tmp_path):
    git("init", "-q", "--bare", folder=tmp_path / "repo")
    assert git_state(tmp_path / "repo") is None
    assert git_state(tmp_path) is None


PROGRAMS = [
    "core.fsmonitor", "core.pager", "pager.status", "core.sshCommand", "core.gitProxy", "core.editor", "core.askPass",
    "filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "diff.external", "diff.evil.command",
    "diff.evil.textconv", "merge.evil.driver", "credential.helper", "gpg.program", "sequence.editor",
    "remote.evil.uploadpack", "uploadpack.packObjectsHook", "core.alternateRefsCommand", "trailer.x.command",
]  # fmt: skip
HOOKS = ("fsmonitor-watchman", "post-index-change", "reference-transaction", "post-checkout", "pre-auto-gc")


@pytest.mark.parametrize("included", [False, True], ids=["named by the config", "named by an included file"])
def test_nothing_that_it_names_is_run(repository, git, tmp_path, included):
    ran = tmp_path / "ran"
    for key in PROGRAMS:
        where = ["--file", str(repository / "more.cfg")] if included else []
        git("config", *where, key, f"echo {key} >> {ran}; false")
    git("config", "filter.evil.required", "true")
    git("config", "alias.status", f"!touch {ran}")
    git("config", "alias.rev-parse", f"!touch {ran}")
    git("config", "extensions.partialClone", "evil")
    git("config", "remote.evil.promisor", "true")
    git("config", "remote.evil.url", f"ext::sh -c touch% {ran}")
    git("config", "core.fsmonitor", f"touch {ran}; false", folder=repository / "sub")
    hooks = repository / "hooks"
    hooks.mkdir()
    for name in HOOKS:
        for folder in (hooks, repository / ".git" / "hooks"):
            (folder / name).write_text(f"#!/bin/sh\ntouch {ran}\n")
            (folder / name).chmod(0o755)
    git("config", "core.hooksPath", str(hooks))
    if included:
        with (repository / ".git" / "config").open("a") as config:
            config.write("[include]\n\tpath = ../more.cfg\n")
    assert git_state(repository)["changed"] == ["new.yaml", "changed.yaml"]
    tree = next((repository / ".git" / "objects").glob("??/*"))
    for entry in tree.parent.parent.glob("??/*"):  # every object would have to be fetched
        entry.unlink()
    git_state(repository)
    assert not ran.exists(), ran.read_text()
