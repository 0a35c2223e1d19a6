"""Loading and unloading: what is refused leaves no trace, one model's trouble is no other's, and nothing is hidden."""

import asyncio
import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from nanocv_cli.serving.embedded import library as library_module
from nanocv_cli.serving.embedded import loading
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.library import IndexLine, Library
from nanocv_cli.serving.embedded.limits import ModelLimits
from nanocv_cli.serving.repository.pbtxt import LARGEST_FILE
from tests.serving.embedded.libraries import ask, doubling_config, opened, refusal
from tests.serving.models import write_model

READY = IndexLine("doubling", "1", "READY")
STRANGE_NAMES = ["", ".", "..", "../doubling", "a/b", "doubling/1", "con\0", "\ud800", "x" * 300, "x" * 100_000, "a\nb"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write_model(tmp_path, doubling_config(), "doubling")
    (tmp_path / "no entry").mkdir()
    (tmp_path / "file").write_text("", encoding="utf-8")
    return tmp_path


def test_names_that_were_never_there_leave_no_trace(repository: Path) -> None:
    @settings(max_examples=60, deadline=None)
    @given(st.text(st.characters(), max_size=40) | st.sampled_from([*STRANGE_NAMES, "no entry", "file"]))
    def check(name: str) -> None:
        said = runner.run(refusal(library, name))
        assert "not found in the repository" in said
        assert str(repository) not in said
        assert len(said) < 300
        runner.run(library.unload(name))
        with pytest.raises(Fault, match="unknown model") as unknown:
            library.find(name)
        assert len(unknown.value.message) < 300
        assert not library.answers(name)
        assert library.ready
        assert library.index() == [READY]

    async def make() -> Library:
        made = Library(repository)
        await made.load("doubling")
        return made

    with asyncio.Runner() as runner:
        library = runner.run(make())
        before = {name: len(value) for name, value in vars(library).items() if hasattr(value, "__len__")}
        check()
        assert {name: len(value) for name, value in vars(library).items() if hasattr(value, "__len__")} == before
        assert runner.run(library.close())


def test_an_entry_that_cannot_be_loaded_is_told_until_it_is_gone(repository: Path) -> None:
    async def run() -> None:
        async with opened(repository) as library:
            await library.load("doubling")
            entry = write_model(repository, doubling_config("broken"), "doubling")
            (entry / "1" / "model.onnx").write_bytes(b"rubbish")
            for away in ("unload", "load again"):
                said = await refusal(library, "broken")
                assert "cannot be loaded" in said
                assert not library.ready
                assert library.index()[0] == IndexLine("broken", "1", "UNAVAILABLE", said.split(": ", 1)[1])
                if away == "unload":
                    await library.unload("broken")
                    assert library.index()[0] == IndexLine("broken")
                else:
                    shutil.rmtree(entry)
                    await refusal(library, "broken")
                    assert library.index() == [READY]
                assert library.ready

    asyncio.run(run())


def test_an_entry_that_is_gone_is_served_until_it_is_unloaded(repository: Path) -> None:
    async def run() -> None:
        async with opened(repository) as library:
            await library.load("doubling")
            shutil.rmtree(repository / "doubling")
            assert "not found" in await refusal(library, "doubling")
            await ask(library, "doubling")
            assert library.ready
            await library.unload("doubling")
            assert library.index() == []

    asyncio.run(run())


@pytest.mark.parametrize("error", [MemoryError("x"), RuntimeError("can't start new thread"), KeyError("x")])
def test_a_load_that_fails_for_any_reason_is_an_answer(
    repository: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail(*arguments: Any) -> Any:
        raise error

    async def run() -> None:
        async with opened(repository) as library:
            await library.load("doubling")
            with monkeypatch.context() as patch:
                patch.setattr(loading, "LoadedModel", fail)
                assert f"internal: {type(error).__name__}" in await refusal(library, "doubling")
            await ask(library, "doubling")
            assert library.ready

    asyncio.run(run())
    assert len(caplog.records) == 1


OVERRIDES = [
    "[" * 100_000,
    '{"input":' * 5000,
    "nothing",
    "5",
    "null",
    '"a"',
    '{"no_such_field": 1}',
    '{"max_batch_size": 1e400}',
    '{"max_batch_size": ' + "9" * 5000 + "}",
    '{"max_batch_size": true}',
    '{"name": "\\ud800"}',
    '{"name": "somebody"}',
    '{"name": "' + "x" * 1000 + '"}',
    '{"input": [{"data_type": 99}]}',
    '{"instanceGroup": [{"kind": 7}]}',
    '{"parameters": {"a": null}}',
    " " * (LARGEST_FILE + 1),
    json.dumps({"name": "a" * LARGEST_FILE}),
]


@pytest.mark.parametrize("override", OVERRIDES, ids=lambda text: text[:20])
def test_an_override_that_is_no_config_is_refused_in_one_line(repository: Path, override: str) -> None:
    async def run() -> None:
        async with opened(repository) as library:
            await library.load("doubling")
            said = await refusal(library, "doubling", override)
            assert said.startswith("failed to load 'doubling': ")
            assert len(said) < 600
            await ask(library, "doubling")

    asyncio.run(run())


def slow_loads(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Semaphore, threading.Semaphore]:
    """Makes every load wait: one semaphore is released as a load begins, the other lets it go on."""
    begun, go_on, good = threading.Semaphore(0), threading.Semaphore(0), loading.load_entry

    def load(*arguments: Any) -> Any:
        begun.release()
        assert go_on.acquire(timeout=60)
        return good(*arguments)

    monkeypatch.setattr(library_module, "load_entry", load)
    return begun, go_on


def test_a_load_goes_on_though_its_client_is_gone_and_is_alone_with_its_name(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = slow_loads(monkeypatch)

    async def run() -> None:
        async with opened(repository) as library:
            first = asyncio.create_task(library.load("doubling"))
            assert await asyncio.to_thread(begun.acquire, timeout=20)
            second = asyncio.create_task(library.load("doubling"))
            first.cancel()
            await asyncio.wait([first])
            assert not await asyncio.to_thread(begun.acquire, timeout=0.1)  # the second one waits for the first
            go_on.release()
            assert await asyncio.to_thread(begun.acquire, timeout=20)
            assert library.ready
            await ask(library, "doubling")
            go_on.release()
            await second

    asyncio.run(run())


def test_loads_that_wait_too_long_are_refused_and_may_come_again(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = slow_loads(monkeypatch)

    async def run() -> None:
        async with opened(repository, ModelLimits(load_seconds=2.0)) as library:
            first = asyncio.create_task(library.load("doubling"))
            assert await asyncio.to_thread(begun.acquire, timeout=20)
            with pytest.raises(Fault, match="ask again later") as busy:
                await library.load("doubling")
            assert busy.value.status is Status.UNAVAILABLE
            for _ in range(100):
                go_on.release()
            await first
            many = [asyncio.create_task(library.load("doubling")) for _ in range(library_module.MOST_LOADS + 5)]
            await asyncio.sleep(0)
            refused = await asyncio.gather(*many, return_exceptions=True)
            assert sum("wait to be loaded" in str(one) for one in refused) == 5
            await library.load("doubling")

    asyncio.run(run())


def test_models_that_leave_are_few(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each holds its memory until its last request is answered."""
    go_on = threading.Event()
    good = loading.LoadedModel.close

    def close(model: Any, timeout: float) -> bool:
        assert go_on.wait(60 * bool(timeout)) or not timeout
        return good(model, timeout)

    monkeypatch.setattr(loading.LoadedModel, "close", close)

    async def run() -> None:
        async with opened(repository, ModelLimits(load_seconds=1.0)) as library:
            for _ in range(library_module.MOST_LEAVING + 1):
                await library.load("doubling")
            with pytest.raises(Fault, match="still have requests") as busy:
                await library.load("doubling")
            assert busy.value.status is Status.UNAVAILABLE
            await ask(library, "doubling")
            go_on.set()
            await library.load("doubling")

    asyncio.run(run())


def test_a_repository_that_cannot_be_read_is_told(repository: Path) -> None:
    async def run() -> None:
        async with opened(repository) as library:
            await library.load("doubling")
            shutil.rmtree(repository)
            with pytest.raises(Fault, match="repository cannot be read") as told:
                library.index()
            assert str(repository) not in told.value.message
            await ask(library, "doubling")

    asyncio.run(run())


def test_a_version_that_is_named_twice_is_served_once(repository: Path) -> None:
    config = doubling_config()
    config.version_policy.specific.versions.extend([1, 1, 1])

    async def run() -> None:
        before = threading.active_count()
        async with opened(repository) as library:
            await library.load("doubling", json_format.MessageToJson(config))
            assert library.versions("doubling") == ["1"]
            await ask(library, "doubling")
        deadline = time.monotonic() + 10
        while left := [thread.name for thread in threading.enumerate() if thread.name.startswith("doubling-")]:
            assert time.monotonic() < deadline, (before, left)
            await asyncio.sleep(0.01)

    asyncio.run(run())
