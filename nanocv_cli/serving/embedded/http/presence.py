"""Whether a client is still there, as far as its socket tells.

A client that has shut its sending side may wait for its answers, or have closed the connection and gone: TCP says the
same for both (FIN), and tells them apart only once something is sent, for the system of one that has gone refuses that
(RST). So such a client is sent an interim answer while its request waits: every client of HTTP/1.1 passes over those
(RFC 9110, 15.2). uvloop does not look at a connection that it neither reads nor writes, so the socket is asked itself.
"""

import array
import asyncio
import fcntl
import select
import termios
from collections.abc import Mapping

from nanocv_cli.serving.embedded.http.messages import HttpRequest

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Presence:
    """What is known of one client.

    Args:
        transport: of its connection.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._seen: object = None
        self._asked = False

    @property
    def is_silent(self) -> bool:
        """Whether it has sent nothing that waits to be read."""
        return not unread_bytes(self._descriptor)

    def invite(self, headers: Mapping[str, str]) -> None:
        """Tells a client that waits for it before it sends a body, that it may.

        Args:
            headers: of a request that is let in, by lower-case name.
        """
        if headers.get("expect", "").lower() == "100-continue":
            self._transport.write(CONTINUE)

    def ask(self, request: HttpRequest) -> None:
        """Finds out, over several calls, whether a client has gone that sends no more; then ends its connection.

        Args:
            request: what it has asked, and not been answered a byte of. One that is answered before the next call costs
                nothing. HTTP/1.0 has no interim answers: its clients are taken to be there.
        """
        if request is not self._seen:
            self._seen, self._asked = request, False
        elif self._asked:
            if is_broken(self._descriptor):
                self._transport.abort()
        elif request.version != "1.0":
            self._asked = True
            self._transport.write(CONTINUE)

    @property
    def _descriptor(self) -> int:
        descriptor: int = self._transport.get_extra_info("socket").fileno()
        return descriptor


def unread_bytes(descriptor: int) -> int:
    """How many bytes a socket holds for whoever reads it; 0 also where the system does not tell."""
    found = array.array("i", [0])
    try:
        fcntl.ioctl(descriptor, termios.FIONREAD, found)
    except OSError:  # it is closed
        return 0
    return found[0]


def is_broken(descriptor: int) -> bool:
    """Whether a socket's other end has refused what was sent to it."""
    if descriptor < 0:
        return True
    found = select.poll()
    found.register(descriptor, 0)
    return any(events & (select.POLLERR | select.POLLHUP | select.POLLNVAL) for _, events in found.poll(0))
