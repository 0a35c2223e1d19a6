"""Models that requests may not change: the same words and status from each engine over each protocol."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nanocv_cli.serving.launch import Server, started
from tests.conftest import REPOSITORY
from tests.serving.conformance.clients import PROTOCOLS, Client, refusal
from tests.serving.conformance.conftest import has_triton
from tests.serving.models import entry_config, write_model

pytestmark = pytest.mark.slow(10)

X = np.array([[1, 2, 3, 4]], np.uint8)


@pytest.fixture(scope="module", params=["embedded", "triton"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if request.param == "triton" and not has_triton():
        pytest.skip("no Triton here: make triton prepares one on Linux")
    repository: Path = tmp_path_factory.mktemp("repository")
    write_model(repository, entry_config("doubling", "doubling"), "doubling")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        with started(repository, request.param, "none") as running:
            yield running


@pytest.fixture(params=PROTOCOLS)
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Client]:
    client = Client(server, request.param)
    yield client
    client.raw.close()  # Triton waits half a minute for a connection that is open when it is told to end


def test_load_and_unload_are_refused(client: Client) -> None:
    for ask in (client.raw.load_model, client.raw.unload_model):
        said = refusal(lambda ask=ask: ask("doubling"))  # type: ignore[misc]
        assert said.message.startswith("explicit model load / unload is not allowed if polling is enabled")
        assert said.status == {"http": "503", "grpc": "StatusCode.UNAVAILABLE"}[client.protocol]
    np.testing.assert_array_equal(client.infer("doubling", {"x": X}).as_numpy("y"), 2.0 * X)
