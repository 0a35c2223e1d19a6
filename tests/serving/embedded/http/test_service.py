"""HTTP itself: what a well-behaved client may do, and what a badly behaved one may not."""

import gzip
import json
import socket
import struct
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
    write_model(repository, entry_config("adding", "adding"), "adding")
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
    # Where the answer took long, such a client is asked whether it is there.
    return received.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")


def post(body: bytes, *headers: str, path: str = "/v2/models/doubling/infer") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def chunked(body: bytes, *headers: str, trailers: str = "") -> bytes:
    """The same in small chunks."""
    lines = [
        "POST /v2/models/doubling/infer HTTP/1.1",
        *("Host: localhost", "Transfer-Encoding: chunked", "Connection: close"),
        *headers,
    ]
    parts = [body[place : place + 7] for place in range(0, len(body), 7)]
    chunks = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts)
    return "\r\n".join([*lines, "", ""]).encode() + chunks + f"0\r\n{trailers}\r\n".encode()


def test_pipelined_requests_are_answered_in_their_order(server: Server) -> None:
    def numbered(number: int) -> bytes:
        return post(json.dumps({**DOCUMENT, "id": str(number)}).encode())

    received = send(server, b"".join(map(numbered, range(40))) + post(BODY, "Connection: close"))
    places = [received.index(f'"id":"{number}"'.encode()) for number in range(40)]
    assert places == sorted(places)
    assert received.count(b"HTTP/1.1 200 OK") == 41
    assert received.count(b"Connection: close") == 1


def test_requests_that_differ_in_their_numbers_alone(server: Server) -> None:
    """What their text says is read once; numbers, and whether they are as many as it says, are looked at each time."""
    a, b = ({"name": name, "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}} for name in "ab")
    # The graph's second input comes first; of the one output, its bytes.
    text = json.dumps({"inputs": [b, a], "parameters": {"binary_data_output": True}}).encode()
    length = f"Inference-Header-Content-Length: {len(text)}"
    first, second = struct.pack("<4f", 1, 2, 30, 40), struct.pack("<4f", 5, 6, 700, 800)
    path = "/v2/models/adding/infer"
    sent = [post(text + numbers, length, path=path) for numbers in (first, second, second + b"more", first)]
    sent.append(post(text + second[:9], length, "Connection: close", path=path))
    answers = send(server, b"".join(sent)).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200", b"200", b"400", b"200", b"400"]
    sums = [struct.unpack("<2f", answers[place][-8:]) for place in (0, 1, 3)]
    assert sums == [(31, 42), (705, 806), (31, 42)]


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
    assert b'"data":[2.0,4.0,6.0,8.0]' in send(server, chunked(BODY))


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
    answer = send(server, b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
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
        (b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"POST /v2/models/doubling/infer HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"CONNECT /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"405"),
        (b"GET /v2/nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET /v1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET /v2/models/doubling/infer HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"405"),
        (b"GET /v2/systemsharedmemory/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"501"),
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


@pytest.mark.parametrize(
    "path", ["/v2", "/v2/health/live", "/v2/models/doubling", "/v2/models/nobody", "/v2/models/stats", "/nowhere"]
)
def test_head_is_get_without_the_body(server: Server, path: str) -> None:
    rest = f" {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: 7\r\nConnection: close\r\n\r\n".encode()
    got, headed = send(server, b"GET" + rest), send(server, b"HEAD" + rest)
    assert headed == got.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def test_head_leaves_the_next_answer_alone(server: Server) -> None:
    both = b"HEAD /v2 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert send(server, both).split(b"\r\n\r\n")[1].startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v2", b"GET, HEAD"),
        ("HEAD", "/v2/models/doubling/infer", b"POST"),
        ("OPTIONS", "/v2/models/doubling/infer", b"POST"),
        ("DELETE", "/v2/repository/models/doubling/unload", b"POST"),
    ],
)
def test_the_wrong_method_is_told_the_right_one(server: Server, method: str, path: str, allowed: bytes) -> None:
    answer = send(server, f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 405")
    assert b"\r\nAllow: " + allowed + b"\r\n" in answer


def test_a_trailer_changes_nothing(server: Server) -> None:
    trailers = "Content-Encoding: gzip\r\nInference-Header-Content-Length: 1\r\nHost: evil.example\r\n"
    assert b'"data":[2.0,4.0,6.0,8.0]' in send(server, chunked(BODY, trailers=trailers))


@pytest.mark.parametrize("header", ["Host: evil.example", "Host: localhost\r\nOrigin: http://evil.example"])
@pytest.mark.parametrize("address", ["http", "metrics"])
def test_pages_of_others_are_refused_on_every_port(server: Server, header: str, address: str) -> None:
    asked = f"GET /metrics HTTP/1.1\r\n{header}\r\nContent-Length: 5\r\n\r\n"  # before the body is here
    answer = send_to(getattr(server, address), asked.encode())
    assert answer.split(b" ", 2)[1] in (b"403", b"421")
    assert b"Connection: close" in answer
    assert b"Access-Control-Allow" not in answer


def test_a_refusal_waits_for_the_answers_before_it(server: Server) -> None:
    answers = send(server, post(BODY) + b"GET /v2 HTTP/1.1\r\nHost: evil.example\r\n\r\n" + post(BODY))
    assert [answer[:3] for answer in answers.split(b"HTTP/1.1 ")[1:]] == [b"200", b"421"]


@pytest.mark.parametrize(
    "name",
    [
        "%00",
        "a%0d%0aSet-Cookie:%20x",
        "%ff%fe",
        "%c3%28",
        "%",
        "%zz",
        "%1b[31m",
        "..",
        "%2e%2e%2fetc",
        "n" * 50_000,
        "%f0%9f%8c%b8",
    ],
)
@pytest.mark.parametrize(
    "path", ["/v2/models/{}", "/v2/models/{}/infer", "/v2/models/{}/versions/{}", "/v2/repository/models/{}/unload"]
)
def test_names_that_nothing_has(server: Server, name: str, path: str) -> None:
    method = "POST" if path.endswith(("infer", "unload")) else "GET"
    target = path.format(name, name)
    answer = send(server, f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer.split(b" ", 2)[1] in (b"400", b"404") or (path.endswith("unload") and b" 200 " in answer[:20])
    if body := answer.partition(b"\r\n\r\n")[2]:
        said = json.loads(body)["error"]
        assert len(said) <= 1000
        assert said.isprintable()


def send_to(address: str, content: bytes) -> bytes:
    return send(Server(address, "", "", 0), content)


def test_large_requests_may_be_pipelined(server: Server) -> None:
    """More than is read ahead: each waits for the one before it, and then goes on."""
    answers = send(server, post(b"x" * 300_000) * 6 + post(BODY, "Connection: close"))
    assert [answer[:3] for answer in answers.split(b"HTTP/1.1 ")[1:]] == [b"400"] * 6 + [b"200"]
