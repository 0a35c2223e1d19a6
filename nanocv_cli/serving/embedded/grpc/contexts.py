"""What a call does with gRPC's side of it: reads its messages, answers a stream, knows whether its client is there.

What is begun on a call and fails, or is given up, is memory that grpcio never frees (grpc/grpc#43360): who cancels
calls by the million would have all of it. So no reading is given up, and no status sent to a client that has gone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import grpc

from nanocv_cli.serving.embedded.exchange import REQUEST_ID, TRACE_PARENT, Exchange

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]

LOOKS, LOOK_SECONDS = 3, 0.002  # until a client that has gone is known to have


class Messages:
    """Reads the messages of calls, each to its end, though the call is cancelled meanwhile."""

    def __init__(self) -> None:
        self._reading: set[asyncio.Future[Any]] = set()  # the loop alone would not keep them

    async def read(self, context: Context) -> Any:
        """A call's next message, as bytes; something else where there is none."""
        reading = asyncio.ensure_future(context.read())
        self._reading.add(reading)
        reading.add_done_callback(self._forget)
        return await asyncio.shield(reading)

    def _forget(self, reading: asyncio.Future[Any]) -> None:
        self._reading.discard(reading)
        if not reading.cancelled():
            reading.exception()  # or it is logged, where nobody waits for it any more


async def make_sure_of_client(context: Context) -> None:
    """Waits a moment, for those who have gone to be known as gone.

    Raises:
        asyncio.CancelledError: the client has gone.
    """
    for _ in range(LOOKS):
        await asyncio.sleep(LOOK_SECONDS)
        if context.cancelled():
            raise asyncio.CancelledError


async def written(context: Context, answer: bytes) -> None:
    """Sends an answer of a stream.

    Raises:
        asyncio.CancelledError: its client has gone meanwhile, which gRPC may tell of here first.
    """
    try:
        await context.write(answer)
    except grpc.aio.InternalError as error:
        raise asyncio.CancelledError from error


def begun(context: Context, method: str) -> Exchange:
    """A call's exchange, by the metadata that it came with; what goes back with its answer is told to gRPC."""
    sent = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    # A call that has failed no longer tells whose it was.
    exchange = Exchange(protocol="grpc", method=method, client=unquote(context.peer()).partition(":")[2])
    exchange.begin(sent.get(REQUEST_ID), sent.get(TRACE_PARENT))
    context.set_trailing_metadata(tuple(exchange.told))
    return exchange
