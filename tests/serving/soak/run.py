"""One soak: a server, all who ask it, and a line about it every few seconds."""

import contextlib
import json
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil

from nanocv_cli.config.project import project_root
from nanocv_cli.serving.launch import started
from tests.serving.soak.abuse import ABUSE_ROUNDS, abuse
from tests.serving.soak.honest import WAYS, Tally, ask_on
from tests.serving.soak.keyed import KeyedServer, make_key
from tests.serving.soak.managing import MANAGING_ROUNDS, manage
from tests.serving.soak.pace import Pace
from tests.serving.soak.questions import Questions, write_repository
from tests.serving.soak.verdict import POOLED

# Much smaller than by default, with an equal share that suffices for every honest request.
BOUNDS = ("--max-message-mb", "1", "--max-json-mb", "1", "--max-in-flight-mb", "32")
ADJUST_SECONDS = 1.0
DEFECTS = ("failed in the server", "never retrieved")  # are in the log's lines about what should not be
WARM_UP_SECONDS = 0.05  # of one sort of abuse, and between two acts
SETTLED_SECONDS, SETTLE_SECONDS = 1.0, 120.0  # the server closes idle connections after 75


@dataclass(frozen=True)
class Plan:
    """How to soak.

    Attributes:
        minutes: how long.
        share: of one processor, for server and clients together; 0: all there is.
        seed: of what is asked, done and abused.
        shipped: references of exported graphs to serve beside the small ones.
        sample_seconds: between two lines about the server.
        phase_seconds: of one sort of abuse.
        manage_seconds: between two acts of who runs the server.
    """

    minutes: float
    share: float = 0.0
    seed: int = 1
    shipped: Sequence[str] = ()
    sample_seconds: float = 10.0
    phase_seconds: float = 10.0
    manage_seconds: float = 3.0


def soak(plan: Plan, folder: Path) -> Path:
    """Runs one; returns the file of its lines, as `verdict.read` reads them.

    Raises:
        ServingError: the server did not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    repository, file = folder / "model_repository", folder / "soak.jsonl"
    questions = write_repository(repository, plan.shipped)
    key_file = folder / "keys.txt"
    key_file.unlink(missing_ok=True)
    key = make_key(key_file)
    with (
        (folder / "server.log").open("w+b") as log,
        file.open("w", encoding="utf-8") as lines,
        started(repository, "embedded", "explicit", *BOUNDS, "--key-file", str(key_file), log=log) as running,
    ):
        server = KeyedServer(**asdict(running), key=key, key_file=key_file)
        process = psutil.Process(server.pid)
        _warm(server, questions, repository, plan)
        start = {"minutes": plan.minutes, "seed": plan.seed, "revision": _revision(), **_settled(process)}
        _write(lines, "start", start)
        tally, pace = Tally(), Pace(plan.share, server.pid)
        with _at_work(server, repository, questions, plan, tally, pace):
            _sample(process, plan, tally, pace, lines)
        left = _settled(process, start)
        log.seek(0)
        lines_said = log.read().decode(errors="replace").splitlines()
        said = [line for line in lines_said if any(words in line for words in DEFECTS)]
        _write(lines, "end", {**left, "counts": tally.counts, "failures": tally.failures, "log": said})
    return file


@contextlib.contextmanager
def _at_work(
    server: KeyedServer, repository: Path, questions: Questions, plan: Plan, tally: Tally, pace: Pace
) -> Iterator[None]:
    """Has all at work for as long as the context lasts."""
    seeds = np.random.SeedSequence(plan.seed).generate_state(len(WAYS) + 2).tolist()
    calls: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
        (ask_on, (way, server, questions, tally, pace, seed)) for way, seed in zip(WAYS, seeds, strict=False)
    ]
    calls.append((manage, (server, repository, plan.manage_seconds, tally, pace, seeds[-2])))
    calls.append((abuse, (server, plan.phase_seconds, tally, pace, seeds[-1])))
    threads = [threading.Thread(target=call, args=arguments) for call, arguments in calls]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        pace.end()
        for thread in threads:
            thread.join()


def _warm(server: KeyedServer, questions: Questions, repository: Path, plan: Plan) -> None:
    """Has all do everything once: what is opened at first use is open before anything is counted."""
    tally, pace = Tally(), Pace(0.0, server.pid)
    quick = replace(plan, phase_seconds=WARM_UP_SECONDS, manage_seconds=WARM_UP_SECONDS)
    with _at_work(server, repository, questions, quick, tally, pace):
        while not all(tally.counts[rounds] for rounds in (ABUSE_ROUNDS, MANAGING_ROUNDS)):
            time.sleep(WARM_UP_SECONDS)


def _sample(process: psutil.Process, plan: Plan, tally: Tally, pace: Pace, lines: IO[str]) -> None:
    begun, used = time.monotonic(), list[float]()
    next_sample = begun + plan.sample_seconds
    while (now := time.monotonic()) < begun + 60 * plan.minutes:
        used.append(pace.adjust())
        if now >= next_sample:
            p50, p99 = _percentiles(tally.latencies())
            when = {"seconds": round(now - begun, 1), "abuse": tally.doing, "share": statistics.fmean(used)}
            counted = {"p50_ms": p50, "p99_ms": p99, "counts": dict(tally.counts)}
            _write(lines, "sample", {**when, "pace": pace.factor, **_held(process), **counted})
            used.clear()
            next_sample += plan.sample_seconds
        time.sleep(min(ADJUST_SECONDS, plan.sample_seconds))


def _held(process: psutil.Process) -> dict[str, int]:
    """What the server's process holds: bytes of memory, descriptors, threads."""
    with process.oneshot():
        memory, threads = process.memory_info().rss, process.num_threads()
    return {"rss": memory, "descriptors": process.num_fds(), "threads": threads}


def _settled(process: psutil.Process, aim: dict[str, Any] | None = None) -> dict[str, int]:
    """The same when nobody asks anything: as soon as no more is there than in `aim`, or has not changed for a while.

    gRPC's threads leave when they have been idle for half a minute.
    """
    deadline, held, former = time.monotonic() + SETTLE_SECONDS, _held(process), dict[str, int]()
    while time.monotonic() < deadline:
        time.sleep(SETTLED_SECONDS)
        held = _held(process)
        most = aim or former
        if most and held["descriptors"] <= most["descriptors"] and held["threads"] <= most["threads"] + POOLED:
            break
        former = held
    return held


def _percentiles(seconds: list[float]) -> tuple[float | None, float | None]:
    """The median and the 99th percentile, in milliseconds; None of nothing."""
    if not seconds:
        return None, None
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    return round(float(p50), 3), round(float(p99), 3)


def _revision() -> str:
    git = ["git", "-C", str(project_root()), "describe", "--always", "--dirty"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def _write(lines: IO[str], kind: str, content: dict[str, Any]) -> None:
    lines.write(json.dumps({"kind": kind, **content}) + "\n")
    lines.flush()
