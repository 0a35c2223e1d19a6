"""A server that a load test starts for itself, with one model in a repository that vanishes with it."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nanocv_cli.config.schema import ServeConfig
from nanocv_cli.serving.launch import Server, started
from nanocv_cli.serving.repository.entry import write_entry


@contextlib.contextmanager
def serving(graph: Path, settings: ServeConfig, engine: str) -> Iterator[tuple[Server, str]]:
    """Serves a graph; yields the server and the model's name there.

    Args:
        graph: an exported graph.
        settings: how to serve it.
        engine: embedded or triton.

    Raises:
        ModelError: the graph cannot be served.
        ServingError: the server did not start.
    """
    with tempfile.TemporaryDirectory(prefix="nanocv-bench-") as folder:
        repository = Path(folder) / "model_repository"
        entry = write_entry(graph, repository, settings)
        with started(repository, engine) as server:
            yield server, entry.model
