"""A graph that makes images, from two inputs and with a loop inside, batched by each engine."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

from nanocv_cli.config.loader import resolve
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.graph import Graph
from nanocv_cli.models.nanoflow import NanoFlow
from nanocv_cli.serving.launch import Server
from nanocv_cli.tasks.generation.sampler import SamplerModule
from nanocv_cli.tasks.generation.sampler_graph import build_sampler_graph
from nanocv_cli.tasks.generation.sampling import image_noise
from tests.serving.conformance.conftest import serving

pytestmark = pytest.mark.slow(17)

SIDE = 16


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = NanoFlow(3, SIDE).eval()
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)  # what begins at zero would hide everything else
    config = resolve(model="nanoflow", overrides=("model.input_size=16", "model.sampling.steps=2")).config.model
    card = ModelCard("maker", "generation", ("a", "b", "c"), SIDE, "crop", "none", {}, "")
    path = tmp_path_factory.mktemp("graph") / "maker.onnx"
    path.write_bytes(build_sampler_graph(SamplerModule(network, config), ("image",), card).SerializeToString())
    return path


@pytest.fixture(scope="module", params=["embedded", "triton"])
def server(request: pytest.FixtureRequest, graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(graph, request.param, tmp_path_factory.mktemp("repository")) as running:
        yield running


def ask(server: Server, noise: np.ndarray, label: np.ndarray) -> np.ndarray:
    client = http.InferenceServerClient(server.http)
    try:
        sent = [http.InferInput("noise", list(noise.shape), "FP32"), http.InferInput("label", [len(label), 1], "INT64")]
        sent[0].set_data_from_numpy(noise)
        sent[1].set_data_from_numpy(label[:, None])
        made: np.ndarray = client.infer("maker", sent).as_numpy("image")
        return made
    finally:
        client.close()


def test_requests_that_share_a_batch_get_their_own_images(server: Server, graph: Path) -> None:
    noise, labels = image_noise(0, 0, 8, SIDE), np.arange(8) % 3
    expected = Graph(graph).answer({"noise": noise, "label": labels})["image"].astype(int)
    assert len(np.unique(expected, axis=0)) == 8
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda k: ask(server, noise[k : k + 1], labels[k : k + 1]), range(8)))
    assert np.abs(np.concatenate(found) - expected).max() <= 1
    assert np.abs(ask(server, noise[:3], labels[:3]) - expected[:3]).max() <= 1


def test_a_class_that_is_not_there_fails_alone(server: Server) -> None:
    with pytest.raises(InferenceServerException):
        ask(server, image_noise(0, 0, 1, SIDE), np.array([7]))
    assert ask(server, image_noise(0, 0, 1, SIDE), np.array([1])).shape == (1, SIDE, SIDE, 3)
