"""`semikit` and `python -m semikit`."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from semikit.cli.app import run

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is half written is removed then, as after Ctrl-C
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
