"""`semikit` and `python -m semikit`."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress


def main() -> None:
    """Run the command line and exit with its code."""
    from semikit.cli.app import run

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is half written is removed then, as after Ctrl-C
    code = run(sys.argv[1:])
    while signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
        with suppress(KeyboardInterrupt):  # torchrun sends SIGTERM to processes that are ending already
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(code)


if __name__ == "__main__":
    main()
