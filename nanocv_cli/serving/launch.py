"""Starts a server as a process of its own, waits until it is ready, and ends it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nanocv_cli.config.project import project_root
from nanocv_cli.config.schema import ServeConfig
from nanocv_cli.errors import ServingError
from nanocv_cli.serving.ports import Addresses, Control, Ports
from nanocv_cli.serving.repository.entry import write_entry
from nanocv_cli.serving.triton import find_triton, server_arguments

START_SECONDS = 120.0
STOP_SECONDS = 40.0
LOOK_SECONDS = 0.05
LAST_WORDS = 4000  # bytes of a server's log in which its error is looked for


@dataclass(frozen=True)
class Server:
    """A running server: `host:port` of its three sides, and its process."""

    http: str
    grpc: str
    metrics: str
    pid: int


@contextlib.contextmanager
def started(
    repository: Path, engine: str, control: Control = "explicit", *options: str, log: IO[bytes] | None = None
) -> Iterator[Server]:
    """Serves a repository on free loopback ports for as long as the context lasts.

    Args:
        repository: a Triton model repository.
        engine: embedded or triton.
        control: what changes the models that are served.
        options: further ones of `nanocv serve run`, for the embedded server.
        log: a file, open for reading too, that keeps what the server says; none, and nobody hears it once it runs.

    Raises:
        ServingError: it did not become ready; the message holds the last it said.
    """
    with contextlib.ExitStack() as held:
        log = log or held.enter_context(tempfile.TemporaryFile())
        if engine == "triton":
            process, addresses = _start_triton(repository, control, log)
        else:
            process, addresses = _start_embedded(repository, control, options, log)
        try:
            if engine == "triton":
                _wait_until_ready(process, addresses, log)
            yield Server(addresses.http, addresses.grpc, addresses.metrics, process.pid)
        finally:
            stop(process)


@contextlib.contextmanager
def serving(graph: Path, settings: ServeConfig, engine: str) -> Iterator[tuple[Server, str]]:
    """Serves a graph from a repository that vanishes with the server; yields the server and the model's name there.

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


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Asks a server to end, and ends it where it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()


def free_ports() -> Ports:
    """Three loopback ports that are free at this moment."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        http, grpc, metrics = (one.getsockname()[1] for one in sockets)
    return Ports("127.0.0.1", http, grpc, metrics)


def _start_embedded(
    repository: Path, control: Control, options: tuple[str, ...], log: IO[bytes]
) -> "tuple[subprocess.Popen[bytes], Addresses]":
    manner = ["--poll-s", "1"] if control == "poll" else ["--control", control]
    arguments = [
        sys.executable, "-m", "nanocv_cli.app", "serve", "run", "--engine", "embedded", "--json",
        "--repository", str(repository), "--http-port", "0", "--grpc-port", "0", "--metrics-port", "0",
        *manner, *options,
    ]  # fmt: skip
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log)
    # It prints its addresses when it is ready, and otherwise ends.
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
    except BaseException:  # this process is asked to end meanwhile
        stop(process)
        raise
    try:
        document = json.loads(line)
        return process, Addresses(
            document["host"], document["http_port"], document["grpc_port"], document["metrics_port"]
        )
    except (ValueError, KeyError, TypeError) as error:
        stop(process)
        raise _not_started("embedded", log) from error


def _start_triton(repository: Path, control: Control, log: IO[bytes]) -> "tuple[subprocess.Popen[bytes], Addresses]":
    command, ports = find_triton(project_root()), free_ports()
    arguments = [*command.arguments, *server_arguments(repository, ports, control)]
    process = subprocess.Popen(arguments, env=command.environment, stdout=log, stderr=log)
    return process, Addresses(ports.host, ports.http, ports.grpc, ports.metrics)


def _wait_until_ready(process: "subprocess.Popen[bytes]", addresses: Addresses, log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(f"http://{addresses.http}/v2/health/ready", timeout=5) as answer,
        ):
            if answer.status == 200:
                return
        time.sleep(LOOK_SECONDS)
    raise _not_started("triton", log)


def _not_started(engine: str, log: IO[bytes]) -> ServingError:
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - LAST_WORDS))
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("error:", "E"))]
    said = (errors or lines or ["nothing"])[-1]
    return ServingError(
        f"the {engine} server did not start; it said: {said[:400]}",
        f"nanocv serve run --engine {engine} shows all it says",
    )
