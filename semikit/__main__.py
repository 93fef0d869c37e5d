"""`semikit` and `python -m semikit`."""

from __future__ import annotations

import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command line and exit with its code."""
    from semikit.cli.app import run

    def terminate(number: int, frame: FrameType | None) -> None:
        """What is half written is removed, as after Ctrl-C; a process that is ending already goes on ending."""
        while frame is not None and frame.f_code is not run.__code__:
            frame = frame.f_back
        if frame is not None:
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
