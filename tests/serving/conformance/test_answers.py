"""Answers, descriptions, errors and statistics: the same questions to both engines over both protocols."""

import asyncio
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc.aio as grpc_aio
from tritonclient.utils import InferenceServerException

from tests.serving.conformance.clients import PROTOCOLS, Client, Refusal, refusal
from tests.serving.conformance.conftest import Engine
from tests.serving.models import TABLE

pytestmark = pytest.mark.slow(40)

X = np.array([[1, 2, 3, 4]], np.uint8)


@pytest.fixture(params=PROTOCOLS)
def client(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Client]:
    client = Client(engine.server, request.param)
    yield client
    client.raw.close()


def test_an_answer(client: Client, doubling: str) -> None:
    answer = client.infer(doubling, {"x": X}, request_id="seven")
    np.testing.assert_array_equal(answer.as_numpy("y"), 2.0 * X)
    response = answer.get_response() if client.protocol == "http" else client_json(answer)
    assert response["id"] == "seven"
    assert (response["model_name"], response["model_version"]) == (doubling, "1")
    assert response["outputs"][0]["datatype"] == "FP32"


def client_json(answer: Any) -> dict[str, Any]:
    document: dict[str, Any] = answer.get_response(as_json=True)
    return document


def test_several_rows_and_several_inputs(client: Client) -> None:
    a, b = np.float32([[1, 2, 3], [4, 5, 6]]), np.float32([[10, 20, 30], [40, 50, 60]])
    np.testing.assert_array_equal(client.infer("adding", {"b": b, "a": a}).as_numpy("total"), a + b)


def test_a_model_without_batching_takes_whole_shapes(client: Client) -> None:
    x = np.arange(28, dtype=np.uint8).reshape(7, 4)
    np.testing.assert_array_equal(client.infer("single", {"x": x}).as_numpy("y"), 2.0 * x)


def test_classification(client: Client) -> None:
    x = np.array([[9, 1, 5, 200], [1, 2, 3, 0]], np.uint8)
    best = client.infer("labelled", {"x": x}, [client.wanted("y", class_count=2)]).as_numpy("y")
    assert best.tolist() == [
        [b"400.000000:3:west", b"18.000000:0:north"],
        [b"6.000000:2:south", b"4.000000:1:east"],
    ]
    assert client.infer("labelled", {"x": x}, [client.wanted("y", class_count=99)]).as_numpy("y").shape == (2, 4)


def test_versions(client: Client) -> None:
    assert client.json("get_model_metadata", "labelled")["versions"] == ["1", "3"]
    assert client.raw.is_model_ready("labelled", "1")
    assert not client.raw.is_model_ready("labelled", "2")
    for version in ("", "1", "3"):
        answer = client.infer("labelled", {"x": X}, model_version=version)
        response = answer.get_response() if client.protocol == "http" else client_json(answer)
        assert response["model_version"] == (version or "3")


def test_health_and_metadata(client: Client, engine: Engine) -> None:
    assert client.raw.is_server_live()
    assert client.raw.is_server_ready()
    assert client.raw.is_model_ready("adding")
    assert not client.raw.is_model_ready("nobody")
    server = client.json("get_server_metadata")
    assert server["name"] == {"embedded": "nanocv", "triton": "triton"}[engine.name]
    assert {"binary_tensor_data", "statistics", "model_configuration", "classification"} <= set(server["extensions"])
    metadata = client.json("get_model_metadata", "adding")
    shape = metadata["inputs"][0]["shape"]
    assert [int(size) for size in shape] == [-1, -1]
    assert {tensor["name"]: tensor["datatype"] for tensor in metadata["inputs"]} == {"a": "FP32", "b": "FP32"}
    assert metadata["platform"] == "python"


def test_the_config_comes_with_its_defaults(client: Client, doubling: str) -> None:
    config = client.json("get_model_config", doubling)
    config = config.get("config", config)
    assert config["max_batch_size"] == 4
    assert config["dynamic_batching"]["preferred_batch_size"] == [4]
    assert config["instance_group"][0]["count"] == 1
    assert config["instance_group"][0]["name"] == f"{doubling}_0"
    assert [int(size) for size in config["input"][0]["dims"]] == [4]
    assert config["version_policy"]["latest"]["num_versions"] == 1


def test_the_index(client: Client) -> None:
    index = client.json("get_model_repository_index")
    lines = index if client.protocol == "http" else index["models"]
    ready = {(line["name"], line["version"]) for line in lines if line.get("state") == "READY"}
    assert {("doubling", "1"), ("labelled", "1"), ("labelled", "3"), ("adding", "1")} <= ready


INVALID = {"http": "400", "grpc": "StatusCode.INVALID_ARGUMENT"}
MISSING = {"http": "404", "grpc": "StatusCode.NOT_FOUND"}
UNKNOWN_ID = "[request id: <id_unknown>] "


