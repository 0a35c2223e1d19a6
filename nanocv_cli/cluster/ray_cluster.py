"""Parts of a job as tasks of a Ray cluster: one that is running, or one on this machine for as long as the job.

Tasks and not Ray Data, which names its output files itself and cuts its blocks as it runs: here a part's images and the
name of its file are known before any of it is done, so that a part that is done again is the same part, and one that is
whole is seen to be. Ray puts a task whose worker or machine died on another worker.
"""

import logging
import os
import re
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from importlib.util import find_spec
from typing import Any

from nanocv_cli.cluster.job import Job
from nanocv_cli.cluster.parts import Part, WholePart, answer_part
from nanocv_cli.errors import ClusterError, MissingExtraError, NanocvError, RequestError
from nanocv_cli.machine import usable_processors
from nanocv_cli.untrusted import first_line, printable

ANSWER_SECONDS = 10.0  # in which an address must answer
DEATHS = 3  # of workers on one part, after which its images are suspected
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.-]+):(?P<port>\d{1,5})", re.ASCII)
# Answers go to files: what Ray keeps in shared memory is the names of a few hundred images at a time.
STORE_BYTES = 128 << 20
# What a gRPC server answers at once (RFC 9113): the first frame is its settings.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
SETTINGS, FRAME_HEADER = 4, 9
WHERE = "ray start --head prints it; this command runs on a machine of the cluster, with the same Ray"


