"""What the poller takes for changed."""

import asyncio
import contextlib
from pathlib import Path

from nanocv_cli.serving.embedded.library import Library
from nanocv_cli.serving.embedded.watch import prints, watch
from tests.serving.models import entry_config, write_model


def test_an_entry_that_came_while_the_server_started_is_loaded(tmp_path: Path) -> None:
    """It is there before the first look, but not among what was there before loading."""
    write_model(tmp_path, entry_config("first", "doubling"), "doubling")

    async def follow() -> set[str]:
        library = Library(tmp_path)
        known = prints(library)
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
