"""One graph served in several ways, in turn in one run: a bare loop, the embedded server, a real Triton, and others.

    python -m benchmarks.serving --all                      # all settings that docs/figures.md quotes, in five minutes
    python -m benchmarks.serving --pin --max-batch 4        # one setting
    python -m benchmarks.saturation                         # the curve of 1 to 256 clients, as a PNG

All run the same graph with the same number of ONNX Runtime threads on this machine. A row is a protocol and an input:
tensors over HTTP and gRPC, and JPEGs of 500 KB as they are, of which the bare loop decodes each by the function that
the server decodes it by. The bare loop runs batches of 1 and of `--max-batch` images, and is as fast as the faster of
them. The figures are medians over rounds in which all take their turn; `work` is the same ratio by processor time of an
image, which other work on the machine disturbs less. There are four clients, or twice as many as make a batch: one
batch is on its way while another runs.

With --pin servers and bare loop have the first processor and the clients the second, where the system can pin them
(Linux); else everybody shares all. At one instance without batching, two more answer the same request bytes by the
least code there is (`bare_infer.py`): one under uvicorn (httptools, uvloop), one under the embedded server's own HTTP;
and LitServe and MLServer, where they are installed (`rivals.py`). Triton is left out where there is none (`make triton`
prepares one on Linux). With --perf-analyzer FILE, NVIDIA's own load generator measures the embedded server too.
"""

import argparse
import contextlib
import io
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import psutil
from PIL import Image

from benchmarks.rivals import bare_infer, litserve, mlserver, perf_analyzer
from benchmarks.served import pinned, processors
from nanocv_cli.bench.load import Connection, GrpcConnection, HttpConnection
from nanocv_cli.bench.measure import Figures, Plan, measure
from nanocv_cli.bench.payload import Payload, as_grpc, as_http, build_payload
from nanocv_cli.bench.server_api import ServerApi
from nanocv_cli.config.loader import resolve_serve
from nanocv_cli.config.project import project_root
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.reference import find_graph
from nanocv_cli.errors import NanocvError
from nanocv_cli.images.resize import open_square
from nanocv_cli.machine import processor_name
from nanocv_cli.serving.launch import Server, serving

BARE_SECONDS = 0.8
JPEG_BYTES, JPEG_SIZE = 500_000, (1600, 1200)
TENSORS, JPEGS = "tensors", "jpeg"


@dataclass(frozen=True)
class Setting:
    """How a graph is served and asked."""

    threads: int
    max_batch: int
    queue_delay_us: int = 0
    instances: int = 1
    pin: bool = False

    @property
    def clients(self) -> int:
        """At once; see above."""
        return max(4, 2 * self.max_batch)

    def __str__(self) -> str:
        places = "server on one processor, clients on another" if self.pin else "all share the processors"
        return (
            f"{self.threads} threads, batches of up to {self.max_batch}, delay {self.queue_delay_us} us, "
            f"{self.instances} instances, {self.clients} clients, {places}"
        )


# The bars of this project are about these.
SETTINGS = (Setting(1, 1, pin=True), Setting(1, 4, pin=True), Setting(2, 4))


@dataclass
class Way:
    """One way to have images answered, and what was measured of it."""

    name: str
    work: str
    connect: Callable[[], Connection]
    pid: int
    figures: list[Figures] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # of processor time, for an image

    def measure(self, plan: Plan) -> None:
        """Loads it once more."""
        before = _seconds_of(self.pid)
        start = time.perf_counter()
        found = measure(self.connect, plan, lambda: None)
        # The load's rate over all that it lasted, warm-up included.
        answered = found.throughput * (time.perf_counter() - start)
        self.figures.append(found)
        self.seconds.append((_seconds_of(self.pid) - before) / answered)

    def median(self, key: str) -> float:
        """Of a figure over all rounds."""
        return statistics.median(getattr(one, key) for one in self.figures)


