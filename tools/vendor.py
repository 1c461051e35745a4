"""Renews the JavaScript libraries of the page: `python tools/vendor.py [FILE=VERSION]...`; needs npm.

`flowconf/draw/page/vendor/vendored.json` names each file, its package and version, and its SHA-256 digest. The files
are those of the package, unchanged, with its licence beside them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
from hashlib import sha256
from pathlib import Path

VENDOR = Path(__file__).parent.parent / "flowconf" / "draw" / "page" / "vendor"
LIST = VENDOR / "vendored.json"


def renew(versions: dict[str, str]) -> None:
    """Fetch every file again, those in `versions` in another version, and write the list."""
    listed = json.loads(LIST.read_text(encoding="utf-8"))
    for name, entry in listed.items():
        entry["version"] = versions.get(name, entry["version"])
        with tempfile.TemporaryDirectory() as folder:
            package = f"{entry['package']}@{entry['version']}"
            subprocess.run(["npm", "pack", "--silent", package, "--pack-destination", folder], check=True)
            [archive] = Path(folder).glob("*.tgz")
            with tarfile.open(archive) as files:
                content = _content(files, entry["path"])
                (VENDOR / name).write_bytes(content)
                licence = VENDOR / f"{name.partition('.')[0]}.LICENSE.txt"
                licence.write_bytes(_content(files, "LICENSE"))
        entry["sha256"] = sha256(content).hexdigest()
    LIST.write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")


def _content(files: tarfile.TarFile, path: str) -> bytes:
    file = files.extractfile(f"package/{path}")
    assert file is not None, path
    return file.read()


if __name__ == "__main__":
    renew(dict(word.split("=", 1) for word in sys.argv[1:]))
