"""``python -m harmonium`` is the command ``harmonium``."""

import sys

from harmonium.cli import main

if __name__ == "__main__":
    sys.exit(main())
