"""Load: clients that ask one after the other (closed loop), or at times drawn beforehand (open loop).

What a client spends is taken from the server under test when both share a machine, so its connection spends next to
nothing: the request is made beforehand, the answer is only looked over.
"""

import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Protocol

from nanocv_cli.engine.identity import authorization, grpc_channel
from nanocv_cli.errors import ServingError

ANSWER_SECONDS = 60.0
LARGEST_HEAD = 1 << 16
LARGEST_ANSWER = 1 << 30
CHUNK = 1 << 16
MOST_RECONNECTS = 20
RECONNECT_SECONDS = 0.1
STOP_SECONDS = 70.0


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
        requests: the bytes of whole requests, sent in turn.
        context: what secures it; None: nothing does.
    """

    def __init__(self, address: str, requests: Sequence[bytes], context: ssl.SSLContext | None = None) -> None:
        host, _, port = address.rpartition(":")
        name = host.strip("[]")
        self._requests = cycle(requests)
        self._socket = socket.create_connection((name, int(port)), timeout=ANSWER_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            self._socket = context.wrap_socket(self._socket, server_hostname=name)
        self._rest = b""

    def infer(self) -> None:
        """See `Connection`."""
        self._socket.sendall(next(self._requests))
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
        requests: the bytes of `ModelInferRequest`s, sent in turn.
        is_secure: whether by TLS.
    """

    def __init__(self, address: str, requests: Sequence[bytes], is_secure: bool = False) -> None:
        import grpc

        # Channels to one address share a connection unless they are told not to.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc_channel(address, is_secure, options)
        self._metadata = [(name.lower(), value) for name, value in authorization().items()]
        self._call: Callable[..., object] = self._channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        self._requests = cycle(requests)
        self._broken = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        self._error = grpc.RpcError

    def infer(self) -> None:
        """See `Connection`."""
        try:
            self._call(next(self._requests), timeout=ANSWER_SECONDS, metadata=self._metadata)
        except self._error as error:
            details = str(error.details())
            # A full queue answers UNAVAILABLE too; only a broken line says it could not connect.
            if error.code() in self._broken and ("connect" in details.lower() or "closed" in details.lower()):
                raise ConnectionError(details) from error
            raise Refused(details[:300]) from error

    def close(self) -> None:
        """See `Connection`."""
        self._channel.close()


@dataclass(slots=True)
class Record:
    """One request: when it was (or should have been) sent, when it was answered, in nanoseconds; whether well."""

    sent: int
    answered: int
    well: bool


@dataclass
class Arrivals:
    """Times at which requests should be sent: a Poisson process, the same for the same seed.

    Args:
        rate: requests per second.
        seed: of the times.
    """

    rate: float
    seed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._next = time.perf_counter_ns()

    def take(self) -> int:
        """The next time, nanoseconds of `time.perf_counter_ns`."""
        with self._lock:
            self._next += round(self._random.expovariate(self.rate) * 1e9)
            return self._next


class Load:
    """Clients at work, each in a thread with a connection of its own, from `__enter__` to `__exit__`.

    In closed loop each sends its next request when the last one is answered. In open loop a request belongs to a time,
    not to a client: whoever is free takes the next time and waits for it, and latency counts from that time even where
    all clients were still waiting for slow answers (else a slow server would hide its delay: coordinated omission).

    Args:
        connect: opens a connection.
        clients: how many.
        arrivals: when to send; None for closed loop.
    """

    def __init__(self, connect: Callable[[], Connection], clients: int, arrivals: Arrivals | None = None) -> None:
        self._connect, self._arrivals = connect, arrivals
        self._stopping = threading.Event()
        self._records: list[list[Record]] = [[] for _ in range(clients)]
        self._read = [0] * clients
        self.last_error = ""
        self._failure: Exception | None = None
        self._threads = [
            threading.Thread(target=self._work, args=(records,), name="load", daemon=True) for records in self._records
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._stopping.set()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def taken(self) -> list[Record]:
        """What was answered since the last call.

        Raises:
            ServingError: the server is gone.
        """
        if self._failure is not None:
            raise ServingError(
                f"the server stopped answering: {self._failure}", "look at its log, and start it again"
            ) from self._failure
        found: list[Record] = []
        for client, records in enumerate(self._records):
            end = len(records)
            found += records[self._read[client] : end]
            self._read[client] = end
        return found

    def _work(self, records: list[Record]) -> None:
        try:
            connection, broken = self._connected(), 0
            for sent in self._times():
                try:
                    connection.infer()
                    broken = 0
                    records.append(Record(sent, time.perf_counter_ns(), True))
                except Refused as refused:
                    self.last_error = str(refused)
                    records.append(Record(sent, time.perf_counter_ns(), False))
                except OSError as error:
                    self.last_error, broken = str(error), broken + 1
                    if broken > MOST_RECONNECTS:
                        raise
                    records.append(Record(sent, time.perf_counter_ns(), False))
                    connection.close()
                    self._stopping.wait(RECONNECT_SECONDS)
                    connection = self._connected()
            connection.close()
        except Exception as error:  # whatever ends a client ends the test, in the thread that asks for the records
            self._failure = error
            self._stopping.set()

    def _times(self) -> Iterator[int]:
        while not self._stopping.is_set():
            if self._arrivals is None:
                yield time.perf_counter_ns()
                continue
            sent = self._arrivals.take()
            wait = (sent - time.perf_counter_ns()) / 1e9
            if wait > 0 and self._stopping.wait(wait):
                return
            yield sent

    def _connected(self) -> Connection:
        for attempt in range(MOST_RECONNECTS):
            try:
                return self._connect()
            except OSError as error:
                if attempt + 1 == MOST_RECONNECTS or self._stopping.wait(RECONNECT_SECONDS):
                    raise ServingError(f"cannot connect: {error}") from error
        raise AssertionError("unreachable")


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
