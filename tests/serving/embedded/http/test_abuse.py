"""Requests made to do harm, beside honest clients: each gets a refusal of its own, and nothing else is different."""

import itertools
import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.serving.embedded.attackers import head
from tests.serving.embedded.honest import honest_clients
from tests.serving.embedded.small_server import SmallServer

pytestmark = pytest.mark.slow(8)

INFER = "/v2/models/doubling/infer"
GOOD = {"name": "x", "shape": [1, 4], "datatype": "UINT8", "data": [1, 2, 3, 4]}
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]+\r\n")
CLOSE = "Connection: close"
CHUNKED = "Transfer-Encoding: chunked"

METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE")
PATHS = (
    "/", "//", "/v2", "/v2/", "//v2//models", "/v2/../v2", "/v2/./health/live", "/v2/health/live/../../models/doubling",
    "/v2/%2e%2e/etc/passwd", "/v2/models/..%2f..%2fetc%2fpasswd/config", "/v2/models/doubling%00/config",
    "/v2/models/%252e%252e/config", "/v2/models/doubling;x=y/config", "/v2/models/doubling/versions/-1",
    "/v2/models/doubling/versions/99999999999999999999", "/v2/models//infer", "/v2/repository/models/..%2f/load",
    "/v2?" + "q=1&" * 2000, "/v2/models/" + "n" * 10_000, "/v2/models/" + "/".join("m" * 40),
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _others_notice_nothing(usual_server: SmallServer) -> Iterator[None]:
    said = usual_server.said()
    with honest_clients(usual_server):
        yield
    assert usual_server.said() == said  # no line of what was done to it


def connect(server: SmallServer) -> socket.socket:
    host, port = server.http.split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def said_to(server: SmallServer, content: bytes) -> bytes:
    """All that is answered, until the server closes or has nothing more to say."""
    with connect(server) as one:
        one.sendall(content)
        one.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: one.recv(1 << 16), b""))