def refusals(client: Client) -> dict[str, tuple[Refusal, str, dict[str, str]]]:
    """Bad requests with what is expected: (what the server said, Triton's words, status)."""
    infer, tensor, raw = client.infer, client.tensor, client.raw
    return {
        "unknown model": (
            refusal(lambda: infer("nobody", {"x": X})),
            "Request for unknown model: 'nobody' is not found",
            MISSING,
        ),
        "unknown version": (
            refusal(lambda: infer("doubling", {"x": X}, model_version="9")),
            "Request for unknown model: 'doubling' version 9 is not found",
            MISSING,
        ),
        "unknown input": (
            refusal(lambda: infer("doubling", {"z": X})),
            "unexpected inference input 'z' for model 'doubling'",
            INVALID,
        ),
        "no input": (
            refusal(lambda: infer("doubling", {})),
            UNKNOWN_ID + "expected 1 inputs but got 0 inputs for model 'doubling'. Got input(s) [], but missing "
            "required input(s) ['x']. Please provide all required input(s).",
            INVALID,
        ),
        "one input of two": (
            refusal(lambda: infer("adding", {"a": np.float32([[1]])})),
            UNKNOWN_ID + "expected 2 inputs but got 1 inputs for model 'adding'. Got input(s) ['a'], but missing "
            "required input(s) ['b']. Please provide all required input(s).",
            INVALID,
        ),
        "twice the same": (
            refusal(lambda: raw.infer("doubling", [tensor("x", X), tensor("x", X)])),
            UNKNOWN_ID + "input 'x' already exists in request",
            INVALID,
        ),
        "wrong type": (
            refusal(lambda: infer("doubling", {"x": X.astype(np.float32)})),
            UNKNOWN_ID + "inference input 'x' data-type is 'FP32', but model 'doubling' expects 'UINT8'",
            INVALID,
        ),
        "wrong shape": (
            refusal(lambda: infer("doubling", {"x": X[:, :3]}, request_id="mine")),
            "[request id: mine] unexpected shape for input 'x' for model 'doubling'. Expected [-1,4], got [1,3]. "
            "NOTE: Setting a non-zero max_batch_size",
            INVALID,
        ),
        "too many rows": (
            refusal(lambda: infer("doubling", {"x": np.repeat(X, 5, 0)})),
            UNKNOWN_ID + "inference request batch-size must be <= 4 for 'doubling'",
            INVALID,
        ),
        "unknown output": (
            refusal(lambda: infer("doubling", {"x": X}, [client.wanted("z")])),
            "unexpected inference output 'z' for model 'doubling'",
            INVALID,
        ),
        "too few bytes": (
            refusal(lambda: raw.infer("doubling", [tensor("x", X, shape=(2, 4))])),
            UNKNOWN_ID + "input byte size mismatch for input 'x' for model 'doubling'. Expected 8, got 4",
            INVALID,
        ),
        "metadata of nobody": (
            refusal(lambda: raw.get_model_metadata("nobody")),
            "Request for unknown model: 'nobody' is not found",
            MISSING,
        ),
        "config of nobody": (
            refusal(lambda: raw.get_model_config("nobody")),
            "Request for unknown model: 'nobody' is not found",
            MISSING,
        ),
        "statistics of nobody": (
            refusal(lambda: raw.get_inference_statistics("nobody")),
            "requested model 'nobody' is not available",
            INVALID,
        ),
    }


def test_errors_have_the_same_words_and_status(client: Client) -> None:
    for case, (said, words, status) in refusals(client).items():
        assert said.message.startswith(words), f"{case}: {said}"
        assert said.status == status[client.protocol], f"{case}: {said}"


def test_loading_what_is_not_there_fails(client: Client) -> None:
    said = refusal(lambda: client.raw.load_model("nobody"))
    assert said.message.startswith("failed to load 'nobody'")
    assert said.status == {"http": "500", "grpc": "StatusCode.INTERNAL"}[client.protocol]
    client.raw.unload_model("nobody")  # no error: Triton has none either


def test_a_row_that_fails_does_not_take_the_others_with_it(client: Client) -> None:
    """Requests that share a batch with a bad one still get their own rows."""
    answers: dict[int, Any] = {}

    def ask(number: int) -> None:
        own = Client(client.server, client.protocol)  # a connection is one thread's
        try:
            index = np.array([[number]], np.int64)
            answers[number] = own.infer("looking_up", {"index": index}).as_numpy("row")
        except InferenceServerException as error:
            answers[number] = error

    numbers = [*range(10), 99]
    for _ in range(5):
        threads = [threading.Thread(target=ask, args=(number,)) for number in numbers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number in range(10):
            np.testing.assert_array_equal(answers[number], TABLE[number].reshape(1, 1, 2))
        assert isinstance(answers[99], InferenceServerException)


def test_statistics_count_alike(engine: Engine) -> None:
    client = Client(engine.server, "grpc")
    client.raw.unload_model("adding")
    wait_until(lambda: not client.raw.is_model_ready("adding"))
    client.raw.load_model("adding")
    wait_until(lambda: client.raw.is_model_ready("adding"))
    one, three = np.ones((1, 2), np.float32), np.ones((3, 2), np.float32)
    before = statistics(client, "adding")
    for array in (one, three, three):
        client.infer("adding", {"a": array, "b": array})
    with pytest.raises(InferenceServerException):
        client.infer("adding", {"a": one})
    # Triton counts a request once its answer is on the way.
    wait_until(lambda: int(statistics(client, "adding")["inference_count"]) - int(before["inference_count"]) >= 7)
    after = statistics(client, "adding")
    assert after["inference_count"] - before["inference_count"] == 7
    assert after["execution_count"] - before["execution_count"] == 3
    for part in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert after["inference_stats"][part]["count"] - before["inference_stats"][part]["count"] == 3, part
    assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]
    assert after["inference_stats"]["fail"]["count"] == before["inference_stats"]["fail"]["count"]
    assert {int(batch["batch_size"]) for batch in after["batch_stats"]} == {1, 3}


