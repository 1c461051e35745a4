"""`python -m flowconf`."""

from __future__ import annotations

import sys

from flowconf.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
