"""A connection until it is secured. It counts like any other, and takes no more time than a head may take to come."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import TYPE_CHECKING, cast

from nanocv_cli.serving.embedded.http.connection import HttpConnection

if TYPE_CHECKING:
    from nanocv_cli.serving.embedded.http.server import HttpServer

FAREWELL_SECONDS = 2.0  # for a client to hear, and say, that the connection ends


class Handshake(asyncio.Protocol):
    """A client that has connected and not yet shaken hands.

    asyncio secures what a port accepts without a word until that is done, so that nobody could count it or end it; and
    a transport that it has made already may have read what the client said first. So only the socket is kept of that.

    Args:
        server: whose it is.
        context: what its connection is secured with.
    """

    def __init__(self, server: HttpServer, context: ssl.SSLContext) -> None:
        self._server, self._context = server, context
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        plain = cast(asyncio.Transport, transport)
        if self._server.begin(self):
            try:
                own = socket.socket(fileno=os.dup(plain.get_extra_info("socket").fileno()))
            except OSError:  # no more files may be opened
                self._server.end(self)
            else:
                self._task = asyncio.get_running_loop().create_task(self._shake_hands(own))
        plain.abort()  # of its descriptor, not of the connection

    def abort(self) -> None:
        """Closes at once."""
        if self._task:
            self._task.cancel()

    async def _shake_hands(self, own: socket.socket) -> None:
        own.setblocking(False)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._connection,
                own,
                ssl=self._context,
                ssl_handshake_timeout=self._server.limits.head_seconds,
                ssl_shutdown_timeout=FAREWELL_SECONDS,
            )
        except (OSError, asyncio.CancelledError):  # it speaks no TLS, shows nothing that is known, or gave way
            own.close()
        finally:
            self._server.end(self)

    def _connection(self) -> HttpConnection:
        return Secured(self._server, self)


class Secured(HttpConnection):
    """The connection that a handshake ends in.

    Args:
        server: whose it is.
        handshake: which ends by that.
    """

    def __init__(self, server: HttpServer, handshake: Handshake) -> None:
        super().__init__(server)
        self._handshake = handshake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._server.end(self._handshake)  # its place is free for the connection
        super().connection_made(transport)
