"""`python -m flowconf`."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    if sys.path and Path(sys.path[0]) == Path.cwd() and not sys.flags.safe_path:
        del sys.path[0]  # `-m` puts the current folder there, whose files could be taken for packages

    from flowconf.cli.main import main

    sys.exit(main())
