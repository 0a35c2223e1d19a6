"""One server for all tests that leave it as it is, with the limits that it has by itself."""

from collections.abc import Iterator

import pytest

from nanocv_cli.serving.embedded.limits import Limits
from tests.serving.embedded.small_server import SmallServer, small_server
from tests.serving.models import entry_config, write_model


@pytest.fixture(scope="session")
def usual_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallServer]:
    """Serves `doubling` and `adding`."""
    repository = tmp_path_factory.mktemp("repository")
    for name in ("doubling", "adding"):
        write_model(repository, entry_config(name, name, backend="onnxruntime"), name)
    with small_server(repository, Limits()) as running:
        yield running
