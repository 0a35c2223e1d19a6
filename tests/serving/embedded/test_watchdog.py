"""No graph runs for ever: a run, a warm-up and a load end in time, are told so, and the rest goes on."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.errors import ModelError
from nanocv_cli.serving.embedded import library as library_module
from nanocv_cli.serving.embedded import loading, session, watchdog
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.limits import ModelLimits
from nanocv_cli.serving.embedded.session import Session, Watched
from nanocv_cli.serving.embedded.watchdog import Watchdog, nothing
from tests.serving.embedded.libraries import SOON, ask, doubling_config, opened, refusal
from tests.serving.models import FOR_EVER, entry_config, write_model

pytestmark = pytest.mark.slow(12)

SHORT = ModelLimits(run_seconds=1.0, load_seconds=3.0)


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.02)


def turns(*counts: int) -> np.ndarray:
    return np.array(counts, np.int64)[:, None]


def turning_config(*warm_ups: int) -> pb.ModelConfig:
    """A config of the graph that turns as often as it is asked to, with warm-ups that ask for no turns."""
    config = entry_config("turning", "turning", backend="onnxruntime")
    for count in warm_ups:
        sample = config.model_warmup.add(name="first", batch_size=1, count=count)
        sample.inputs["turns"].data_type, sample.inputs["turns"].zero_data = pb.TYPE_INT64, True
        sample.inputs["turns"].dims.append(1)
    return config


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write_model(tmp_path, turning_config(), "turning")
    write_model(tmp_path, doubling_config(), "doubling")
    return tmp_path


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    """All sessions that models open, in their order."""
    made: list[Session] = []

    def make(*arguments: Any) -> Session:
        made.append(Session(*arguments))
        return made[-1]

    monkeypatch.setattr(session, "Session", make)
    return made


class Endless:
    """A copy whose runs do not stop when they are told to, until the test lets them."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def run(self, names: Any, feeds: Any, watched: Watched) -> list[np.ndarray]:
        with watched(nothing):
            assert self.go_on.wait(60)
        return [np.zeros((1, 1), np.float32)]


