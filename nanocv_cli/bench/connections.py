"""The smallest clients that can ask for an inference: the request is made beforehand, the answer is only looked over.

What a client spends is taken from the server under test when both share a machine, so these spend next to nothing.
"""

import socket
from collections.abc import Callable
from typing import Protocol

from nanocv_cli.errors import ServingError

ANSWER_SECONDS = 60.0
LARGEST_HEAD = 1 << 16
LARGEST_ANSWER = 1 << 30
CHUNK = 1 << 16


class Refused(Exception):
    """The server answered with an error; the connection goes on."""


class Connection(Protocol):
    """One client's line to the server."""

    def infer(self) -> None:
        """Asks once and waits for the answer.

        Raises:
            Refused: the server answered with an error.
            OSError: the connection broke.
        """

    def close(self) -> None:
        """Ends it."""


class HttpConnection:
    """A kept-alive HTTP/1.1 connection.

    Args:
        address: `host:port`.
        request: the bytes of a whole request.
    """

    def __init__(self, address: str, request: bytes) -> None:
        host, _, port = address.rpartition(":")
        self._request = request
        self._socket = socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def infer(self) -> None:
        """See `Connection`."""
        self._socket.sendall(self._request)
        received = self._rest or self._read()
        while (end := received.find(b"\r\n\r\n")) < 0:
            if len(received) > LARGEST_HEAD:
                raise ConnectionError("the answer's head does not end")
            received += self._read()
        head = received[:end]
        length = _content_length(head)
        body = received[end + 4 :]
        while len(body) < length:
            body += self._read()
        self._rest = body[length:]
        if head.split(b" ", 2)[1] != b"200":
            raise Refused(body[:length].decode(errors="replace")[:300])

    def close(self) -> None:
        """See `Connection`."""
        self._socket.close()

    def _read(self) -> bytes:
        part = self._socket.recv(CHUNK)
        if not part:
            raise ConnectionError("the server closed the connection")
        return part


class GrpcConnection:
    """A gRPC channel of its own.

    Args:
        address: `host:port`.
        request: the bytes of a `ModelInferRequest`.
    """

    def __init__(self, address: str, request: bytes) -> None:
        import grpc

        # Channels to one address share a connection unless they are told not to.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(address, options)
        self._call: Callable[..., object] = self._channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        self._request = request
        self._broken = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        self._error = grpc.RpcError

    def infer(self) -> None:
        """See `Connection`."""
        try:
            self._call(self._request, timeout=ANSWER_SECONDS)
        except self._error as error:
            details = str(error.details())
            # A full queue answers UNAVAILABLE too; only a broken line says it could not connect.
            if error.code() in self._broken and ("connect" in details.lower() or "closed" in details.lower()):
                raise ConnectionError(details) from error
            raise Refused(details[:300]) from error

    def close(self) -> None:
        """See `Connection`."""
        self._channel.close()


def _content_length(head: bytes) -> int:
    lowered = head.lower()
    place = lowered.find(b"\r\ncontent-length:")
    if place < 0:
        raise ServingError(
            "the server answers without Content-Length, which this client needs", "use --protocol grpc for this server"
        )
    text = lowered[place + 17 :].split(b"\r\n", 1)[0].strip()
    if not text.isdigit() or len(text) > 10 or int(text) > LARGEST_ANSWER:
        raise ConnectionError(f"the server's Content-Length is {text[:20]!r}")
    return int(text)
