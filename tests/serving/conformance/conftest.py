"""The same repository on both engines: nanocv's own server, and a real Triton where there is one."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.config.loader import resolve_serve
from nanocv_cli.errors import ServingError
from nanocv_cli.serving.launch import Server, started
from nanocv_cli.serving.repository.entry import write_entry
from nanocv_cli.serving.triton import find_triton
from tests.conftest import REPOSITORY
from tests.serving.models import entry_config, write_model

OPENVINO = "-openvino"  # ends the names of models of that backend
NO_TRITON = "no Triton here: TRITON=1 make test prepares one (1 GB) on Linux, x86-64"


def write_repository(folder: Path) -> Path:
    """The models that the conformance tests ask: batching, failing, with two inputs, with labels, in two versions."""
    for name, graph in (("doubling", "doubling"), ("looking_up", "looking_up"), ("adding", "adding")):
        write_model(folder, entry_config(name, graph), graph)
    single = entry_config("single", "doubling", max_batch=0)
    single.input[0].dims[:] = [-1, 4]
    single.output[0].dims[:] = [-1, 4]
    write_model(folder, single, "doubling")
    labelled = entry_config("labelled", "doubling")
    labelled.output[0].label_filename = "labels.txt"
    labelled.version_policy.all.SetInParent()
    write_model(folder, labelled, "doubling", version=1)
    write_model(folder, labelled, "doubling", version=3)
    bounded = entry_config("bounded", "slow", max_batch=1)
    bounded.dynamic_batching.default_queue_policy.max_queue_size = 2
    bounded.dynamic_batching.default_queue_policy.timeout_action = pb.ModelQueuePolicy.REJECT
    write_model(folder, bounded, "slow")
    return folder


def write_openvino_model(folder: Path) -> None:
    """The doubling model once more, of the openvino backend, which the Triton that pip installs has not."""
    config = entry_config(f"doubling{OPENVINO}", "doubling", backend="openvino")
    config.default_model_filename = "model.onnx"
    write_model(folder, config, "doubling")


@dataclass(frozen=True)
class Engine:
    """A running server and which one it is."""

    name: str
    server: Server
    repository: Path


def has_triton() -> bool:
    """Whether a real Triton can be started here."""
    try:
        find_triton(REPOSITORY)
    except ServingError:
        return False
    return True


@contextlib.contextmanager
def serving(graph: Path, engine: str, repository: Path, **changes: Any) -> Iterator[Server]:
    """One exported graph, batched by fours with time to gather them, on an engine; skips where that is not here."""
    if engine == "triton" and not has_triton():
        pytest.skip(NO_TRITON)
    settings = resolve_serve(None, {"backend": "python", "max_batch": 4, "queue_delay_us": 20_000, **changes}, ())
    write_entry(graph, repository, settings, None, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        with started(repository, engine) as running:
            yield running


@pytest.fixture(params=["", OPENVINO])
def doubling(request: pytest.FixtureRequest, engine: Engine) -> str:
    """The name of a model that doubles, of each backend."""
    if request.param and engine.name == "triton":
        pytest.skip("this Triton has the Python backend only")
    return f"doubling{request.param}"


@pytest.fixture(scope="session", params=["embedded", "triton"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if request.param == "triton" and not has_triton():
        pytest.skip(NO_TRITON)
    repository = write_repository(tmp_path_factory.mktemp("repository"))
    if request.param == "embedded":
        write_openvino_model(repository)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        with started(repository, request.param) as server:
            yield Engine(request.param, server, repository)
