"""Whatever some clients do, every other one gets its own right answer: by HTTP and by gRPC, small and large."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection

import numpy as np
import psutil
import pytest

from tests.serving.conformance.clients import Client
from tests.serving.embedded.attackers import GRPC, HTTP, METRICS, Habit, attackers, head
from tests.serving.embedded.small_server import SMALL, SmallServer, small_server
from tests.serving.models import entry_config, write_model

pytestmark = pytest.mark.slow(24)

# By number of attackers, values of each of two inputs. Eight leave room for a message of 160 kB, most of what one may
# be; forty ask for ten times of what there is at once, again and again: then it is the smaller ones who are served.
SIZES = {8: 12_000, 40: 2_000}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallServer]:
    repository = tmp_path_factory.mktemp("repository")
    for name in ("doubling", "adding"):
        write_model(repository, entry_config(name, name, backend="onnxruntime"), name)
    with small_server(repository) as running:
        yield running
        # After all attacks that this process has made, which need not be all there are.
        expect_no_byte_counted(running)
        said = running.said()
        assert len(said) < 2000, said[:4000]
        assert "Traceback" not in said


def expect_no_byte_counted(server: SmallServer) -> None:
    """Requests that together hold nearly all that there is, at once, are read."""
    body = b"x" * (SMALL.message_bytes - 1000)
    open_ones = [connect(server) for _ in range(SMALL.flight_bytes // SMALL.message_bytes)]
    for one in open_ones:
        one.sendall(head(f"Content-Length: {len(body)}", "Connection: close") + body[:-1])
    for one in open_ones:
        one.sendall(body[-1:])
        assert b"failed to parse" in everything(one)


def ask_in_json(server: SmallServer) -> None:
    """A small request on a connection of its own."""
    document = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "UINT8", "data": [1, 2, 3, 4]}]}
    connection = HTTPConnection(server.http, timeout=30)
    try:
        connection.request("POST", "/v2/models/doubling/infer", json.dumps(document))
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        assert json.loads(content)["outputs"][0]["data"] == [2.0, 4.0, 6.0, 8.0]
    finally:
        connection.close()


@pytest.mark.parametrize("number", [8, 40])
@pytest.mark.parametrize("habit", [*HTTP, *METRICS, *GRPC])
def test_honest_clients_are_served(server: SmallServer, habit: Habit, number: int) -> None:
    a = np.arange(SIZES[number], dtype=np.float32)[None]
    with attackers(server, habit, number):
        for _ in range(4):
            ask_in_json(server)
            for protocol in ("http", "grpc"):
                # Each on a new connection: one that rests gives way to others, as it should.
                client = Client(server, protocol)
                total = client.infer("adding", {"a": a, "b": a}).as_numpy("total")
                np.testing.assert_array_equal(total, a + a)
                client.raw.close()
    wait_until(lambda: connections(server) <= 2)


# By what clients send before they stand still: the status that they are told when they are closed.
STANDING_STILL = {
    b"": b"",
    head(method="GET", path="/v2"): b"200",
    b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX: ": b"408",
    head("Content-Length: 100"): b"408",
    head("Content-Length: 100") + b"x": b"408",
    head("Transfer-Encoding: chunked") + b"1\r\nx\r\n": b"408",
}


@pytest.fixture(scope="module")
def said_to_who_stands_still(server: SmallServer) -> dict[bytes, bytes]:
    """What each is told until it is closed; they stand still at the same time, for that takes seconds."""
    with contextlib.ExitStack() as stack:
        standing = {sent: stack.enter_context(connect(server)) for sent in STANDING_STILL}
        for sent, one in standing.items():
            one.sendall(sent)
        return {sent: everything(one) for sent, one in standing.items()}


@pytest.mark.parametrize("sent", STANDING_STILL)
def test_who_stands_still_is_closed(said_to_who_stands_still: dict[bytes, bytes], sent: bytes) -> None:
    status = STANDING_STILL[sent]
    assert said_to_who_stands_still[sent].split(b" ", 2)[1:2] == ([status] if status else [])


def test_who_never_takes_his_answers_is_closed(server: SmallServer) -> None:
    with connect(server) as one:
        one.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                one.send(head(method="GET", path="/v2/models/adding/config") * 100)
        wait_until(lambda: connections(server) == 0)


def test_who_sends_on_for_a_while_is_waited_for(server: SmallServer) -> None:
    """For longer than a body's grace, at more than the least pace."""
    body = b"x" * (SMALL.message_bytes - 1000)
    with connect(server) as one:
        one.sendall(head(f"Content-Length: {len(body)}", "Connection: close"))
        for place in range(0, len(body), len(body) // 20):
            one.sendall(body[place : place + len(body) // 20])
            time.sleep(0.1)
        assert b"failed to parse" in everything(one)


def connect(server: SmallServer) -> socket.socket:
    host, port = server.http.split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def everything(connection: socket.socket) -> bytes:
    """All that the server says until it closes."""
    said = b""
    while part := connection.recv(65536):
        said += part
    return said


def connections(server: SmallServer) -> int:
    """How many the server has open, of all kinds."""
    found = psutil.Process(server.pid).net_connections(kind="tcp")
    return sum(one.status != psutil.CONN_LISTEN for one in found)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
