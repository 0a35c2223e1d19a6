"""A graph with three outputs and suppression inside, batched by each engine."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import tritonclient.http as http

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.graph import Graph
from nanocv_cli.models.nanospot import NanoSpot
from nanocv_cli.models.onnx_exporter import build_graph
from nanocv_cli.serving.launch import Server
from nanocv_cli.tasks.detection.task import Detection, ExportModel
from tests.serving.conformance.conftest import serving

pytestmark = pytest.mark.slow(13)

SIDE = 64
OUTPUTS = Detection.output_names


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = NanoSpot(3, SIDE)
    for head in network.heads:
        torch.nn.init.normal_(head.classes.weight, std=8.0)
        torch.nn.init.zeros_(head.classes.bias)
    card = ModelCard("boxes", "detection", ("a", "b", "c"), SIDE, "stretch", "none", {}, "")
    path = tmp_path_factory.mktemp("graph") / "boxes.onnx"
    export_model = ExportModel(network, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    path.write_bytes(build_graph(export_model, OUTPUTS, card).SerializeToString())
    return path


@pytest.fixture(scope="module", params=["embedded", "triton"])
def server(request: pytest.FixtureRequest, graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(graph, request.param, tmp_path_factory.mktemp("repository")) as running:
        yield running


def ask(server: Server, images: np.ndarray) -> dict[str, np.ndarray]:
    client = http.InferenceServerClient(server.http)
    try:
        sent = http.InferInput("images", list(images.shape), "UINT8")
        sent.set_data_from_numpy(images)
        result = client.infer("boxes", [sent])
        return {name: result.as_numpy(name) for name in OUTPUTS}
    finally:
        client.close()


def test_requests_that_share_a_batch_get_their_own_boxes(server: Server, graph: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (8, SIDE, SIDE, 3), np.uint8)
    expected = Graph(graph).run(images)
    assert (expected["scores"] > 0.05).any()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: ask(server, images[number : number + 1]), range(8)))
    for number, answer in enumerate(found):
        assert [answer[name].shape[1:] for name in OUTPUTS] == [expected[name].shape[1:] for name in OUTPUTS]
        assert Detection().parity_error({k: v[number : number + 1] for k, v in expected.items()}, answer) < 1e-3
    together = ask(server, images[:3])
    assert Detection().parity_error({k: v[:3] for k, v in expected.items()}, together) < 1e-3
