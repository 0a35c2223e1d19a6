"""Clients that hold what they can of a server, each in its own way."""

import contextlib
import gzip
import socket
import threading
from collections.abc import Callable, Iterator

from nanocv_cli.serving.launch import Server
from tests.serving.embedded.grpc.floods import FLOODS
from tests.serving.embedded.grpc.raw_http2 import call, message, opening

STEP_SECONDS = 0.02
COMING_BACK = 4  # attackers that connect again in one step: 200 in a second
PATH = "/v2/models/adding/infer"
BOMB = gzip.compress(bytes(32 << 20))

# What one attacker does: it yields what it sends next, nothing for now, or None to take all answers that are there.
Habit = Callable[[], Iterator[bytes | None]]


def head(*headers: str, method: str = "POST", path: str = PATH) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def announcing() -> Iterator[bytes | None]:
    yield head("Content-Length: 250000")


def announcing_chunks() -> Iterator[bytes | None]:
    yield head("Transfer-Encoding: chunked")


def stopping() -> Iterator[bytes | None]:
    yield head("Content-Length: 250000") + bytes(240_000)


def dripping() -> Iterator[bytes | None]:
    yield head("Content-Length: 250000") + bytes(200_000)
    while True:
        yield b"\0"


def dribbling_chunks() -> Iterator[bytes | None]:
    yield head("Transfer-Encoding: chunked") + b"30d40\r\n" + bytes(200_000) + b"\r\n"
    while True:
        yield b"1\r\n\0\r\n"


def chunking() -> Iterator[bytes | None]:
    """The smallest chunks: each takes the server as long as a large one."""
    yield head("Transfer-Encoding: chunked")
    while True:
        yield b"1\r\nx\r\n" * 150


def dripping_a_head() -> Iterator[bytes | None]:
    yield b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX: "
    while True:
        yield b"x"


def dripping_trailers() -> Iterator[bytes | None]:
    yield head("Transfer-Encoding: chunked") + b"0\r\n"
    while True:
        yield b"X: " + b"x" * 1000


def silent() -> Iterator[bytes | None]:
    yield b""


def idle() -> Iterator[bytes | None]:
    yield head(method="GET", path="/v2/health/live")
    while True:
        yield None


def never_reading() -> Iterator[bytes | None]:
    while True:
        yield head(method="GET", path="/v2/models/adding/config") * 500


def pipelining() -> Iterator[bytes | None]:
    while True:
        yield head(method="GET", path="/v2/models/adding") * 2000
        yield None


def pipelining_metrics() -> Iterator[bytes | None]:
    while True:
        yield head(method="GET", path="/metrics") * 2000
        yield None


def inflating() -> Iterator[bytes | None]:
    while True:
        yield head("Content-Encoding: gzip", f"Content-Length: {len(BOMB)}") + BOMB
        yield None


def nesting() -> Iterator[bytes | None]:
    for inner in (b"[" * 240_000, b"[]," * 80_000, b'{"":0},' * 35_000):
        body = b'{"inputs":[' + inner + b"1]}"
        yield head(f"Content-Length: {len(body)}") + body
        yield None
    yield from nesting()


def calling() -> Iterator[bytes | None]:
    yield opening() + b"".join(call(stream, "ModelInfer") for stream in range(1, 60, 2))


def calling_in_part() -> Iterator[bytes | None]:
    calls = (call(n, "ModelInfer") + message(n, bytes(1500), announced=250_000, end=False) for n in range(1, 60, 2))
    yield opening() + b"".join(calls)


def streaming() -> Iterator[bytes | None]:
    yield opening() + b"".join(call(stream, "ModelStreamInfer") for stream in range(1, 60, 2))


def never_taking() -> Iterator[bytes | None]:
    asked = b"\n\x06adding"  # model_name
    calls = (call(stream, "ModelConfig") + message(stream, asked) for stream in range(1, 60, 2))
    yield opening(window=0) + b"".join(calls)


def no_preface() -> Iterator[bytes | None]:
    yield b"PRI * HT"


HTTP = (announcing, announcing_chunks, stopping, dripping, dribbling_chunks, chunking, dripping_a_head,
        dripping_trailers, silent, idle, never_reading, pipelining, inflating, nesting)  # fmt: skip
METRICS = (pipelining_metrics,)
GRPC = (calling, calling_in_part, streaming, never_taking, no_preface)


class Attacker:
    """One connection that follows a habit, and comes back when it is closed.

    Attributes:
        sent: bytes, on all its connections.
    """

    def __init__(self, address: str, habit: Habit) -> None:
        self._host, port = address.split(":")
        self._port, self._habit, self.sent = int(port), habit, 0
        self.connect()

    def connect(self) -> None:
        """Comes, or comes back."""
        self.is_closed = False
        self._acts, self._unsent = self._habit(), b""
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(10)
        self._socket.connect((self._host, self._port))
        self._socket.setblocking(False)

    def step(self) -> None:
        """Does a little more of its habit."""
        try:
            if not self._unsent and (said := next(self._acts, b"")) is not None:
                self._unsent = said
            elif not self._unsent:
                while self._socket.recv(65536):
                    pass
                self.close()
            if self._unsent:
                size = self._socket.send(self._unsent)
                self._unsent, self.sent = self._unsent[size:], self.sent + size
            elif self._socket.recv(1, socket.MSG_PEEK) == b"":
                self.close()
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def close(self) -> None:
        """Goes."""
        self.is_closed = True
        self._socket.close()


@contextlib.contextmanager
def attackers(server: Server, habit: Habit, number: int) -> Iterator[list[Attacker]]:
    """Has so many attackers at work, in one thread, for as long as the context lasts; they are there when it begins."""
    address = server.grpc if habit in (*GRPC, *FLOODS) else server.metrics if habit in METRICS else server.http
    crowd = [Attacker(address, habit) for _ in range(number)]
    done, failed = threading.Event(), list[BaseException]()

    def all_step() -> None:
        for one in crowd:
            if not one.is_closed:
                one.step()
        for one in [one for one in crowd if one.is_closed][:COMING_BACK]:
            one.connect()

    def attack() -> None:
        try:
            while not done.wait(STEP_SECONDS):
                all_step()
        except BaseException as error:
            failed.append(error)

    for _ in range(20):
        all_step()
    thread = threading.Thread(target=attack)
    thread.start()
    try:
        yield crowd
    finally:
        done.set()
        thread.join()
        for one in crowd:
            one.close()
    assert not failed, failed
