"""Who may load a model now: one for each name, and few at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nanocv_cli.serving.embedded.faults import Fault, Status

LOADERS = 2  # a slow one holds no other up, and memory is for few


class Loaders:
    """The names of the models that are being loaded or unloaded.

    Args:
        seconds: longest wait for one's turn.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._busy: set[str] = set()
        self._freed = asyncio.Condition()

    def __contains__(self, name: str) -> bool:
        return name in self._busy

    @asynccontextmanager
    async def alone_with(self, name: str) -> AsyncIterator[None]:
        """Waits until nobody else loads or unloads this model, and only a few others are being loaded.

        Raises:
            Fault: that is not so for too long.
        """
        async with self._freed:
            try:
                async with asyncio.timeout(self._seconds):
                    await self._freed.wait_for(lambda: name not in self._busy and len(self._busy) < LOADERS)
            except TimeoutError as error:
                raise Fault("other models are being loaded: ask again later", Status.UNAVAILABLE) from error
            self._busy.add(name)
        try:
            yield
        finally:
            self._busy.discard(name)
            async with self._freed:
                self._freed.notify_all()
