"""HTTP itself: what a well-behaved client may do, and what a badly behaved one may not."""

import gzip
import json
import socket
import zlib
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from nanocv_cli.serving.launch import Server, started
from tests.serving.models import entry_config, write_model

DOCUMENT = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "UINT8", "data": [1, 2, 3, 4]}]}
BODY = json.dumps(DOCUMENT).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = tmp_path_factory.mktemp("repository")
    write_model(repository, entry_config("doubling", "doubling"), "doubling")
    write_model(repository, entry_config("a model", "doubling"), "doubling")
    with started(repository, "embedded") as running:
        yield running


def send(server: Server, content: bytes) -> bytes:
    """Everything the server says to these bytes until it closes or has nothing more to say."""
    host, port = server.http.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as one:
        one.sendall(content)
        one.shutdown(socket.SHUT_WR)
        received = b""
        while part := one.recv(65536):
            received += part
    return received


def post(body: bytes, *headers: str, path: str = "/v2/models/doubling/infer") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def test_pipelined_requests_are_answered_in_their_order(server: Server) -> None:
    def numbered(number: int) -> bytes:
        return post(json.dumps({**DOCUMENT, "id": str(number)}).encode())

    received = send(server, b"".join(map(numbered, range(40))) + post(BODY, "Connection: close"))
    places = [received.index(f'"id":"{number}"'.encode()) for number in range(40)]
    assert places == sorted(places)
    assert received.count(b"HTTP/1.1 200 OK") == 41
    assert received.count(b"Connection: close") == 1


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_compressed_requests(server: Server, compress: object) -> None:
    assert callable(compress)
    encoding = {gzip.compress: "gzip", zlib.compress: "deflate"}[compress]  # type: ignore[index]
    body = compress(BODY)
    answer = send(server, post(body, f"Content-Encoding: {encoding}", "Connection: close"))
    assert b'"data":[2.0,4.0,6.0,8.0]' in answer


def test_a_compressed_bomb(server: Server) -> None:
    body = gzip.compress(bytes(100 << 20))
    assert b"413" in send(server, post(body, "Content-Encoding: gzip", "Connection: close")).split(b"\r\n")[0]


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_damaged_or_unknown_compression(server: Server, encoding: str) -> None:
    answer = send(server, post(BODY, f"Content-Encoding: {encoding}", "Connection: close"))
    assert answer.startswith(b"HTTP/1.1 400")


def test_chunked_requests(server: Server) -> None:
    head = (
        "POST /v2/models/doubling/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    parts = [BODY[place : place + 7] for place in range(0, len(BODY), 7)]
    chunks = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts)
    assert b'"data":[2.0,4.0,6.0,8.0]' in send(server, head.encode() + chunks + b"0\r\n\r\n")


def test_a_client_that_asks_before_it_sends(server: Server) -> None:
    host, port = server.http.split(":")
    request = post(BODY, "Expect: 100-continue")
    with socket.create_connection((host, int(port)), timeout=20) as one:
        one.sendall(request[: -len(BODY)])
        assert one.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        one.sendall(BODY)
        assert one.recv(4096).startswith(b"HTTP/1.1 200 OK")


def test_old_clients_are_answered_and_closed(server: Server) -> None:
    answer = send(server, b"GET /v2/health/live HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"Connection: close" in answer


def test_an_offered_upgrade_is_passed_over(server: Server) -> None:
    answer = send(server, b"GET /v2 HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b'"name":"nanocv"' in answer


def test_names_may_be_percent_encoded(server: Server) -> None:
    connection = HTTPConnection(server.http, timeout=20)
    connection.request("GET", "/v2/models/a%20model/versions/1?x=y")
    assert json.loads(connection.getresponse().read())["name"] == "a model"


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"hello\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"POST /v2/models/doubling/infer HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"CONNECT /v2 HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
        (b"GET /v2/nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET /v2/models/doubling/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"405"),
        (b"GET /v2/systemsharedmemory/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"501"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
    ],
)
def test_what_is_no_request_of_ours(server: Server, content: bytes, status: bytes) -> None:
    answer = send(server, content)
    assert answer.split(b" ", 2)[1] == status
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


def test_metrics_have_a_port_of_their_own(server: Server) -> None:
    for address, path, status in (
        (server.metrics, "/metrics", 200),
        (server.metrics, "/v2", 404),
        (server.http, "/metrics", 404),
    ):
        connection = HTTPConnection(address, timeout=20)
        connection.request("GET", path)
        assert connection.getresponse().status == status
