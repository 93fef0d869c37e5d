"""How much of a prediction the network works: `semikit predict` in this process, with a clock around the network.

python benchmarks/network_share.py RUN SOURCE [SOURCE_B] -o OUT [FLAGS ...]

From the first call of the network to the end of the command, with all files finished. `of the time` is what a user
sees on a machine that does nothing else. Where others compute too, `of its thread` says it by processor time: the rest
is what the thread that calls the network does beside it, and so what keeps the network waiting. `elsewhere` is the
work of all other threads, which goes on beside it while there is a core for it; what is done `after its end` finishes
the last file.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from semikit.cli.app import run
from semikit.inference.ensemble import Ensemble


class Clock:
    """Seconds in the network, of the clock and of the processor, and those of its thread."""

    def __init__(self) -> None:
        self.busy = self.computed = 0.0
        self.begun: tuple[float, float, float] | None = None
        self.left, self.ended, self.thread = 0.0, 0.0, 0

    def around(self, call: Any) -> Any:
        """The method of the ensemble, timed."""

        def timed(*arguments: Any) -> Any:
            if self.begun is None:
                self.begun, self.thread = self.now(), threading.get_ident()
            seconds, own = time.perf_counter(), time.thread_time()
            found = call(*arguments)
            self.busy += time.perf_counter() - seconds
            self.left, self.ended = time.thread_time(), time.process_time()
            self.computed += self.left - own
            return found

        return timed

    @staticmethod
    def now() -> tuple[float, float, float]:
        """Seconds: of the clock, of this thread, of the process."""
        return time.perf_counter(), time.thread_time(), time.process_time()


def main(arguments: list[str]) -> int:
    """Predict and print one line."""
    clock = Clock()
    Ensemble.mean = clock.around(Ensemble.mean)  # type: ignore[method-assign]
    code = run(["predict", *arguments])
    if code or clock.begun is None:
        return code or 1
    wall, own, process = clock.now()
    of_thread = (own if clock.thread == threading.get_ident() else clock.left) - clock.begun[1]
    elapsed, everything = wall - clock.begun[0], process - clock.begun[2]
    print(f"{elapsed:.1f} s, network {clock.busy:.1f} s: {clock.busy / elapsed:.0%} of the time")
    print(f"processor: network {clock.computed:.2f} s, {clock.computed / of_thread:.0%} of its thread; elsewhere "
          f"{everything - of_thread:.2f} s, after its end {process - clock.ended:.2f} s")  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
