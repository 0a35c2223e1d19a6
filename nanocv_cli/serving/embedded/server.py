"""The server's life: load, listen, serve, follow the repository's folder as Triton's poll mode does, drain, end."""

import asyncio
import atexit
import contextlib
import errno
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from nanocv_cli.errors import ModelError, NanocvError, ServingError
from nanocv_cli.interrupts import EXIT_CODE
from nanocv_cli.machine import return_freed_memory, share_freed_memory
from nanocv_cli.serving.embedded.access import Access
from nanocv_cli.serving.embedded.background import SmallestFirstExecutor
from nanocv_cli.serving.embedded.budget import Budget
from nanocv_cli.serving.embedded.credentials import CredentialFiles, Credentials
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.grpc.server import GrpcServer
from nanocv_cli.serving.embedded.http.image_door import PostprocessorFor
from nanocv_cli.serving.embedded.http.page import NO_PAGE, page_answers
from nanocv_cli.serving.embedded.http.server import HttpServer
from nanocv_cli.serving.embedded.http.service import HttpService
from nanocv_cli.serving.embedded.image_reading import ImageReader
from nanocv_cli.serving.embedded.library import Library
from nanocv_cli.serving.embedded.limits import DEFAULT_LIMITS, Limits, ModelLimits, fitting
from nanocv_cli.serving.embedded.server_log import ServerLog
from nanocv_cli.serving.ports import Addresses, Control, Ports, address
from nanocv_cli.untrusted import first_line

SHUTDOWN_SECONDS = 30.0
# What is still under way after so long is stopped, so that all have their answer before the connections are closed.
DRAIN_SECONDS = 20.0
# A thread that waits for the interpreter gets it after this long: with the default of 5 ms a finished batch would wait
# longer for its next one than it ran.
SWITCH_SECONDS = 0.0005
TRIM_SECONDS = 30.0
Fingerprint = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Settings:
    """How one server is run.

    Attributes:
        ports: where it listens; port 0 is any free one.
        limits: what its clients may do.
        models: what one model may take.
        control: what changes the models that are served.
        poll_seconds: how often to look for changed entries, under control by `poll`.
        allowed_hosts: further names by which it is known; see `Access`.
        credentials: where the keys of clients lie, and its certificates.
        page: whether it has a page to try its models with, at `/`.
    """

    ports: Ports
    limits: Limits = field(default_factory=Limits)
    models: ModelLimits = DEFAULT_LIMITS
    control: Control = "none"
    poll_seconds: float = 1.0
    allowed_hosts: tuple[str, ...] = ()
    credentials: CredentialFiles = field(default_factory=CredentialFiles)
    page: bool = True


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs `main` to its end, in uvloop: it spends half as much on each request as asyncio's own loop."""
    share_freed_memory()
    uvloop.run(main)


async def serve(
    repository: Path,
    settings: Settings,
    postprocessor_for: PostprocessorFor,
    log: ServerLog,
    started: Callable[[Addresses], None],
) -> None:
    """Serves a repository until SIGINT or SIGTERM, then answers what is in flight and ends.

    From the first of these signals on, further ones change nothing.

    Args:
        repository: a Triton model repository.
        settings: how.
        postprocessor_for: what understands a task's outputs, for images that are sent as they are; see `ImageDoor`.
        log: takes lines about what happens, and about requests if it has a form for those.
        started: called once with the addresses, when all models are ready.

    Raises:
        ModelError: the repository cannot be read, or a model in it cannot be loaded.
        ServingError: a port is taken, or the host is not this machine.
        KeyboardInterrupt: such a signal came before all models were ready.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    # What was imported stays for good. To go through it again and again would hold up all requests for 20 ms each time.
    gc.freeze()
    library = Library(repository, settings.models)
    exit_code = 1
    with contextlib.ExitStack() as catching:
        try:
            await _serve(library, settings, postprocessor_for, log, started, catching)
            exit_code = 0
        except KeyboardInterrupt:
            exit_code = EXIT_CODE
            raise
        finally:
            # The ports are closed and their clients answered: nobody waits for anything any more.
            if not await library.close():
                log.say("what was still running was given up")
                _exit_in_spite_of_threads(exit_code)


async def watch(library: Library, seconds: float, known: dict[str, Fingerprint], say: Callable[[str], None]) -> None:
    """Looks at the repository every `seconds` and loads or unloads what changed; runs until cancelled.

    Args:
        library: what is served.
        seconds: between two looks.
        known: `fingerprints` of before the library was first loaded, so that nothing that came since is overlooked.
        say: takes a line about each change.
    """
    while True:
        await asyncio.sleep(seconds)
        try:
            found = await asyncio.to_thread(fingerprints, library)
            for name in sorted(known.keys() - found.keys()):
                await library.unload(name)
                say(f"{name} was removed")
            for name in sorted(name for name, mark in found.items() if known.get(name) != mark):
                try:
                    await library.load(name)
                    say(f"{name} was loaded again" if name in known else f"{name} was loaded")
                except Fault as fault:
                    say(f"{fault.message}; what was served before goes on")
                    if fault.status is Status.UNAVAILABLE:  # the server was busy: to be tried again
                        found[name] = known.get(name, ())
            known = found
        except (NanocvError, Fault) as error:
            say(error.message)
        except Exception as error:  # a look that fails, whatever the reason, is not the last one
            say(f"the repository could not be looked at: {first_line(error)}")


async def trim_memory(seconds: float) -> None:
    """Every `seconds` returns what lies free to the system, so that the highest tide of requests is not what stays."""
    while True:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(return_freed_memory)


def fingerprints(library: Library) -> dict[str, Fingerprint]:
    """What tells a changed entry: every file's name, inode, size and time."""
    return {name: _fingerprint(library.repository / name) for name in library.entries()}