def test_a_run_that_takes_too_long_is_stopped_and_the_instance_goes_on(
    repository: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def run() -> None:
        async with opened(repository, SHORT) as library:
            await library.load("turning")
            # All that share its batch fail with it: alone, each might take as long again.
            first = asyncio.create_task(ask(library, "turning", turns(FOR_EVER), "turns"))
            await asyncio.sleep(0.05)
            others = [asyncio.create_task(ask(library, "turning", turns(n), "turns")) for n in (FOR_EVER, 5)]
            for one in (first, *others):
                with pytest.raises(Fault, match=r"a run may take 1 s") as stopped:
                    await one
                assert stopped.value.status is Status.TIMED_OUT
            assert library.ready
            assert (await ask(library, "turning", turns(3, 1), "turns"))[0].tolist() == [[3], [3]]
            assert library.find("turning").statistics.failures["BACKEND"] == 3

    asyncio.run(run())
    assert capfd.readouterr() == ("", "")


def test_a_warm_up_that_hangs_is_a_load_that_fails_and_holds_no_other_up(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = turning_config(1)
    config.model_warmup[0].inputs["turns"].random_data = True  # the same number for every warm-up
    monkeypatch.setattr(np.random, "default_rng", lambda seed: AlwaysForEver())

    async def run() -> None:
        async with opened(repository, ModelLimits(run_seconds=30, load_seconds=3.0)) as library:
            hanging = asyncio.create_task(refusal(library, "turning", json_format.MessageToJson(config)))
            await asyncio.sleep(0.1)
            await library.load("doubling")
            assert not hanging.done()
            said = await hanging
            assert "warm-up 'first' failed" in said
            assert "loading a model 3 s in all" in said
            assert not library.ready
            assert [(line.name, line.state) for line in library.index()] == [
                ("doubling", "READY"),
                ("turning", "UNAVAILABLE"),
            ]
            await library.load("turning")
            assert library.ready

    asyncio.run(run())


class AlwaysForEver:
    """A generator of the largest number that there is for a warm-up."""

    def integers(self, low: int, high: int, shape: tuple[int, ...], kind: Any) -> np.ndarray:
        return np.full(shape, FOR_EVER, np.int64)


def test_no_run_begins_and_no_graph_is_laid_out_after_the_time_to_load_is_up(
    repository: Path, sessions: list[Session]
) -> None:
    """Many short runs are bounded together, though none of them is long enough to be stopped."""

    async def run() -> None:
        async with opened(repository, SHORT) as library:
            await library.load("turning")
            with pytest.raises(Fault, match=r"loading a model 3 s in all"):
                sessions[0].run(["y"], {"turns": turns(1)}, time.monotonic())

    asyncio.run(run())
    with pytest.raises(ModelError, match=r"was not laid out in the 3 s"):
        session.sessions(b"", turning_config(), Watchdog(), SHORT, time.monotonic())


def test_a_run_that_does_not_stop_takes_its_model_out_of_service(
    repository: Path, sessions: list[Session], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watchdog, "GRACE_SECONDS", 0.3)
    endless = Endless()

    async def run() -> None:
        async with opened(repository, SHORT) as library:
            for name in ("turning", "doubling"):
                await library.load(name)
            sessions[0].copy = endless
            asked = [asyncio.create_task(ask(library, "turning", turns(1), "turns")) for _ in range(2)]
            for one in asked:
                with pytest.raises(Fault, match="a run of its graph does not stop") as lost:
                    await one
                assert lost.value.status is Status.UNAVAILABLE
            assert not library.ready
            assert not library.answers("turning")
            assert library.answers("doubling")
            assert library.index()[1].state == "UNAVAILABLE"
            assert "does not stop" in library.index()[1].reason
            with pytest.raises(Fault, match="is unavailable"):
                await ask(library, "turning", turns(1), "turns")
            await ask(library, "doubling")
            await library.load("turning")  # what the owner can do
            assert library.ready
            assert (await ask(library, "turning", turns(2), "turns"))[0].tolist() == [[2]]
            endless.go_on.set()
            await wait_until(lambda: [thread.name for thread in threading.enumerate()].count("turning-0") == 1)

    asyncio.run(run())
    assert [record.getMessage() for record in caplog.records] == [
        "model 'turning' is unavailable: a run of its graph does not stop"
    ]


def test_a_load_that_cannot_be_stopped_is_left_to_itself(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, entered, good = threading.Event(), threading.Event(), loading.LoadedModel

    def hang(entry: Path, *arguments: Any) -> Any:
        if entry.name == "turning" and not entered.is_set():
            entered.set()
            assert go_on.wait(60)
        return good(entry, *arguments)

    monkeypatch.setattr(loading, "LoadedModel", hang)

    async def run() -> None:
        async with opened(repository, SHORT) as library:
            with monkeypatch.context() as impatient:  # but not when it closes, on a busy machine
                impatient.setattr(library_module, "PATIENCE_SECONDS", 0.2)
                assert "cannot be stopped" in await refusal(library, "turning")
            assert "earlier attempt" in await refusal(library, "turning")
            await library.load("doubling")
            await ask(library, "doubling")
            assert not library.ready
            before = threading.active_count()
            go_on.set()
            await wait_until(lambda: threading.active_count() < before)  # what it has loaded too late is closed again
            await library.load("turning")
            assert library.ready

    asyncio.run(run())


def test_giving_up_ends_queues_runs_and_loads(repository: Path) -> None:
    """As at the end of a server that has waited long enough."""

    async def run() -> None:
        async with opened(repository) as library:
            await library.load("turning")
            asked = [asyncio.create_task(ask(library, "turning", turns(FOR_EVER), "turns")) for _ in range(20)]
            await asyncio.sleep(0.1)
            library.give_up()
            start = time.monotonic()
            for one in asked:
                with pytest.raises(Fault, match="shutting down") as ended:
                    await one
                assert ended.value.status is Status.UNAVAILABLE
            assert time.monotonic() - start < SOON

    asyncio.run(run())


def test_what_fails_while_it_is_stopped_does_not_keep_others_from_it(caplog: pytest.LogCaptureFixture) -> None:
    watching, stopped = Watchdog(), threading.Event()

    def fail() -> None:
        raise ValueError

    with watching.watch(0.0, fail), watching.watch(0.0, stopped.set) as turn:
        assert stopped.wait(10)
        assert turn.stopped
        deadline = time.monotonic() + 10
        while "could not be stopped: ValueError" not in caplog.text:  # either of them may be the first
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not watching.turns
    watching.close()


def test_what_is_done_in_time_is_left_alone() -> None:
    watching, stopped = Watchdog(), threading.Event()
    with watching.watch(time.monotonic() + 3600, stopped.set) as turn:
        assert not stopped.wait(2 * watchdog.TICK_SECONDS)
    assert not turn.stopped
    watching.close()
