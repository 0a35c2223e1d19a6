"""The server's life: load, listen, serve, watch the repository, drain, end."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nanocv_cli.errors import ModelError, ServingError
from nanocv_cli.serving.embedded.bounds import DEFAULT_LIMITS, ModelLimits
from nanocv_cli.serving.embedded.calls import Budget
from nanocv_cli.serving.embedded.daemon_thread import exit_in_spite_of_threads
from nanocv_cli.serving.embedded.faults import Fault
from nanocv_cli.serving.embedded.grpc_service import build_server
from nanocv_cli.serving.embedded.http_protocol import HttpLimits, HttpServer
from nanocv_cli.serving.embedded.http_service import HttpService
from nanocv_cli.serving.embedded.library import Library
from nanocv_cli.serving.embedded.watch import prints, watch
from nanocv_cli.serving.ports import Addresses, Ports

SHUTDOWN_SECONDS = 30.0
# What is still under way after so long is stopped, so that all have their answer before the connections are closed.
DRAIN_SECONDS = 20.0
# A thread that waits for the interpreter gets it after this long: with the default of 5 ms a finished batch would wait
# longer for its next one than it ran.
SWITCH_SECONDS = 0.0005


@dataclass(frozen=True)
class Limits:
    """What one server may take.

    Attributes:
        message_bytes: largest request.
        flight_bytes: all requests together.
        calls: gRPC calls at once.
        models: what one model may take.
    """

    message_bytes: int = 64 << 20
    flight_bytes: int = 512 << 20
    calls: int = 1024
    models: ModelLimits = DEFAULT_LIMITS


async def serve(
    repository: Path,
    ports: Ports,
    limits: Limits,
    poll_seconds: float,
    say: Callable[[str], None],
    started: Callable[[Addresses], None],
) -> None:
    """Serves a repository until SIGINT or SIGTERM, then answers what is in flight and ends.

    Args:
        repository: a Triton model repository.
        ports: where to listen; port 0 is any free one.
        limits: what it may take.
        poll_seconds: how often to look for changed entries; 0 for never.
        say: takes lines about what happens.
        started: called once with the addresses, when all models are ready.

    Raises:
        ModelError: the repository cannot be read, or a model in it cannot be loaded.
        ServingError: a port is taken.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    library = Library(repository, limits.models)
    exit_code = 1
    try:
        await _serve(library, ports, limits, poll_seconds, say, started)
        exit_code = 0
    finally:
        # The ports are closed and their clients answered: nobody waits for anything any more.
        if not await library.close():
            say("some requests were still running and were given up")
            exit_in_spite_of_threads(exit_code)


async def _serve(
    library: Library,
    ports: Ports,
    limits: Limits,
    poll_seconds: float,
    say: Callable[[str], None],
    started: Callable[[Addresses], None],
) -> None:
    budget = Budget(limits.flight_bytes)
    known = prints(library)
    await _load_all(library, say)
    service = HttpService(library, limits.message_bytes)
    http_limits = HttpLimits(limits.message_bytes)
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # a Windows loop has none; KeyboardInterrupt ends it there
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with contextlib.AsyncExitStack() as open_parts:
        http_port = await _listen(HttpServer(service.answer, http_limits, budget), ports.host, ports.http, open_parts)
        metrics_port = await _listen(
            HttpServer(service.answer_metrics, http_limits, budget), ports.host, ports.metrics, open_parts
        )
        grpc_server = build_server(library, budget, limits.message_bytes, limits.calls)
        try:
            grpc_port = grpc_server.add_insecure_port(f"{ports.host}:{ports.grpc}")
        except RuntimeError as error:
            raise _taken(ports.host, ports.grpc) from error
        await grpc_server.start()
        watching = asyncio.create_task(watch(library, poll_seconds, known, say)) if poll_seconds else None
        started(Addresses(ports.host, http_port, grpc_port, metrics_port))
        await stopping.wait()
        say("stopping: answering what is in flight")
        asyncio.get_running_loop().call_later(DRAIN_SECONDS, library.give_up)
        if watching:
            watching.cancel()
        await grpc_server.stop(SHUTDOWN_SECONDS)


async def _load_all(library: Library, say: Callable[[str], None]) -> None:
    names = library.entries()
    if not names:
        raise ModelError(
            f"{library.repository} holds no model: no sub-folder with a config.pbtxt",
            "nanocv serve config --model REF writes one",
        )
    for name in names:
        try:
            await library.load(name)
        except Fault as fault:
            raise ModelError(fault.message, "mend or remove that entry; nanocv serve config writes one") from fault
        for model in [model for model in library.loaded() if model.name == name]:
            say(f"{name} version {model.version} is ready")


async def _listen(server: HttpServer, host: str, port: int, open_parts: contextlib.AsyncExitStack) -> int:
    """Starts an HTTP side; returns the port it listens on."""
    try:
        found = await server.listen(host, port)
    except OSError as error:
        raise _taken(host, port) from error
    open_parts.push_async_callback(server.close, SHUTDOWN_SECONDS)
    return found


def _taken(host: str, port: int) -> ServingError:
    return ServingError(f"cannot listen on {host}:{port}: the port is taken or not allowed", "choose another port")
