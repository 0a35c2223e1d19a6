"""SIGTERM ends work as Ctrl-C does."""

import os
import signal
import threading
import time

import pytest

from nanocv_cli.interrupts import Terminated, raising, watch_interrupts


def later(number: int) -> threading.Timer:
    timer = threading.Timer(0.2, os.kill, (os.getpid(), number))
    timer.start()
    return timer


def test_sigterm_lets_cleanup_run_and_the_handler_goes() -> None:
    cleaned = False
    with pytest.raises(Terminated), raising():
        timer = later(signal.SIGTERM)
        try:
            time.sleep(60)
        finally:
            cleaned = True
            timer.join()
    assert cleaned
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_what_answers_sigterm_in_its_own_way_goes_on_doing_so() -> None:
    with raising(), watch_interrupts() as requests:
        os.kill(os.getpid(), signal.SIGTERM)
        assert requests.wanted
    with pytest.raises(Terminated), raising():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