class BareLoop:
    """A loop that does nothing else, at ONNX Runtime's defaults.

    Args:
        graph: to run.
        threads: of ONNX Runtime.
        batches: sizes to run.
        jpeg: to decode for each image; None: images are there.
    """

    def __init__(self, graph: Path, threads: int, batches: set[int], jpeg: bytes | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self._entry, self._jpeg = self._session.get_inputs()[0], jpeg
        self._card = ModelCard.from_metadata(self._session.get_modelmeta().custom_metadata_map, graph.name)
        self.rates: dict[int, list[float]] = {batch: [] for batch in batches}
        self.seconds: dict[int, list[float]] = {batch: [] for batch in batches}

    def measure(self) -> None:
        """Runs a while at each batch size."""
        for batch, rates in self.rates.items():
            images = np.random.default_rng(0).integers(0, 256, (batch, *self._entry.shape[1:]), np.uint8)
            for _ in range(3):
                self._session.run(None, {self._entry.name: images})
            start, worked, runs = time.perf_counter(), time.process_time(), 0
            while time.perf_counter() - start < BARE_SECONDS:
                if self._jpeg:
                    square = partial(open_square, self._jpeg, self._card.input_size, self._card.resize)
                    images = np.stack([square()[0] for _ in range(batch)])
                self._session.run(None, {self._entry.name: images})
                runs += batch
            rates.append(runs / (time.perf_counter() - start))
            self.seconds[batch].append((time.process_time() - worked) / runs)

    @property
    def rate(self) -> float:
        """Images per second at the better batch size."""
        return max(statistics.median(rates) for rates in self.rates.values())

    @property
    def best_seconds(self) -> float:
        """Of processor time for an image, likewise."""
        return min(statistics.median(seconds) for seconds in self.seconds.values())


def measure_setting(graph: Path, setting: Setting, rounds: int, analyzer: str | None) -> None:
    """Prints a table of all ways to serve a graph in one setting."""
    first, second = processors() if setting.pin else (None, None)
    plan = Plan(setting.clients, rows=1, warmup_s=0.3, window_s=0.4, most_windows=3)
    jpeg, batches = a_jpeg(), {1, setting.max_batch}
    with contextlib.ExitStack() as running:
        with pinned(first):  # what starts here stays here
            loops = {TENSORS: BareLoop(graph, setting.threads, batches)}
            loops[JPEGS] = BareLoop(graph, setting.threads, {1}, jpeg)
            ways, target = start_all(graph, setting, jpeg, running)
        for _ in range(rounds):
            with pinned(first):
                for loop in loops.values():
                    loop.measure()
            with pinned(second):
                for way in ways:
                    way.measure(plan)
    say(f"\n{graph.name}, {processor_name()}; {setting}")
    for work, loop in loops.items():
        say(f"{'bare loop, ' + work:>24}  {loop.rate:6.0f} img/s")
        for way in (way for way in ways if way.work == work):
            p50, p99, rate = way.median("p50_us"), way.median("p99_us"), way.median("throughput")
            work_ratio = loop.best_seconds / statistics.median(way.seconds)
            say(
                f"{way.name:>24}  {rate:6.0f} img/s  / bare {rate / loop.rate:4.2f}  work {work_ratio:4.2f}  "
                f"p50 {p50:7.0f} us  p99/p50 {p99 / p50:5.2f}" + beside(way, ways, rate)
            )
    if analyzer and target:
        with pinned(second):
            rate, p99 = perf_analyzer(analyzer, *target)
        say(f"perf_analyzer: {rate:.0f} img/s, p99 {p99:.0f} us")


def beside(way: Way, ways: list[Way], rate: float) -> str:
    """How much faster the embedded server is than others by the same protocol."""
    if not way.name.startswith("embedded") or way.work != TENSORS:
        return ""
    others = {"triton": way.name.replace("embedded", "triton")}
    if way.name == "embedded http":
        others |= {name: name for name in ("own http", "uvicorn", "litserve", "mlserver")}
    found = [(name, other) for name, full in others.items() for other in ways if other.name == full]
    return "".join(f"  / {name} {rate / other.median('throughput'):.2f}" for name, other in found)


def start_all(
    graph: Path, setting: Setting, jpeg: bytes, running: contextlib.ExitStack
) -> tuple[list[Way], tuple[str, str] | None]:
    """Starts all that can be started; returns them, and address and model of the embedded server."""
    options = {key: getattr(setting, key) for key in ("threads", "max_batch", "queue_delay_us", "instances")}
    ways: list[Way] = []
    target, payload = None, None
    for engine, backend in (("embedded", "onnxruntime"), ("triton", "python")):
        with left_out(engine):
            served = serving(graph, resolve_serve(None, {**options, "backend": backend}), engine)
            server, name = running.enter_context(served)
            payload = build_payload(ServerApi(server.http).metadata(name), name, 1, "random", {}, batched=True)
            ways += of_server(engine, server, payload)
            if engine == "embedded":
                target = server.http, name
                request = as_image(jpeg, name, server.http)
                ways.append(Way("embedded http", JPEGS, partial(HttpConnection, server.http, [request]), server.pid))
    if payload and setting.max_batch == setting.instances == 1:
        for http in ("own http", "uvicorn"):
            rival = running.enter_context(bare_infer(http, graph, setting.threads, payload))
            ways.append(Way(http, TENSORS, rival.connect, rival.pid))
    for start in (litserve, mlserver) if payload and setting.instances == 1 else ():
        with left_out(start.__name__):
            assert payload
            rival = running.enter_context(start(graph, setting.threads, setting.max_batch, payload))
            ways.append(Way(start.__name__, TENSORS, rival.connect, rival.pid))
    return ways, target


@contextlib.contextmanager
def left_out(name: str) -> Iterator[None]:
    """What cannot be started is said, and the others go on."""
    try:
        yield
    except NanocvError as error:
        say(f"{name} left out: {error.message}")


def of_server(engine: str, server: Server, payload: Payload) -> list[Way]:
    """A server's two protocols."""
    http = partial(HttpConnection, server.http, [as_http(payload, server.http)])
    grpc = partial(GrpcConnection, server.grpc, [as_grpc(payload)])
    return [Way(f"{engine} http", TENSORS, http, server.pid), Way(f"{engine} grpc", TENSORS, grpc, server.pid)]


def a_jpeg() -> bytes:
    """A file of about 500 KB, of smooth shapes and noise."""
    random = np.random.default_rng(0)
    shapes = Image.fromarray(random.integers(0, 256, (30, 40, 3), np.uint8)).resize(JPEG_SIZE, Image.Resampling.BICUBIC)
    noisy = np.asarray(shapes, np.int16) + random.integers(-12, 13, (JPEG_SIZE[1], JPEG_SIZE[0], 3))
    image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    for quality in range(50, 100):
        content = io.BytesIO()
        image.save(content, "JPEG", quality=quality)
        if content.tell() >= JPEG_BYTES:
            break
    return content.getvalue()


def as_image(content: bytes, model: str, host: str) -> bytes:
    """The whole HTTP request that sends an image as it is."""
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/jpeg\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def _seconds_of(pid: int) -> float:
    """Processor time of a process and of its children."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def say(line: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Prints a table for each setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="the three settings that docs/figures.md quotes")
    parser.add_argument("--pin", action="store_true")
    parser.add_argument("--model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-batch", type=int, default=1)
    parser.add_argument("--queue-delay-us", type=int, default=0)
    parser.add_argument("--instances", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--perf-analyzer")
    given = parser.parse_args()
    one = Setting(given.threads, given.max_batch, given.queue_delay_us, given.instances, given.pin)
    if (given.pin or given.all) and processors()[0] is None:
        say("nothing is pinned: this system cannot, or has one processor only")
    graph = find_graph(given.model, project_root())
    for setting in SETTINGS if given.all else (one,):
        measure_setting(graph, setting, given.rounds, given.perf_analyzer)


if __name__ == "__main__":
    main()
