"""Bad clients and bad files: each gets a clear answer, nobody else notices, the server stays up."""

import json
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from tritonclient.grpc import service_pb2 as pb

from nanocv_cli.serving.launch import Server, started
from tests.serving.conformance.clients import Client, refusal
from tests.serving.models import entry_config, write_model
from tests.serving.mutations import mutated

pytestmark = pytest.mark.slow(14)

X = np.array([[1, 2, 3, 4]], np.uint8)
INFER = "/v2/models/doubling/infer"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    for name, graph in (("doubling", "doubling"), ("slow", "slow"), ("replaced", "doubling")):
        config = entry_config(name, graph, backend="onnxruntime")
        config.dynamic_batching.default_queue_policy.max_queue_size = 8
        write_model(folder, config, graph)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with started(repository, "embedded") as running:
        yield running


@pytest.fixture(autouse=True)
def _still_serves(server: Server) -> Iterator[None]:
    yield
    np.testing.assert_array_equal(Client(server, "http").infer("doubling", {"x": X}).as_numpy("y"), 2.0 * X)
    np.testing.assert_array_equal(Client(server, "grpc").infer("doubling", {"x": X}).as_numpy("y"), 2.0 * X)


def connect(server: Server) -> socket.socket:
    host, port = server.http.split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def request_bytes(model: str, array: np.ndarray) -> bytes:
    """A whole HTTP request with one binary tensor `x`."""
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "shape": list(array.shape),
                    "datatype": "UINT8",
                    "parameters": {"binary_data_size": array.nbytes},
                }
            ]
        }
    ).encode()
    head = (
        f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {len(header) + array.nbytes}\r\nInference-Header-Content-Length: {len(header)}\r\n\r\n"
    )
    return head.encode() + header + array.tobytes()


def ask(server: Server, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    connection = HTTPConnection(server.http, timeout=20)
    connection.request("POST", INFER, body, headers or {})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_overload_is_refused_and_memory_stays_bounded(server: Server) -> None:
    process = psutil.Process(server.pid)
    before = process.memory_info().rss
    outcomes: list[int] = []
    peak = [before]

    def hammer() -> None:
        for _ in range(4):
            with connect(server) as one:
                one.sendall(request_bytes("slow", np.repeat(X, 4, 0)))
                outcomes.append(int(one.recv(65536).split()[1]))
                peak.append(process.memory_info().rss)

    threads = [threading.Thread(target=hammer) for _ in range(80)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 320
    assert set(outcomes) == {200, 503}
    assert max(peak) - before < 200 << 20


def test_clients_that_vanish_mid_request(server: Server) -> None:
    whole = request_bytes("slow", X)
    for cut in (1, 20, len(whole) - 2, len(whole)):
        for _ in range(10):
            with connect(server) as one:
                one.sendall(whole[:cut])


def test_a_slow_reader_and_a_slow_sender_hold_nobody_up(server: Server) -> None:
    with connect(server) as reader, connect(server) as sender:
        reader.sendall(request_bytes("doubling", X) * 50)
        sender.sendall(request_bytes("doubling", X)[:60])
        start = time.monotonic()
        client = Client(server, "http")
        for _ in range(20):
            client.infer("doubling", {"x": X})
        assert time.monotonic() - start < 10
        time.sleep(0.2)
        received = b""
        while received.count(b"HTTP/1.1 200") < 50:
            part = reader.recv(65536)
            assert part
            received += part


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"", "failed to parse"),
        (b"[]", "expected an object"),
        (b"{", "failed to parse"),
        (b'{"inputs": 1}', "'inputs'"),
        (b'{"inputs": [1]}', "every input needs a 'name'"),
        (b'{"inputs": [{"name": "x"}]}', "invalid datatype"),
        (b'{"inputs": [{"name": "x", "datatype": "UINT8", "shape": [-1, 4], "data": []}]}', "'shape'"),
        (b'{"inputs": [{"name": "x", "datatype": "UINT8", "shape": [1, 4]}]}', "no field is set"),
        (b'{"inputs": [{"name": "x", "datatype": "UINT8", "shape": [1, 4], "data": [1]}]}', "true shape"),
        (b'{"inputs": [{"name": "x", "datatype": "UINT8", "shape": [1, 4], "data": [1, 2, 3, 256]}]}', "beyond UINT8"),
        (b'{"inputs": [{"name": "x", "datatype": "UINT8", "shape": [1, 4], "data": "abcd"}]}', "expected a list"),
        (b'{"id": 5, "inputs": []}', "'id'"),
        (b'{"inputs": [], "outputs": {}}', "'outputs'"),
        (b'{"inputs": [], "parameters": {"timeout": "soon"}}', "'timeout'"),
        (
            b'{"inputs": [{"name": "x", "datatype": "UINT8", "shape": [1, 4], '
            b'"parameters": {"shared_memory_region": "r"}}]}',
            "shared memory",
        ),
        (b"[" * 100_000, "failed to parse"),
    ],
)
def test_documents_that_are_no_requests(server: Server, document: bytes, words: str) -> None:
    status, answer = ask(server, document)
    assert status in (400, 501)
    assert words in answer["error"]


@pytest.mark.parametrize(
    ("length", "body", "words"),
    [
        ("9999", b"{}", "should be in range"),
        ("-4", b"{}", "should be in range"),
        ("many", b"{}", "should be in range"),
        (None, None, "8 additional bytes"),
    ],
)
def test_lying_lengths(server: Server, length: str | None, body: bytes | None, words: str) -> None:
    if body is None:
        tensor = {"name": "x", "shape": [3, 4], "datatype": "UINT8", "parameters": {"binary_data_size": 12}}
        header = json.dumps({"inputs": [tensor]}).encode()
        length, body = str(len(header)), header + bytes(4)
    status, answer = ask(server, body, {"Inference-Header-Content-Length": length or ""})
    assert status == 400
    assert words in answer["error"]


