"""What the poller takes for changed."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from nanocv_cli.serving.embedded import server
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.library import Library
from nanocv_cli.serving.embedded.server import fingerprints, watch
from tests.serving.models import entry_config, write_model


def test_an_entry_that_came_while_the_server_started_is_loaded(tmp_path: Path) -> None:
    """It is there before the first look, but not among what was there before loading."""
    write_model(tmp_path, entry_config("first", "doubling"), "doubling")

    async def follow() -> set[str]:
        library = Library(tmp_path)
        known = fingerprints(library)
        await library.load("first")
        write_model(tmp_path, entry_config("second", "doubling"), "doubling")
        watching = asyncio.create_task(watch(library, 0.01, known, lambda line: None))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                while len(library.loaded()) < 2:
                    await asyncio.sleep(0.01)
        watching.cancel()
        names = {model.name for model in library.loaded()}
        await library.close()
        return names

    assert asyncio.run(follow()) == {"first", "second"}


def test_a_look_that_fails_is_not_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path, entry_config("first", "doubling"), "doubling")
    failures: list[Exception] = [OSError("gone while we look"), ValueError("whatever"), MemoryError()]
    said: list[str] = []

    def look(library: Library) -> Any:
        if failures:
            raise failures.pop()
        return fingerprints(library)

    monkeypatch.setattr(server, "fingerprints", look)

    async def follow() -> bool:
        library = Library(tmp_path)
        watching = asyncio.create_task(watch(library, 0.01, {}, said.append))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                while not library.loaded():
                    await asyncio.sleep(0.01)
        watching.cancel()
        found = bool(library.loaded())
        await library.close()
        return found

    assert asyncio.run(follow())
    assert [line.startswith("the repository could not be looked at") for line in said] == [True] * 3 + [False]


def test_an_entry_that_could_not_be_loaded_for_want_of_time_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path, entry_config("first", "doubling"), "doubling")
    write_model(tmp_path, entry_config("broken", "doubling"), "doubling")
    (tmp_path / "broken" / "1" / "model.onnx").write_bytes(b"rubbish")
    said: list[str] = []
    tries: list[str] = []

    async def follow() -> None:
        library = Library(tmp_path)
        good = library.load

        async def load(name: str, override: str = "") -> None:
            tries.append(name)
            if tries.count("first") < 3 and name == "first":
                raise Fault("busy", Status.UNAVAILABLE)
            await good(name, override)

        monkeypatch.setattr(library, "load", load)
        watching = asyncio.create_task(watch(library, 0.01, {}, said.append))
        async with asyncio.timeout(10):
            while not library.loaded():
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        watching.cancel()
        await library.close()

    asyncio.run(follow())
    assert tries == ["broken", "first", "first", "first"]