def ask(server: SmallServer, document: Any, *headers: str, path: str = INFER) -> tuple[int, dict[str, Any]]:
    """Status and document that answer a body of JSON, or of bytes."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    answer = said_to(server, head(f"Content-Length: {len(body)}", CLOSE, *headers, path=path) + body)
    return int(answer[9:12]), json.loads(answer.partition(b"\r\n\r\n")[2])


def refusal(server: SmallServer, document: Any, path: str = INFER) -> str:
    """The words of a refusal, which are few and can be printed."""
    status, answer = ask(server, document, path=path)
    words = str(answer["error"])
    assert status in (400, 404, 413)
    assert len(words) <= 1000
    assert words.isprintable()
    return words


def test_any_path_by_any_method(usual_server: SmallServer) -> None:
    pairs = list(itertools.product(PATHS, METHODS))
    content = b"".join(head("Content-Length: 0", method=method, path=path) for path, method in pairs)
    found = [int(status) for status in STATUS.findall(said_to(usual_server, content))]
    assert len(found) == len(pairs)
    answers = dict(zip(pairs, found, strict=True))
    right = {pair for pair, status in answers.items() if status == 200}
    assert right == {(path, method) for path in ("/", "/v2", "/v2/", PATHS[17]) for method in ("GET", "HEAD")}
    assert answers.pop(("/v2/repository/models/..%2f/load", "POST")) == 500  # a load that failed, as Triton says it
    assert set(answers.values()) == {200, 400, 404, 405}


def in_chunks(body: bytes, size: int, extension: bytes = b"") -> bytes:
    whole = len(body) // size * size
    parts = np.frombuffer(body[:whole], np.uint8).reshape(-1, size)
    begin = np.frombuffer(b"%x%b\r\n" % (size, extension), np.uint8)
    end = np.frombuffer(b"\r\n", np.uint8)
    rows = (np.broadcast_to(begin, (len(parts), len(begin))), parts, np.broadcast_to(end, (len(parts), 2)))
    rest = b"%x\r\n%b\r\n" % (len(body) - whole, body[whole:]) if whole < len(body) else b""
    return np.concatenate(rows, axis=1).tobytes() + rest


@pytest.mark.parametrize(
    ("chunks", "extension"), [(1_000_000, b""), (2_000, b";" + b"x" * 5000), (2_000, b';n="v\t ;\xff"')]
)
def test_a_body_in_a_million_chunks(usual_server: SmallServer, chunks: int, extension: bytes) -> None:
    """Of six bytes each: it is answered as if it had come in one piece."""
    values = chunks * 6 // 8
    a = np.arange(values, dtype=np.float32)
    tensors = [
        {"name": name, "shape": [1, values], "datatype": "FP32", "parameters": {"binary_data_size": a.nbytes}}
        for name in ("a", "b")
    ]
    text = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
    headers = CHUNKED, f"Inference-Header-Content-Length: {len(text)}", CLOSE
    body = in_chunks(text + a.tobytes() * 2, 6, extension)
    answer = said_to(usual_server, head(*headers, path="/v2/models/adding/infer") + body + b"0\r\nX: trailer\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200"), answer[:400]
    np.testing.assert_array_equal(np.frombuffer(answer[-a.nbytes :], np.float32), a + a)


SMUGGLED = head(method="GET", path="/v2")
BODY = json.dumps({"inputs": [GOOD]}).encode()


@pytest.mark.parametrize(
    "lines",
    [
        f"Content-Length: {len(BODY)}\r\n{CHUNKED}",
        f"{CHUNKED}\r\nContent-Length: {len(BODY)}",
        f"Content-Length: {len(BODY)}, {len(BODY)}",
        f"Content-Length: {len(BODY)}\r\nContent-Length: 0",
        f"Content-Length: {len(BODY)} 0",
        f"Content-Length: +{len(BODY)}",
        f"Content-Length: {2**64 + len(BODY)}",
        f"Content-Length : {len(BODY)}",
        f"Content-Length:\r\n {len(BODY)}",
        f"X: y\r\n\tContent-Length: 0\r\nContent-Length: {len(BODY)}",
        f"X: y\nContent-Length: {len(BODY)}",
        f"X: y\rContent-Length: {len(BODY)}",
        f"X: a\0b\r\nContent-Length: {len(BODY)}",
        f"X\0: a\r\nContent-Length: {len(BODY)}",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding:\x0bchunked",
        "Transfer_Encoding: chunked\r\nContent-Length: 5, 5",
        f"Host: other\r\nContent-Length: {len(BODY)}",
    ],
)
def test_a_head_of_two_meanings_has_none(usual_server: SmallServer, lines: str) -> None:
    """Neither it nor what another reader may take for the next request is answered, but by one refusal."""
    content = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n\r\n".encode("latin-1") + BODY + SMUGGLED
    found = STATUS.findall(said_to(usual_server, content))
    assert len(found) == 1
    assert found[0] in (b"400", b"501")


@pytest.mark.parametrize(
    "chunks",
    [
        b"5\r\nhello\r\n-1\r\n\r\n",
        b"g\r\nhello\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\n0\n\n",
        b"5\r\nhello0\r\n\r\n",
        b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5;\n\r\nhello\r\n0\r\n\r\n",
        b"0\r\nX: a\r\n b\r\n\r\n",
        b"0\r\nX\0: a\r\n\r\n",
    ],
)
def test_a_chunk_of_two_lengths_has_none(usual_server: SmallServer, chunks: bytes) -> None:
    assert STATUS.findall(said_to(usual_server, head(CHUNKED) + chunks + SMUGGLED)) == [b"400"]


def test_a_chunk_larger_than_there_is_has_no_end(usual_server: SmallServer) -> None:
    """What follows belongs to it, whatever it looks like."""
    assert said_to(usual_server, head(CHUNKED) + b"ffffffffffffffff\r\n" + SMUGGLED) == b""


def test_outputs_by_the_thousand(usual_server: SmallServer) -> None:
    for names in (["y"] * 5000, [f"y{number}" for number in range(5000)]):
        refused = refusal(usual_server, {"inputs": [GOOD], "outputs": [{"name": name} for name in names]})
        assert "'y'" in refused or "'y0'" in refused


@pytest.mark.parametrize(
    "shape",
    [
        [2**31, 2**32], [2**62, 4], [2**63], [2**64, 1], [2**32, 2**32], [1, 2**63 + 4], [-1, -4], [1, -4],
        [2**39] * 16, [1e3], [True, 4], ["1", 4], [[1], 4], [None], [1] * 5000, 4, {"0": 1}, [0, 2**40 - 1],
    ],
)  # fmt: skip
def test_shapes_that_nothing_has(usual_server: SmallServer, shape: Any) -> None:
    """Their product is beyond 64 bits, or 4 by overflow, or no number."""
    for tensor in (
        {**GOOD, "shape": shape},
        {"name": "x", "shape": shape, "datatype": "UINT8", "parameters": {"binary_data_size": 0}},
    ):
        assert refusal(usual_server, {"inputs": [tensor]})


@pytest.mark.parametrize("size", [-1, 2**63, 1e9, "4", True, [4], None])
def test_sizes_that_nothing_has(usual_server: SmallServer, size: Any) -> None:
    tensor = {"name": "x", "shape": [1, 4], "datatype": "UINT8", "parameters": {"binary_data_size": size}}
    assert refusal(usual_server, {"inputs": [tensor]})


def test_json_that_is_deep(usual_server: SmallServer) -> None:
    for opened, closed in (("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")):
        deep = opened * 100_000 + "1" + closed * 100_000
        for text in (deep, f'{{"inputs": [{{"name": "x", "parameters": {deep}}}]}}'):
            assert "failed to parse" in refusal(usual_server, text.encode())


@pytest.mark.parametrize("value", ["1e999", "-1e999", "1e39", "1" + "0" * 400, "1" * 5000, "1" * 50])
def test_numbers_beyond_a_type(usual_server: SmallServer, value: str) -> None:
    for path, tensor in ((INFER, GOOD), ("/v2/models/adding/infer", {**GOOD, "name": "a", "datatype": "FP32"})):
        text = json.dumps({"inputs": [{**tensor, "data": [0]}]}).replace("[0]", f"[{value}, 1, 1, 1]")
        assert refusal(usual_server, text.encode(), path)


def test_nan_passes_as_bytes_and_not_as_json(usual_server: SmallServer) -> None:
    values = np.array([[np.nan, np.inf, -np.inf, 3e38]], np.float32)
    tensors = [
        {"name": name, "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}} for name in "ab"
    ]
    for binary in (True, False):
        text = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": binary}}).encode()
        lengths = f"Content-Length: {len(text) + 32}", f"Inference-Header-Content-Length: {len(text)}", CLOSE
        answer = said_to(usual_server, head(*lengths, path="/v2/models/adding/infer") + text + values.tobytes() * 2)
        if binary:
            with np.errstate(over="ignore"):
                np.testing.assert_array_equal(np.frombuffer(answer[-16:], np.float32), (values + values)[0])
        else:
            assert answer.startswith(b"HTTP/1.1 400")
            assert b"NaN or infinity" in answer


@pytest.mark.parametrize(
    "name", ["a\0b", "..", "../../etc/passwd", "%2e%2e%2f", "n" * 10_000, "\x1b[31m", "\ud800", ""]
)
def test_names_that_nothing_has(usual_server: SmallServer, name: str) -> None:
    assert refusal(usual_server, {"inputs": [{**GOOD, "name": name}]})
    assert refusal(usual_server, {"inputs": [{**GOOD, "datatype": name}]})
    assert refusal(usual_server, {"inputs": [GOOD], "outputs": [{"name": name}]})
    assert refusal(usual_server, {"inputs": [GOOD, {**GOOD, "name": name}]})
