"""Requests and answers in JSON: how large, how deep, and that nobody else waits for them."""

import gzip
import json
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nanocv_cli.engine.signature import to_bytes
from nanocv_cli.serving.embedded.encoding import (
    DEEPEST,
    MOST_CONTAINERS,
    byte_size,
    expect_bounded,
    parse_object,
    text_size,
    to_text,
)
from nanocv_cli.serving.embedded.faults import Fault
from nanocv_cli.serving.launch import Server, started
from tests.serving.conformance.clients import Client
from tests.serving.models import entry_config, write_model

TEXT_LIMIT = 4 << 20
X = np.array([[1, 2, 3, 4]], np.uint8)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = tmp_path_factory.mktemp("repository")
    labelled = entry_config("labelled", "adding", backend="onnxruntime")
    labelled.output[0].label_filename = "labels.txt"
    write_model(repository, labelled, "adding")
    for name in ("doubling", "adding"):
        write_model(repository, entry_config(name, name, backend="onnxruntime"), name)
    with started(repository, "embedded") as running:
        yield running


def ask(server: Server, body: bytes, path: str = "/v2/models/adding/infer", **headers: str) -> tuple[int, Any]:
    connection = HTTPConnection(server.http, timeout=60)
    try:
        connection.request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or "{}")
    finally:
        connection.close()


def document(values: int, **more: Any) -> bytes:
    """A request to `adding` for so many values."""
    tensor = {"shape": [1, values], "datatype": "FP32", "data": [1.5] * values}
    return json.dumps({"inputs": [{"name": name, **tensor} for name in "ab"], **more}, separators=(",", ":")).encode()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(max_examples=30)
@given(st.dictionaries(st.text(), json_values))
def test_what_is_not_deep_is_read_as_json_has_it(value: dict[str, Any]) -> None:
    assert parse_object(json.dumps(value).encode()) == value
    assert parse_object(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.integers(1, 200), st.sampled_from(["[]", "{}"]), st.text(alphabet='[]{}"\\', max_size=20))
def test_depth_is_bounded_whatever_strings_hold(depth: int, kind: str, string: str) -> None:
    inner = json.dumps(string)
    text = inner
    for _ in range(depth):
        text = f"[{text}]" if kind == "[]" else f"{{{json.dumps(string)}:{text}}}"
    text = f'{{"a":{text},"b":[{",".join(["[]"] * 50)}]}}'
    if depth < DEEPEST - 1:
        parse_object(text.encode())
    elif depth > DEEPEST:
        with pytest.raises(Fault, match="failed to parse"):
            parse_object(text.encode())


def test_many_containers_are_found_before_they_are_parsed() -> None:
    with pytest.raises(Fault, match="more than"):
        expect_bounded(b'{"a":[' + b"[]," * MOST_CONTAINERS + b"1]}")


tensors = st.sampled_from(
    [np.bool_, np.uint8, np.int16, np.int32, np.uint64, np.int64, np.float16, np.float32, np.float64]
).flatmap(
    lambda kind: hnp.arrays(kind, hnp.array_shapes(min_side=0, max_side=5)).filter(lambda a: bool(np.isfinite(a).all()))
)
texts = st.lists(st.text(max_size=9), max_size=6).map(lambda words: np.array([word.encode() for word in words], object))


@given(tensors | texts)
def test_sizes_are_known_before_they_are_made(array: np.ndarray) -> None:
    assert byte_size(array) == len(to_bytes(array))
    text = to_text(array)
    assert len(text) <= text_size(array) + 2
    expected = [value.decode() for value in array.ravel()] if array.dtype == object else array.ravel().tolist()
    assert json.loads(text) == expected


def test_a_request_of_much_json_is_answered(server: Server) -> None:
    status, answer = ask(server, document(200_000))
    assert status == 200
    assert answer["outputs"][0]["data"] == [3.0] * 200_000


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "path", ["/v2/models/adding/infer", "/v2/repository/index", "/v2/repository/models/adding/load"]
)
def test_more_json_is_refused(server: Server, compressed: bool, path: str) -> None:
    body = b'{"x":"' + b"a" * TEXT_LIMIT + b'"}'
    status, answer = (
        ask(server, gzip.compress(body), path, content_encoding="gzip") if compressed else ask(server, body, path)
    )
    assert status == 413
    assert "larger than 4,194,304 bytes" in answer["error"]


