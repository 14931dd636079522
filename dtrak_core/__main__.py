"""`python -m dtrak_core`: the command line."""

import sys

from dtrak_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