def statistics(client: Client, model: str) -> dict[str, Any]:
    found: dict[str, Any] = Client(client.server, "http").raw.get_inference_statistics(model)["model_stats"][0]
    return found


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_metrics_have_triton_names(engine: Engine) -> None:
    client = Client(engine.server, "grpc")
    client.infer("doubling", {"x": X})
    with urllib.request.urlopen(f"http://{engine.server.metrics}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    names = {line.split("{")[0] for line in lines if not line.startswith("#")}
    assert {
        "nv_inference_request_success",
        "nv_inference_request_failure",
        "nv_inference_count",
        "nv_inference_exec_count",
        "nv_inference_request_duration_us",
        "nv_inference_queue_duration_us",
        "nv_inference_compute_input_duration_us",
        "nv_inference_compute_infer_duration_us",
        "nv_inference_compute_output_duration_us",
        "nv_inference_pending_request_count",
    } <= names
    success = next(line for line in lines if line.startswith('nv_inference_request_success{model="doubling"'))
    assert float(success.split()[-1]) >= 1


def test_a_full_queue_answers_unavailable(engine: Engine) -> None:
    """Ten times what the queue holds: some are served, the rest are refused at once, and then it serves again."""

    def ask(_: int) -> str:
        client = Client(engine.server, "grpc")
        try:
            client.infer("bounded", {"x": X})
        except InferenceServerException as error:
            assert error.message().endswith("Exceeds maximum queue size")
            return str(error.status())
        return "served"

    with ThreadPoolExecutor(30) as pool:
        outcomes = list(pool.map(ask, range(90)))
    assert set(outcomes) == {"served", "StatusCode.UNAVAILABLE"}
    assert ask(0) == "served"


def test_every_client_gets_its_own_rows_under_load(engine: Engine, doubling: str) -> None:
    """Mixed batch sizes from many clients: batches are joined and cut apart without mixing anybody's rows."""

    def ask(seed: int) -> None:
        random = np.random.default_rng(seed)
        client = Client(engine.server, PROTOCOLS[seed % 2])
        for _ in range(25):
            x = random.integers(0, 256, (int(random.integers(1, 5)), 4), np.uint8)
            np.testing.assert_array_equal(client.infer(doubling, {"x": x}).as_numpy("y"), 2.0 * x)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(ask, range(12)))


def test_grpc_aio_and_streams(engine: Engine) -> None:
    async def ask() -> None:
        async with grpc_aio.InferenceServerClient(engine.server.grpc) as client:
            tensor = grpc_aio.InferInput("x", [1, 4], "UINT8")
            tensor.set_data_from_numpy(X)
            answers = await asyncio.gather(*(client.infer("doubling", [tensor]) for _ in range(8)))
            for answer in answers:
                np.testing.assert_array_equal(answer.as_numpy("y"), 2.0 * X)

            async def requests() -> Any:
                for name in ("doubling", "nobody", "doubling"):
                    yield {"model_name": name, "inputs": [tensor], "request_id": name}

            outcomes = [(result, error) async for result, error in client.stream_infer(requests())]
            assert [error is None for _, error in outcomes] == [True, False, True]

    asyncio.run(ask())


def test_load_with_another_config(engine: Engine) -> None:
    client = Client(engine.server, "http")
    original = client.json("get_model_config", "labelled")
    config = json.loads(json.dumps(original))
    config["max_batch_size"], config["dynamic_batching"]["preferred_batch_size"] = 2, []
    client.raw.load_model("labelled", config=json.dumps(config))
    wait_until(lambda: client.json("get_model_config", "labelled")["max_batch_size"] == 2)
    said = refusal(lambda: client.infer("labelled", {"x": np.repeat(X, 3, 0)}))
    assert "batch-size must be <= 2" in said.message
    # Triton takes an unchanged file for loaded already, whatever replaced it since: so its config is sent too.
    client.raw.load_model("labelled", config=json.dumps(original))
    wait_until(lambda: client.json("get_model_config", "labelled")["max_batch_size"] == 4)
