"""A server with small limits, so that a test reaches them with few clients and within seconds."""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from nanocv_cli.serving.embedded.limits import Limits
from nanocv_cli.serving.embedded.server import Settings, run, serve
from nanocv_cli.serving.embedded.server_log import ServerLog
from nanocv_cli.serving.launch import Server, stop
from nanocv_cli.serving.ports import Addresses, Ports
from nanocv_cli.tasks.table import postprocessor_for

SMALL = Limits(
    message_bytes=256 << 10,
    text_bytes=256 << 10,
    flight_bytes=2 << 20,
    connections=32,
    grpc_connections=256,
    calls=64,
    streams=8,
    idle_seconds=2.0,
    grpc_idle_seconds=2.0,
    head_seconds=1.0,
    body_seconds=1.0,
    taking_seconds=1.0,
    grpc_seconds=2.0,
)


@dataclass(frozen=True)
class SmallServer(Server):
    """A running server, and what it writes."""

    log: IO[bytes]

    def said(self) -> str:
        """All that it wrote so far."""
        self.log.seek(0)
        return self.log.read().decode()


@contextlib.contextmanager
def small_server(repository: Path, limits: Limits = SMALL) -> Iterator[SmallServer]:
    """Serves a repository in a process of its own, under explicit control, for as long as the context lasts."""
    command = [sys.executable, "-m", __name__, str(repository), json.dumps(asdict(limits))]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        try:
            assert process.stdout is not None
            found = Addresses(**json.loads(process.stdout.readline()))
            yield SmallServer(found.http, found.grpc, found.metrics, process.pid, log)
        finally:
            stop(process)


class FaultLog(ServerLog):
    """Says nothing but what has gone wrong."""

    def say(self, text: str) -> None:
        """What goes right."""


def main(repository: str, limits: str) -> None:
    """What the process runs."""

    def tell(addresses: Addresses) -> None:
        print(json.dumps(asdict(addresses)), flush=True)  # noqa: T201

    settings = Settings(Ports("127.0.0.1", 0, 0, 0), Limits(**json.loads(limits)), control="explicit")
    with FaultLog() as log:
        run(serve(Path(repository), settings, postprocessor_for, log, tell))


if __name__ == "__main__":
    main(*sys.argv[1:])
