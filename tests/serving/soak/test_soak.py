"""A soak of seconds: that it holds, and that its verdict would say so if it did not."""

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from nanocv_cli.errors import NanocvError
from tests.serving.soak import verdict
from tests.serving.soak.managing import catches
from tests.serving.soak.run import Plan, soak

SECONDS = 4


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> verdict.Soak:
    plan = Plan(SECONDS / 60, sample_seconds=0.5, phase_seconds=0.2, manage_seconds=0.1)
    return verdict.read(soak(plan, tmp_path_factory.mktemp("soak")))


@pytest.mark.slow(20)
def test_every_honest_answer_is_right_and_nothing_is_left(found: verdict.Soak, tmp_path: Path) -> None:
    assert verdict.faults(found) == []
    assert found.end["counts"]["right"] > 0
    assert found.end["counts"]["phases of abuse"] > 0
    assert any(line.startswith("right: ") for line in verdict.figures(found))
    assert verdict.draw(found, tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def line(rss: int, minute: float) -> dict[str, object]:
    held = {"rss": rss, "descriptors": 25, "threads": 12}
    return {**held, "seconds": 60 * minute, "share": 0.3, "p50_ms": None, "p99_ms": None, "counts": {"right": 5}}


WHOLE = verdict.Soak(
    {"minutes": 60.0, "revision": "1", "rss": 800, "descriptors": 20, "threads": 10},
    [line(900 if minute < 10 else 1000 if minute < 50 else 1040, minute) for minute in range(60)],
    {"descriptors": 20, "threads": 10, "counts": {"right": 5}, "failures": [], "log": []},
)


def test_a_soak_without_fault() -> None:
    """What grows while it warms up is no fault."""
    assert verdict.faults(WHOLE) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"samples": [line(1000 + 2 * minute, minute) for minute in range(60)]}, "memory grew by 7.7%"),
        ({"end": WHOLE.end | {"descriptors": 21}}, "21 descriptors after all had gone, 20 before they came"),
        ({"end": WHOLE.end | {"threads": 40}}, "40 threads after"),
        ({"end": WHOLE.end | {"counts": {"right": 5, "wrong": 1}, "failures": ["wrong: y"]}}, "1 wrong"),
        ({"end": WHOLE.end | {"counts": {"right": 5, "abuse failed": 2}}}, "2 abuse failed"),
        ({"end": WHOLE.end | {"counts": {}}}, "no honest client was answered"),
        ({"end": WHOLE.end | {"log": ["a request failed in the server: KeyError"]}}, "KeyError"),
        ({"end": {}}, "the soak was not ended"),
        ({"samples": []}, "growth of memory: too short to tell"),
        ({"samples": [line(1000, 1)]}, "growth of memory: too short to tell"),
    ],
)
def test_what_did_not_hold_is_said(changed: dict[str, object], words: str) -> None:
    faults = verdict.faults(dataclasses.replace(WHOLE, **changed))  # type: ignore[arg-type]
    assert any(words in fault for fault in faults), faults


def test_a_report_of_a_soak_that_has_just_begun(tmp_path: Path) -> None:
    """Neither samples nor latencies need be there yet."""
    for number in (0, 1, 2):
        begun = dataclasses.replace(WHOLE, samples=WHOLE.samples[1 : 1 + number], end={})
        figures = verdict.figures(begun)
        assert any(line.startswith("latency") and line.count("too short to tell") == 2 for line in figures)
        assert any(line.startswith("memory") and "too short to tell" in line for line in figures) == (number < 2)
        assert any("under load" in line for line in figures) == (number > 0)
    assert verdict.draw(dataclasses.replace(WHOLE, samples=[]), tmp_path / "curve.png").exists()


def test_a_report_of_what_has_counted_nothing(tmp_path: Path) -> None:
    file = tmp_path / "soak.jsonl"
    for words in ("is not there", "still warming up"):
        with pytest.raises(NanocvError, match=words):
            verdict.read(file)
        file.touch()


@pytest.mark.skipif(not psutil.LINUX, reason="only Linux tells which signals a process catches")
def test_who_catches_a_signal() -> None:
    program = "import signal; signal.signal(signal.SIGHUP, print); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert catches(process.pid, signal.SIGHUP)
        assert not catches(process.pid, signal.SIGUSR1)
        process.kill()
