from __future__ import annotations

import os
import signal
import threading

import pytest

from semikit.training.trainer import stop_requests


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_and_nothing_else(number: signal.Signals) -> None:
    former = signal.getsignal(number)
    with stop_requests() as request:
        assert not request.asked
        os.kill(os.getpid(), number)
        assert request.asked
    assert signal.getsignal(number) is former


def test_a_second_interrupt_stops_at_once() -> None:
    with stop_requests():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_come_back_after_an_error() -> None:
    former = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="x"), stop_requests():
        raise ValueError("x")
    assert signal.getsignal(signal.SIGTERM) is former


def test_in_another_thread_signals_are_left_alone() -> None:
    seen = []

    def work() -> None:
        with stop_requests() as request:
            seen.append(request.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
