"""``python -m talking_heads``: the same as the command ``talking-heads``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