async def _serve(
    library: Library,
    settings: Settings,
    postprocessor_for: PostprocessorFor,
    log: ServerLog,
    started: Callable[[Addresses], None],
    catching: contextlib.ExitStack,
) -> None:
    """See `serve`; signals stay caught until `catching` is closed."""
    say, tell = log.say, log.tell
    ports, limits = settings.ports, fitting(settings.limits)
    budget, executor = Budget(limits.flight_bytes), SmallestFirstExecutor()
    if settings.credentials.are_there:
        # Before they are read: what has changed since is read again as soon as this loop gets to it.
        catching.enter_context(_catching({signal.SIGHUP: lambda: credentials.reload()}))
    credentials = Credentials(settings.credentials, say)
    guard, certificates = credentials.guard, credentials.certificates
    access = Access(ports.host, settings.allowed_hosts, settings.control)
    known = fingerprints(library)
    stopping = asyncio.Event()
    loading = asyncio.create_task(_load_all(library, say))

    def stop() -> None:
        stopping.set()
        loading.cancel()  # of no effect once all are loaded

    catching.enter_context(_catching({signal.SIGINT: stop, signal.SIGTERM: stop}))
    try:
        await loading
    except asyncio.CancelledError:
        if stopping.is_set():
            raise KeyboardInterrupt from None
        raise
    page = page_answers() if settings.page else NO_PAGE
    reader = ImageReader(limits)
    http = HttpService(library, access, limits, executor, guard, log, reader, postprocessor_for, page)
    sides: list[HttpServer | GrpcServer] = [
        HttpServer(http.answer, access, limits, budget, http.gate, tell, certificates),
        GrpcServer(library, access, limits, budget, executor, guard, tell, reader, certificates),
        HttpServer(http.answer_metrics, access, limits, budget, http.gate_metrics, tell, certificates),
    ]
    async with contextlib.AsyncExitStack() as open_parts:
        numbers = (ports.http, ports.grpc, ports.metrics)
        found = [await _listen(side, ports.host, number) for side, number in zip(sides, numbers, strict=True)]
        if settings.control == "poll":
            watching = asyncio.create_task(watch(library, settings.poll_seconds, known, say))
            open_parts.callback(watching.cancel)
        trimming = asyncio.create_task(trim_memory(TRIM_SECONDS))
        open_parts.callback(trimming.cancel)
        started(Addresses(ports.host, *found))
        await stopping.wait()
        say("stopping: answering what is in flight")
        asyncio.get_running_loop().call_later(DRAIN_SECONDS, library.give_up)
    await asyncio.gather(*(side.close(SHUTDOWN_SECONDS) for side in sides))


@contextlib.contextmanager
def _catching(acts: Mapping[signal.Signals, Callable[[], object]]) -> Iterator[None]:
    """Inside the block signals are answered by `acts`; afterwards, by what had answered them before."""
    loop = asyncio.get_running_loop()
    former = {number: signal.getsignal(number) for number in acts}
    for number, act in acts.items():
        loop.add_signal_handler(number, act)
    try:
        yield
    finally:
        for number, handler in former.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


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


async def _listen(side: HttpServer | GrpcServer, host: str, port: int) -> int:
    """Starts one side; returns the port it listens on."""
    try:
        return await side.listen(host, port)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise ServingError(
                f"cannot listen on {address(host, port)}: {host} is no address of this machine",
                "--host 127.0.0.1, or another address or name of this machine",
            ) from error
        raise ServingError(
            f"cannot listen on {address(host, port)}: the port is taken or not allowed", "choose another port"
        ) from error


def _fingerprint(entry: Path) -> Fingerprint:
    marks = []
    for path in sorted(entry.rglob("*")):
        try:
            status = path.stat()
        except OSError:  # replaced while we look: the next look sees the new one
            continue
        marks.append((str(path.relative_to(entry)), status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(marks)


def _exit_in_spite_of_threads(code: int) -> None:
    """Lets the process end with this exit status though a thread still lays out or runs a graph.

    The interpreter would end such a thread in the midst of foreign code, which aborts the process, or wait for it.
    """

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    atexit.register(leave)
