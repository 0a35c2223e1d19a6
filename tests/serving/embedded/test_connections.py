"""Connections that hold on, dawdle or break off: others are answered meanwhile, and nothing of them is left."""

import contextlib
import resource
import socket
import struct
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests.serving.embedded.attackers import head
from tests.serving.embedded.grpc.raw_http2 import DATA, PREFACE, call, frame, message, opening
from tests.serving.embedded.honest import honest_clients
from tests.serving.embedded.small_server import SmallServer

pytestmark = pytest.mark.slow(7)

IDLE, FLOOD = 2000, 2600  # connections; the server takes 2,048 of HTTP
RESETS = 40  # in each phase
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST
INFER = "/v2/models/doubling/infer"
BODY = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"UINT8","data":[1,2,3,4]}]}'
REQUEST = head(f"Content-Length: {len(BODY)}", path=INFER) + BODY
CONFIG = head(method="GET", path="/v2/models/doubling/config")
ASKED = b"\n\x08doubling"  # model_name

# What is sent before the reset, by HTTP and by gRPC: each is a phase of a connection's life.
HTTP_PHASES = {
    "nothing": b"",
    "part of a head": b"POST /v2/mod",
    "a head": REQUEST[: -len(BODY)],
    "part of a body": REQUEST[:-10],
    "part of a chunk": head("Transfer-Encoding: chunked") + b"ff\r\nabc",
    "a request": REQUEST,
    "requests, of which one is answered": CONFIG * 200,
    "an upgrade": head("Connection: upgrade", "Upgrade: h2c", method="GET", path="/v2"),
}
GRPC_PHASES = {
    "nothing": b"",
    "part of a preface": PREFACE[:9],
    "a preface": PREFACE,
    "settings": opening(),
    "part of a head": opening() + call(1, "ModelInfer")[:20],
    "a head": opening() + call(1, "ModelInfer"),
    "part of a message": opening() + call(1, "ModelInfer") + message(1, ASKED, announced=5000, end=False),
    "part of a frame": opening() + call(1, "ModelInfer") + frame(DATA, 0, 1, bytes(100))[:50],
    "a request": opening() + call(1, "ModelConfig") + message(1, ASKED),
    "a stream": opening() + b"".join(call(n, "ModelStreamInfer") + message(n, ASKED, end=False) for n in (1, 3, 5)),
}


def connect(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=30)


@contextlib.contextmanager
def many_files() -> Iterator[None]:
    """Lets this process open what the test needs; where it may not, the test is skipped."""
    former, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FLOOD + 500
    if most != resource.RLIM_INFINITY and most < wanted:
        pytest.skip(f"this process may open {most} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(former, wanted), most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (former, most))


def descriptors(server: SmallServer) -> int:
    return psutil.Process(server.pid).num_fds()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def _nothing_is_left(usual_server: SmallServer) -> Iterator[None]:
    with honest_clients(usual_server):
        pass
    before, said = descriptors(usual_server), usual_server.said()
    yield
    with honest_clients(usual_server):
        pass
    wait_until(lambda: descriptors(usual_server) <= before + 4)
    assert usual_server.said() == said


@pytest.mark.parametrize(("side", "number"), [("http", IDLE), ("http", FLOOD), ("grpc", IDLE)])
def test_thousands_that_say_nothing(usual_server: SmallServer, side: str, number: int) -> None:
    """Beyond what the server takes they give way to those who ask."""
    address = getattr(usual_server, side)
    with many_files(), contextlib.ExitStack() as crowd:
        with honest_clients(usual_server):  # while they come
            for _ in range(number):
                crowd.enter_context(connect(address))
        with honest_clients(usual_server):  # when they are there
            pass


@pytest.mark.parametrize("side", ["http", "grpc"])
def test_resets_in_every_phase(usual_server: SmallServer, side: str) -> None:
    phases = HTTP_PHASES if side == "http" else GRPC_PHASES
    with honest_clients(usual_server):
        for sent in phases.values():
            for number in range(RESETS):
                with connect(getattr(usual_server, side)) as one:
                    one.sendall(sent)
                    if number % 4 == 0 and sent in (HTTP_PHASES["a request"], GRPC_PHASES["settings"]):
                        one.recv(1)  # in the midst of what the server says
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
