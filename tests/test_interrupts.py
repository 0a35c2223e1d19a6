"""SIGTERM ends work as Ctrl-C does, and reaches the processes that were started for it."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from nanocv_cli.interrupts import Terminated, raising, watch_interrupts
from nanocv_cli.training.distributed import _watch


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


def test_sigterm_is_handed_on_to_a_team() -> None:
    # As in training: one that is asked once ends orderly.
    script = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *a: sys.exit(130))\n"
    script += "print(flush=True)\ntime.sleep(600)"
    members = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(2)]
    for member in members:
        assert member.stdout
        member.stdout.readline()
    with raising():
        timer = later(signal.SIGTERM)
        assert _watch(members) == 0
        timer.join()
    assert [member.returncode for member in members] == [130, 130]
    for member in members:
        assert member.stdout
        member.stdout.close()