def test_binary_tensors_may_be_larger_than_json(server: Server) -> None:
    a = np.ones((1, 1_500_000), np.float32)
    np.testing.assert_array_equal(Client(server, "http").infer("adding", {"a": a, "b": a}).as_numpy("total"), a + a)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"outputs": [{"name": "total"}] * 1000}, "already exists in request"),
        (
            {"outputs": [{"name": "total"}, {"name": "total", "parameters": {"binary_data": True}}]},
            "already exists in request",
        ),
        ({"outputs": [{"name": f"o{number}"} for number in range(50_000)]}, "unexpected inference output 'o0'"),
        ({"id": "i" * 1001}, "'id'"),
        (
            {
                "inputs": [
                    {"name": f"i{number}", "shape": [1], "datatype": "FP32", "data": [1]} for number in range(20_000)
                ]
            },
            "expected 2 inputs but got 20000",
        ),
        ({"inputs": [{"name": "n" * 2_000_000, "shape": [1], "datatype": "FP32", "data": [1]}]}, "expected 2 inputs"),
        ({"inputs": [{"name": "a", "shape": [1] * 100_000, "datatype": "FP32", "data": [1]}]}, "'shape'"),
        ({"inputs": [{"name": "a", "shape": [1], "datatype": ["FP32"], "data": [1]}]}, "invalid datatype"),
        ({"inputs": [{"name": "a", "shape": [1], "datatype": "\\u001b[31m" * 99, "data": [1]}]}, "invalid datatype"),
        ({"inputs": [{"name": "a", "shape": [10**30], "datatype": "FP32", "data": [1]}]}, "'shape'"),
    ],
)
def test_requests_that_ask_for_too_much(server: Server, changed: dict[str, Any], words: str) -> None:
    status, answer = ask(server, document(3, **changed))
    assert status == 400
    assert words in answer["error"]
    assert len(answer["error"]) <= 1000
    assert answer["error"].isprintable()


def test_an_answer_too_large_for_json(server: Server) -> None:
    a = np.ones((1, 3_000_000), np.float32)
    client = Client(server, "http")
    wanted = [client.wanted("total", binary_data=False)]
    with pytest.raises(Exception, match="ask for it as binary data"):
        client.infer("adding", {"a": a, "b": a}, wanted)


def test_all_labels_of_a_large_output(server: Server) -> None:
    a = np.arange(30_000, dtype=np.float32)[None]
    for protocol in ("http", "grpc"):
        client = Client(server, protocol)
        best = client.infer("labelled", {"a": a, "b": a}, [client.wanted("total", class_count=10**9)]).as_numpy("total")
        assert best.shape == (1, 30_000)
        assert best[0, 0] == b"59998.000000:29999"
        assert best[0, -4:].tolist() == [
            b"6.000000:3:west",
            b"4.000000:2:south",
            b"2.000000:1:east",
            b"0.000000:0:north",
        ]


HOSTILE = {
    "lists": b'{"inputs":[' + b"[]," * 250_000 + b"1]}",
    "objects": b'{"inputs":[' + b'{"":0},' * 250_000 + b"1]}",
    "numbers": b'{"inputs":[' + b"1," * 2_000_000 + b"1]}",
    "strings": b'{"inputs":["' + b"\\u00e9" * 600_000 + b'"]}',
    "deep": b"[" * 4_000_000,
    "digits": b'{"inputs":[' + b"1" * 4_000_000 + b"]}",
    "quotes": b'{"inputs":[' + b"[]," * 50 + b'"' * 3_900_000,
}


def test_nobody_waits_long_for_hostile_texts_and_memory_stays_bounded(server: Server) -> None:
    bomb = gzip.compress(bytes(300 << 20), 1)
    done, slowest = threading.Event(), [0.0]
    process = psutil.Process(server.pid)

    def honest() -> None:
        client = Client(server, "http")
        while not done.is_set():
            started_at = time.monotonic()
            np.testing.assert_array_equal(client.infer("doubling", {"x": X}).as_numpy("y"), 2.0 * X)
            slowest[0] = max(slowest[0], time.monotonic() - started_at)

    ask(server, document(100_000))
    before, peak = process.memory_info().rss, 0
    thread = threading.Thread(target=honest)
    thread.start()
    try:
        for body in HOSTILE.values():
            assert ask(server, body)[0] == 400
            peak = max(peak, process.memory_info().rss)
        for _ in range(3):
            assert ask(server, bomb, content_encoding="gzip")[0] == 413
            peak = max(peak, process.memory_info().rss)
    finally:
        done.set()
        thread.join()
    # It is some hundredths of a second where the processor is free.
    assert slowest[0] < 5
    assert peak - before < 400 << 20
