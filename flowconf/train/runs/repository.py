"""The state of the git repository around a config, read without running any program that the repository configures.

A repository's config can name programs: monitors, filters, hooks, pagers, remotes. Any git command that reads a file
may start a filter for it: `git status`, `git diff`, and `git diff-files` for a file that is as new as the index. So git
is only used to read the commit and the index, with the monitor, the hooks and every protocol disabled, and files are
compared with the index here.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowconf.report import printable

SECONDS = 20
SAFE = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "protocol.allow": "never",
    "safe.bareRepository": "explicit",
}
"""Settings that override those of the repository."""
ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}
STAGED = ("diff-index", "--cached", "--name-only", "-z", "--no-renames", "--no-ext-diff", "--ignore-submodules=dirty")
ENTRY = re.compile(
    r"(?P<mode>\d+) (?P<known>[0-9a-f]+) (?P<stage>\d)\t(?P<name>[^\0]*)\0"
    r"  ctime: .*\n  mtime: (?P<seconds>\d+):(?P<nanoseconds>\d+)\n.*\n.*\n"
    r"  size: (?P<size>\d+)\tflags: (?P<flags>[0-9a-f]+)\n"
)
"""One file of the index, as printed by `git ls-files --stage --debug -z`."""
LINK, SUBMODULE = "120000", "160000"
NOT_LOOKED_AT = 0x8000 | 0x40000000
"""The flags of files that are ignored by `git update-index --assume-unchanged` and sparse checkouts."""
LARGEST = 1 << 28
"""Maximum size in bytes of a file that is hashed; a larger one counts as changed if its size or time differs."""


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit, branch and changed files of the repository around `folder`; None outside of one.

    Files are compared as bytes: a file that differs from the commit only by a filter or by line endings counts as
    changed if its size or time differs. `changed` is None if it cannot be determined.
    """
    try:
        top = _ask(folder, "rev-parse", "--show-toplevel")
        if top is None:
            return None
        commit = _ask(folder, "rev-parse", "--quiet", "--verify", "HEAD")
        branch = _ask(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
        root = Path(top.removesuffix("\n"))
        staged = _ask(root, *STAGED, "HEAD") if commit else _ask(root, "ls-files", "-z")
        index = _ask(root, "ls-files", "--stage", "--debug", "-z")
        files = None if index is None else _entries(index)
        changed = None
        if staged is not None and files is not None:
            changed = [*staged.split("\0"), *_changed(root, files)]
            changed = [printable(name) for name in dict.fromkeys(changed) if name]
    except (OSError, subprocess.SubprocessError):
        return None
    return {
        "commit": commit.strip() if commit else "(initial)",
        "branch": printable(branch.strip()) if branch else "(detached)",
        "changed": changed,
    }


def _ask(folder: Path, *words: str) -> str | None:
    """The output of git; None if it fails."""
    settings = [word for name, value in SAFE.items() for word in ("-c", f"{name}={value}")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", *settings, "-C", str(folder), *words],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=SECONDS,
        env=kept | ENVIRONMENT,
        check=False,
    )
    return os.fsdecode(done.stdout) if done.returncode == 0 else None


@dataclass(frozen=True)
class _Entry:
    """One file of the index: its content hash, and the size and time of the file when it was added."""

    name: str
    mode: str
    known: str
    stage: int
    size: int
    time: int
    flags: int

    @classmethod
    def of(cls, found: re.Match[str]) -> _Entry:
        time = int(found["seconds"]) * 10**9 + int(found["nanoseconds"])
        size, flags = int(found["size"]), int(found["flags"], 16)
        return cls(found["name"], found["mode"], found["known"], int(found["stage"]), size, time, flags)

    def is_held_by(self, file: Path, written: int) -> bool:
        """Whether a file is identical to its index entry; `written` is the time of the index, in ns."""
        if self.flags & NOT_LOOKED_AT:
            return True
        if self.stage != 0:
            return False
        if self.mode == SUBMODULE:
            return not (file / ".git").exists() or (_ask(file, "rev-parse", "HEAD") or "").strip() == self.known
        try:
            now = file.lstat()
            if stat.S_ISLNK(now.st_mode) != (self.mode == LINK):
                return False
            is_untouched = (now.st_size & 0xFFFFFFFF, now.st_mtime_ns) == (self.size, self.time)
            # A file that is as new as the index may have changed after it was added.
            return (is_untouched and now.st_mtime_ns < written) or self._is_content(_content(file, now))
        except OSError:
            return False

    def _is_content(self, content: bytes | None) -> bool:
        if content is None:
            return False
        digest = hashlib.new("sha1" if len(self.known) == 40 else "sha256", usedforsecurity=False)
        digest.update(b"blob %d\0" % len(content) + content)
        return digest.hexdigest() == self.known


def _content(file: Path, now: os.stat_result) -> bytes | None:
    """The content that git would store without filters; None if too large, or neither a file nor a link."""
    if stat.S_ISLNK(now.st_mode):
        return os.fsencode(file.readlink())
    return file.read_bytes() if stat.S_ISREG(now.st_mode) and now.st_size <= LARGEST else None


def _entries(index: str) -> list[_Entry] | None:
    """The files of the index; None if the output of git has an unknown format."""
    found = [_Entry.of(match) for match in ENTRY.finditer(index)]
    return found if len(found) == index.count("\0") else None


def _changed(root: Path, files: list[_Entry]) -> Iterator[str]:
    """The names of the files that differ from the index."""
    where = _ask(root, "rev-parse", "--git-path", "index")
    written = (root / where.removesuffix("\n")).stat().st_mtime_ns if where and files else 0
    yield from (entry.name for entry in files if not entry.is_held_by(root / entry.name, written))
