"""`--nproc`: a group of processes has one voice, and the exit status of the one that failed by itself."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nanocv_cli.errors import RequestError, TrainingError
from nanocv_cli.training import launch
from nanocv_cli.training.distributed import LAUNCHED, LOST_STATUS
from nanocv_cli.training.launch import run_group, to_blame


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A group's launcher is a process of its own: what it changes of that is put back here."""
    monkeypatch.setenv(LAUNCHED, "")
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    logging.disable(logging.NOTSET)
    for number, handler in former.items():
        signal.signal(number, handler)


def group(script: str, count: int = 2) -> int:
    """Runs a script in a group; it knows its `rank`."""
    return run_group([sys.executable, "-S", "-c", f"import os, sys\nrank = int(os.environ['RANK'])\n{script}"], count)


def test_each_process_knows_its_place_and_only_the_leader_is_heard(capfd: pytest.CaptureFixture[str]) -> None:
    assert group("print('out', rank, os.environ['WORLD_SIZE'])\nprint('err', rank, file=sys.stderr)", 3) == 0
    assert capfd.readouterr() == ("out 0 3\n", "err 0\n")


def test_who_failed_by_itself_is_heard_and_gives_the_status(capfd: pytest.CaptureFixture[str]) -> None:
    # As in training: the leader hears of it, says nothing of its own and ends.
    waits = "import signal, time\nsignal.signal(signal.SIGTERM, lambda *a: os._exit(130))\ntime.sleep(60)"
    fails = "print('document')\nprint('error: mine', file=sys.stderr)\nsys.exit(2)"
    indented = waits.replace("\n", "\n    ")
    assert group(f"if rank == 0:\n    {indented}\n{fails}") == 2
    assert capfd.readouterr() == ("document\n", "error: mine\n")


def test_a_killed_process_ends_the_group_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TrainingError, match="process 1 of 2 was ended by SIGKILL") as raised:
        group("import time\nif rank: os.kill(os.getpid(), 9)\ntime.sleep(36000)")
    assert "--resume" in raised.value.hint
    assert capfd.readouterr() == ("", "")


def test_a_request_to_stop_reaches_all_and_is_waited_for(tmp_path: Path) -> None:
    script = (
        "import signal, time\n"
        f"def stop(*a): time.sleep(0.3); open('{tmp_path}/saved' + str(rank), 'w'); sys.exit(130)\n"
        f"signal.signal(signal.SIGTERM, stop)\nopen('{tmp_path}/ready' + str(rank), 'w')\ntime.sleep(60)"
    )

    def stop_when_ready() -> None:
        while len(list(tmp_path.glob("ready*"))) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop_when_ready)
    thread.start()
    assert group(script) == 130
    thread.join()
    assert {path.name for path in tmp_path.glob("saved*")} == {"saved0", "saved1"}


@pytest.mark.parametrize(
    ("statuses", "rank"),
    [
        ({0: 1, 1: 1}, 0),
        ({0: 130, 1: 2}, 1),
        ({0: LOST_STATUS, 1: LOST_STATUS, 2: -9}, 2),
        ({0: -15, 1: 2}, 1),
        ({0: 130, 1: 130}, 0),
        ({0: 2, 1: -11}, 1),
    ],
)
def test_who_lost_another_or_was_ended_is_not_to_blame(statuses: dict[int, int], rank: int) -> None:
    assert to_blame(statuses) == rank


def test_more_processes_than_gpus_are_refused_and_more_than_processors_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    started: list[int] = []
    monkeypatch.setattr(launch, "run_group", lambda command, count: started.append(count) or 0)
    monkeypatch.setattr(launch, "usable_processors", lambda: 2)
    assert launch.launch(4, ["train"], "cpu") == 0
    assert "4 processes share 2 processors" in capfd.readouterr().err
    monkeypatch.setattr(launch, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(RequestError, match="asks for a cuda device each, and this machine has 2"):
        launch.launch(4, ["train"], "auto")
    assert started == [4]