class Cluster:
    """A connection to a cluster; `connected` makes one."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def workers(self, threads: int) -> int:
        """How many tasks of so many processors run at a time.

        Raises:
            RequestError: not one does.
        """
        machines = [node["Resources"].get("CPU", 0) for node in self._ray.nodes() if node["Alive"]]
        count = sum(int(processors // threads) for processors in machines)
        if not count:
            raise RequestError(
                f"no machine of the cluster has {threads} processors for a worker, the largest has "
                f"{max(machines, default=0):g}",
                "--threads says how many each worker takes",
            )
        return count

    def answer(self, job: Job, parts: Iterable[Part], threads: int, told: Callable[[WholePart], None]) -> None:
        """Has parts answered, as many at a time as the cluster has processors for, and tells each that is whole.

        Args:
            job: that they are of.
            parts: taken as there is room for them.
            threads: processors of each worker.
            told: is called with each part, in the order in which they become whole.

        Raises:
            RequestError: there is no room for a worker.
            ClusterError: workers died again and again on one part, or the cluster failed.
            NanocvError: a worker raised it.
        """
        task = self._ray.remote(num_cpus=threads, max_retries=DEATHS)(answer_part)
        most = 2 * self.workers(threads)
        running: dict[Any, Part] = {}
        for part in parts:
            while len(running) >= most:
                self._collect(running, told)
            running[task.remote(job.asked, part, str(job.folder.absolute()), threads)] = part
        while running:
            self._collect(running, told)

    def _collect(self, running: dict[Any, Part], told: Callable[[WholePart], None]) -> None:
        """Waits a moment for parts, and takes those that are done."""
        errors = self._ray.exceptions
        done, _ = self._ray.wait(list(running), timeout=1.0)  # and then signals are heard
        for reference in done:
            part = running.pop(reference)
            images = f"{part.name}, from {printable(part.places[0], 80)} to {printable(part.places[-1], 80)}"
            try:
                told(self._ray.get(reference))
            except errors.RayTaskError as error:
                if isinstance(error.cause, NanocvError):
                    raise error.cause from None
                raise ClusterError(f"a worker failed on {images}: {first_line(error.cause or error)}") from error
            except (errors.WorkerCrashedError, errors.NodeDiedError) as error:
                raise ClusterError(
                    f"{DEATHS + 1} workers died on {images}", "leave out the image that kills them, or run it again"
                ) from error
            except errors.RayError as error:
                raise ClusterError(f"the cluster failed on {images}: {first_line(error)}") from error


def expect_ray() -> None:
    """Makes sure that Ray is installed, before anything is done.

    Raises:
        MissingExtraError: it is not.
    """
    if find_spec("ray") is None:
        raise MissingExtraError("--engine ray needs ray", "pip install 'nanocv[ray]'")


@contextmanager
def connected(address: str | None) -> Iterator[Cluster]:
    """A cluster, for as long as the block lasts; what of it is at work then is ended.

    Args:
        address: host and port of one that is running, see `expect_answer`; None: one of this machine alone, which
            listens on loopback, lets nobody in without a token that is drawn for it, and has no dashboard.

    Raises:
        ClusterError: what is there is no cluster that this process can join.
    """
    _set_environment(is_local=address is None or address.rpartition(":")[0].strip("[]") in LOOPBACK)
    with ExitStack() as held:
        options: dict[str, Any] = {"address": address}
        if address is None:
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ.setdefault("RAY_AUTH_TOKEN", os.urandom(32).hex())
            folder = held.enter_context(
                # Sockets lie in it, and the system's own folder may have a name that is too long for those.
                tempfile.TemporaryDirectory(prefix="nanocv-ray-", dir="/tmp", ignore_cleanup_errors=True)
            )
            options = {
                "address": "local",
                "num_cpus": usable_processors(),
                "include_dashboard": False,
                "object_store_memory": STORE_BYTES,
                "_node_ip_address": LOOPBACK[0],
                "_temp_dir": folder,
            }
        import ray
        import ray.exceptions

        logging.getLogger("ray").setLevel(logging.ERROR)
        # A thread of Ray's prints there what it thinks of a worker's death, which is no result of ours.
        nowhere = held.enter_context(open(os.devnull, "w"))  # noqa: PTH123  # a device, no path of anybody's
        held.enter_context(redirect_stdout(nowhere))
        held.callback(ray.shutdown)
        try:
            with _own_handler():
                ray.init(log_to_driver=False, configure_logging=False, **options)
        except Exception as error:  # whatever Ray and gRPC raise where a cluster is another than they expect
            what = f"the cluster at {address}" if address else "a cluster on this machine"
            raise ClusterError(f"{what} cannot be used: {first_line(error)}", WHERE if address else "") from error
        yield Cluster(ray)


def _set_environment(is_local: bool) -> None:
    """What Ray reads as it is imported: no usage statistics; on this machine alone it keeps to loopback."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if is_local:
        # As on macOS and Windows, where Ray does so by itself; elsewhere it takes the machine's own address for it.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"


def expect_answer(address: str) -> None:
    """Makes sure that something speaks gRPC at an address, for Ray would wait for minutes and end the process.

    Raises:
        RequestError: that is no address.
        ClusterError: nothing answers there in `ANSWER_SECONDS`, or something else does.
    """
    match = ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match["port"]) < 1 << 16:
        raise RequestError(f"--ray-address {printable(address)}: expected HOST:PORT", WHERE)
    try:
        place = match["host"].strip("[]"), int(match["port"])
        with socket.create_connection(place, ANSWER_SECONDS) as connection:
            connection.sendall(PREFACE)
            answer = b""
            while len(answer) < FRAME_HEADER:
                received = connection.recv(FRAME_HEADER)
                if not received:
                    break
                answer += received
    except (OSError, UnicodeError) as error:
        reason = "no answer" if isinstance(error, TimeoutError) else first_line(error)
        raise ClusterError(
            f"nothing that is a cluster answers at {address} within {ANSWER_SECONDS:g} s: {reason}", WHERE
        ) from error
    if len(answer) < FRAME_HEADER or answer[3] != SETTINGS:
        raise ClusterError(f"what answers at {address} is no Ray cluster", WHERE)


@contextmanager
def _own_handler() -> Iterator[None]:
    """Puts SIGTERM's handler back, which Ray replaces by one that leaves no time for cleanup."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
