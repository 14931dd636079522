"""The program: `dtrak`, and `python -m dtrak_core`."""

import os
import signal
import sys

from dtrak_core.commands.cli import main
from dtrak_core.jobs import processes


def run() -> int:
    """Run the command line; return the exit status."""
    os.environ |= processes.short_waits()  # before torch is loaded: `demo` computes in this process
    # Started in the background of a script, Ctrl-C is ignored: here it only ends the following, the job goes on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return main()


if __name__ == "__main__":
    sys.exit(run())
