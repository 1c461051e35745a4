"""The environment that a run records: machine and packages that can affect its results.

Importing this module does not import torch.
"""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("flowconf", "torch", "numpy", "pydantic", "hydra-core", "safetensors", "torchmetrics")


def environment() -> dict[str, Any]:
    """The machine and packages that can affect the results of a run."""
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


def installed(package: str) -> str | None:
    """The installed version of a package, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
