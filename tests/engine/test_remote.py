"""A served model answers as its graph does in this process; a server that lies is found out in one clear line."""

import json
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanocv_cli.config.loader import resolve_serve
from nanocv_cli.engine.engine import open_engine
from nanocv_cli.engine.graph import Graph
from nanocv_cli.engine.kserve import MOST_PATIENCE, ModelClient, RefusedError
from nanocv_cli.engine.model_url import parse_model_url
from nanocv_cli.engine.reference import find_checkpoint, find_graph
from nanocv_cli.engine.remote import RemoteModel
from nanocv_cli.engine.runtimes import RunSettings
from nanocv_cli.errors import ModelError, NanocvError, RequestError, ServingError
from nanocv_cli.serving.launch import started
from nanocv_cli.serving.repository.entry import write_entry
from nanocv_cli.serving.repository.pbtxt import read_config, write
from nanocv_cli.tasks.generation.sampling import GraphSampler
from tests.contract.world import write_maker
from tests.engine.graphs import COLOURS, SIDE, colour_card, write_graph


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The HTTP address of a server, and the folder of the graphs that it serves."""
    folder = tmp_path_factory.mktemp("served")
    settings = resolve_serve(None, {"max_batch": 4}, ())
    write_entry(write_graph(folder / "colours.onnx"), folder / "models", settings)
    write_entry(write_maker(folder / "maker.onnx", COLOURS), folder / "models", settings)
    bare = write_entry(folder / "colours.onnx", folder / "models", settings, name="bare")
    config = read_config(bare.config)
    config.parameters.clear()
    write(bare.config, config)
    with started(folder / "models", "embedded") as server:
        yield server.http, folder


def test_the_answers_are_those_of_the_graph_in_any_number(served: tuple[str, Path]) -> None:
    address, folder = served
    here, there = Graph(folder / "colours.onnx"), open_engine(f"http://{address}/colours", folder)
    assert (there.card, there.signature) == (here.card, here.signature)
    assert there.origin == f"http://{address}/colours"
    for count in (1, 4, 11):  # more than the entry takes at a time
        images = np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
        for name, rows in here.run(images).items():
            np.testing.assert_allclose(there.run(images)[name], rows, atol=1e-6)
    assert RemoteModel(f"http://{address}/colours/versions/1").card == colour_card()


def test_proxies_of_the_environment_are_not_asked(served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert RemoteModel(f"http://{served[0]}/colours").card.name == "colours"


def test_a_served_sampler_makes_the_images_of_its_own_settings(served: tuple[str, Path]) -> None:
    address, folder = served
    here, there = (
        GraphSampler(engine) for engine in (Graph(folder / "maker.onnx"), RemoteModel(f"http://{address}/maker"))
    )
    own = here.settings()
    noise, label = np.full((6, 3, 8, 8), 5.0, np.float32), np.zeros(6, np.int64)
    np.testing.assert_array_equal(there.make(noise, label, own), here.make(noise, label, own))
    # It could make others: nobody asks it.
    with pytest.raises(
        RequestError, match=r"\(server\) is asked for images by the model's own steps, guidance and solver"
    ):
        there.make(noise, label, here.settings(steps=7))
    with pytest.raises(ModelError, match="makes images"):
        RemoteModel(f"http://{address}/maker").expect_images()


def test_what_is_not_there_is_said(served: tuple[str, Path]) -> None:
    address, folder = served
    with pytest.raises(ServingError, match="unknown") as caught:
        RemoteModel(f"http://{address}/colour")
    assert "\n" not in caught.value.message and caught.value.hint
    with pytest.raises(ServingError):
        RemoteModel(f"http://{address}/colours/versions/9")
    with pytest.raises(ModelError, match="carries no nanocv model card") as without:
        RemoteModel(f"http://{address}/bare")
    assert "nanocv serve config" in without.value.hint
    with pytest.raises(RequestError, match="has its own"):
        open_engine(f"http://{address}/colours", folder, RunSettings(device="cuda"))
    for find in (find_graph, find_checkpoint):
        with pytest.raises(RequestError, match="a served one"):
            find(f"http://{address}/colours", folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(ServingError, match="no server answers"):
            RemoteModel(f"http://127.0.0.1:{free.getsockname()[1]}/colours")


@pytest.mark.parametrize(
    ("text", "server", "path"),
    [
        ("http://127.0.0.1:8000/lenet", "http://127.0.0.1:8000", "/v2/models/lenet"),
        ("http://[::1]:8000/lenet/", "http://[::1]:8000", "/v2/models/lenet"),
        ("https://models.example/lenet/versions/2", "https://models.example:443", "/v2/models/lenet/versions/2"),
        ("http://host/a%20b", "http://host:80", "/v2/models/a%20b"),
    ],
)
def test_urls_of_models(text: str, server: str, path: str) -> None:
    url = parse_model_url(text)
    assert (url.server, url.path) == (server, path)


@pytest.mark.parametrize(
    "text",
    ["grpc://h:8001/m", "file:///etc/passwd", "http://", "http://h:8000", "http://h:8000/", "http://h:0/m",
     "http://h:99999/m", "http://h:x/m", "http://[::1/m", "http://h/m?x=1", "http://h/m#x", "http://h/a/b/c/d",
     "http://h/m/versions/0", "http://h/m/versions/x", "http://h/a%2Fb", "http://h/a%0Ab", "http://me:secret@h/m"],
)  # fmt: skip
def test_other_urls_are_refused_and_no_password_is_repeated(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_model_url(text)
    assert "secret" not in caught.value.message


def honest_config() -> dict[str, Any]:
    """What a server says of the colour graph."""
    card = colour_card().to_metadata()["nanocv.card"]
    return {
        "max_batch_size": 4,
        "input": [{"name": "images", "data_type": "TYPE_UINT8", "dims": ["8", "8", "3"]}],
        "output": [{"name": "probabilities", "data_type": "TYPE_FP32", "dims": ["3"]}],
        "parameters": {"nanocv.card": {"string_value": card}},
    }


@contextmanager
def lying_server(
    config: Any, tensor: dict[str, Any], content: bytes, refusals: Iterable[tuple[int, str]] = ()
) -> Iterator[str]:
    """Answers every inference with one tensor and some bytes; yields the model's URL.

    Before it answers it refuses, with these statuses and texts of `Retry-After`.
    """
    left = iter(refusals)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            pass

        def _send(self, body: bytes, **headers: str) -> None:
            status, again = next(left, (200, ""))
            if status != 200:
                body, headers = b'{"error": "not now"}', {"Retry-After": again} if again else {}
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self._send(json.dumps(config).encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            header = json.dumps({"outputs": [tensor]}).encode()
            self._send(header + content, Inference_Header_Content_Length=str(len(header)))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/fake"
    finally:
        server.shutdown()
        server.server_close()


HONEST = {"name": "probabilities", "datatype": "FP32", "shape": [2, 3], "parameters": {"binary_data_size": 24}}


@pytest.mark.parametrize(
    ("tensor", "content", "message"),
    [
        (HONEST | {"name": "other"}, bytes(24), "nobody asked for"),
        (HONEST | {"datatype": "FP64"}, bytes(24), "not FP32"),
        (HONEST | {"shape": [1, 3]}, bytes(24), "not FP32"),
        (HONEST | {"shape": [2, 1 << 60]}, bytes(24), "not FP32"),
        (HONEST | {"shape": "23"}, bytes(24), "not FP32"),
        (HONEST | {"parameters": {"binary_data_size": 12}}, bytes(24), "bytes of its shape"),
        (HONEST, bytes(12), "bytes of its shape"),
        (HONEST, bytes(30), "more bytes"),
        ({"name": "probabilities"}, b"", "otherwise than it promised"),
        (HONEST, bytes(4 << 20), "more than the"),
    ],
)
def test_an_answer_that_was_not_promised(tensor: dict[str, Any], content: bytes, message: str) -> None:
    images = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    with lying_server(honest_config(), HONEST, bytes(24)) as url:
        assert (RemoteModel(url).run(images)["probabilities"] == 0).all()
    with lying_server(honest_config(), tensor, content) as url, pytest.raises(ServingError, match=message) as caught:
        RemoteModel(url).run(images)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "config",
    [
        [],
        {},
        honest_config() | {"max_batch_size": -1},
        honest_config() | {"max_batch_size": "many"},
        honest_config() | {"input": []},
        honest_config() | {"input": [{"name": "images", "data_type": "TYPE_STRING", "dims": [2]}]},
        honest_config() | {"input": [{"name": "images", "data_type": "TYPE_STRING", "dims": [1, 1]}]},
        honest_config() | {"input": [{"name": name, "data_type": "TYPE_STRING", "dims": [1]} for name in "ab"]},
        honest_config() | {"output": [{"name": "p", "data_type": "TYPE_STRING", "dims": [1]}]},
        honest_config() | {"output": [{"name": "p", "data_type": "TYPE_FP32", "dims": [0]}]},
        honest_config() | {"output": [{"name": "p", "data_type": "TYPE_FP32", "dims": [1 << 40]}]},
        honest_config() | {"output": [{"name": "a\n", "data_type": "TYPE_FP32", "dims": [3]}]},
        honest_config() | {"parameters": {"nanocv.card": {"string_value": "{}"}}},
        honest_config() | {"parameters": {"nanocv.card": {"string_value": 7}}},
    ],
)
def test_a_description_that_cannot_be(config: Any) -> None:
    with lying_server(config, HONEST, bytes(24)) as url, pytest.raises(NanocvError) as caught:
        RemoteModel(url)
    assert "\n" not in caught.value.message and caught.value.hint


def test_who_may_ask_only_so_often_is_asked_to_wait_and_waits() -> None:
    naps: list[float] = []
    refusals = [(429, "1"), (429, "2"), (200, ""), (429, "3")]
    with lying_server(honest_config(), HONEST, bytes(24), refusals) as url:
        client = ModelClient(parse_model_url(url), naps.append)
        assert client.config() == honest_config()
        assert naps == [1, 2]
        found = client.infer({}, {"probabilities": ("FP32", (2, 3))}, 1 << 20)
    assert found["probabilities"].shape == (2, 3) and naps == [1, 2, 3]


@pytest.mark.parametrize(
    ("status", "again", "waited"),
    [
        (429, "25", [25, 25]),
        (429, f"{MOST_PATIENCE + 1}", []),
        (429, "0", []),
        (429, "", []),
        (429, "Fri, 01 Jan 2100 00:00:00 GMT", []),
        (429, "9" * 5000, []),
        (503, "1", []),
    ],
)
def test_the_wait_for_a_server_has_an_end(status: int, again: str, waited: list[float]) -> None:
    naps: list[float] = []
    with lying_server(honest_config(), HONEST, bytes(24), repeat((status, again))) as url:
        client = ModelClient(parse_model_url(url), naps.append)
        with pytest.raises(RefusedError, match="not now") as refused:
            client.config()
    assert naps == waited
    assert ("serve key --rate" in refused.value.hint) == (status == 429)
    assert ("check its name" in refused.value.hint) == (status != 429)