def test_a_message_beyond_the_limit(server: Server) -> None:
    with connect(server) as one:
        one.sendall(f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {1 << 40}\r\n\r\n".encode())
        assert one.recv(4096).split()[1] == b"413"
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as refused:
            call(bytes(70 << 20), timeout=30)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_ten_thousand_fuzzed_requests_change_nobodys_answer(server: Server) -> None:
    """Mutations of good requests, over both protocols, while honest clients check every one of their rows."""
    done = threading.Event()
    checked = [0]

    def honest(protocol: str) -> None:
        client, chance = Client(server, protocol), np.random.default_rng(1)
        while not done.is_set():
            x = chance.integers(0, 256, (int(chance.integers(1, 5)), 4), np.uint8)
            np.testing.assert_array_equal(client.infer("doubling", {"x": x}).as_numpy("y"), 2.0 * x)
            checked[0] += 1

    def over_http(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(1250):
            with connect(server) as one:
                one.sendall(mutated(request_bytes("doubling", X), chance))
                one.shutdown(socket.SHUT_WR)
                one.recv(4096)

    def over_grpc(seed: int) -> None:
        chance = random.Random(seed)
        good = pb.ModelInferRequest(model_name="doubling", raw_input_contents=[X.tobytes()])
        good.inputs.add(name="x", datatype="UINT8", shape=[1, 4])
        with grpc.insecure_channel(server.grpc) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            for _ in range(1250):
                try:
                    call(mutated(good.SerializeToString(), chance), timeout=20)
                except grpc.RpcError as error:
                    assert error.code() not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)

    with ThreadPoolExecutor(10) as pool:
        honest_ones = [pool.submit(honest, protocol) for protocol in ("http", "grpc")]
        fuzzers = [pool.submit(over_http, seed) for seed in range(4)] + [pool.submit(over_grpc, s) for s in range(4)]
        for fuzzer in fuzzers:
            fuzzer.result()
        done.set()
        for one in honest_ones:
            one.result()
    assert checked[0] > 20


def test_a_model_replaced_by_rubbish_is_refused_and_the_old_one_serves_on(server: Server, repository: Path) -> None:
    client, graph = Client(server, "http"), repository / "replaced" / "1" / "model.onnx"
    good = graph.read_bytes()
    for rubbish in (b"", b"rubbish", good[: len(good) // 2]):
        graph.write_bytes(rubbish)
        said = refusal(lambda: client.raw.load_model("replaced"))
        assert said.status == "500"
        assert "cannot be loaded" in said.message
        np.testing.assert_array_equal(client.infer("replaced", {"x": X}).as_numpy("y"), 2.0 * X)
    (repository / "replaced" / "config.pbtxt").write_text("max_batch_size: many", encoding="utf-8")
    assert "config.pbtxt:1" in refusal(lambda: client.raw.load_model("replaced")).message
    np.testing.assert_array_equal(client.infer("replaced", {"x": X}).as_numpy("y"), 2.0 * X)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_client_reads_no_file_of_the_server(server: Server, repository: Path, tmp_path: Path, protocol: str) -> None:
    """Neither its lines, nor whether it is there; and a pipe holds nobody up."""
    client, pipe = Client(server, protocol), tmp_path / "pipe"
    os.mkfifo(pipe)
    config = client.json("get_model_config", "doubling")
    config = config.get("config", config)
    names = ["/etc/passwd", "/no/such/file", "../../../etc/passwd", str(pipe), "../replaced/config.pbtxt"]
    said = set()
    for name in [*names, "1", "model.py", "no_such_file"]:
        for place in ("label_filename", "default_model_filename"):
            changed = json.loads(json.dumps(config))
            (changed["output"][0] if place == "label_filename" else changed)[place] = name
            text = json.dumps(changed)
            answer = refusal(lambda text=text: client.raw.load_model("doubling", config=text))  # type: ignore[misc]
            said.add(answer.message.replace(name, "NAME"))
    assert len(said) == 3  # for a name that is none, in each field; and for one that the entry's config does not have
    assert not any("root:" in message or str(repository) in message for message in said)
    classes = client.infer("doubling", {"x": X}, [client.wanted("y", class_count=1)]).as_numpy("y")
    assert classes.tolist() == [[b"8.000000:3"]]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_name_that_was_never_there_does_not_make_the_server_unready(server: Server, protocol: str) -> None:
    client = Client(server, protocol)
    before = client.json("get_model_repository_index")
    for name in ("nobody", "..", "../doubling", "x" * 3000):
        assert refusal(lambda name=name: client.raw.load_model(name)).message  # type: ignore[misc]
    assert client.raw.is_server_ready()
    assert client.json("get_model_repository_index") == before


def test_reloading_under_load_loses_no_answer(server: Server) -> None:
    done = threading.Event()

    def honest(protocol: str) -> int:
        client, asked = Client(server, protocol), 0
        while not done.is_set():
            np.testing.assert_array_equal(client.infer("doubling", {"x": X}).as_numpy("y"), 2.0 * X)
            asked += 1
        return asked

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(honest, protocol) for protocol in ("http", "grpc")]
        manager = Client(server, "http")
        for _ in range(15):
            manager.raw.load_model("doubling")
        done.set()
        assert all(one.result() > 5 for one in asking)
