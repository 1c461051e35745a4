"""The machine, the packages and the git state that a run records, as far as they can change a result.

Importing this module imports no torch.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("flowconf", "torch", "numpy", "pydantic", "hydra-core", "safetensors", "torchmetrics")


def environment() -> dict[str, Any]:
    """The machine and the packages, as far as they can change a result."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if cuda else None,
        "devices": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if cuda else [],
        "packages": {name: found for name in PACKAGES if (found := installed(name))} | {"torch": torch.__version__},
        "command": sys.argv,
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit, branch and the files that differ from it in the repository around `folder`; None outside of one."""
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "status", "--porcelain=v2", "--branch", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = found.stdout.splitlines()
    heads = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# "))
    changed = [line.split(" ", 8)[-1] for line in lines if not line.startswith("#")]
    return {"commit": heads.get("branch.oid"), "branch": heads.get("branch.head"), "changed": changed}


def installed(package: str) -> str | None:
    """The installed version of a package, None where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
