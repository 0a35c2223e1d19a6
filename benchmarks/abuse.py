"""What attacks on the embedded server cost it, and those who are served beside them.

    python -m benchmarks.abuse [--attackers 8] [--seconds 1] [--only NAME ...]

Each habit of the tests' attackers is at work for a while, on so many connections, fifty times a second each. Beside it
two clients, one by HTTP and one by gRPC, ask and check every answer, each on a new connection. The first row is the
server without an attack; figures of a busy machine are good beside that row alone.
"""

import argparse
import contextlib
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil

from nanocv_cli.serving.embedded.limits import Limits
from nanocv_cli.serving.launch import Server
from tests.serving.embedded.attackers import GRPC, HTTP, METRICS, attackers
from tests.serving.embedded.grpc.floods import FLOODS
from tests.serving.embedded.honest import PATIENCE, by_grpc, by_http
from tests.serving.embedded.small_server import small_server
from tests.serving.models import entry_config, write_model

X = np.array([[1, 2, 3, 4]], np.uint8)
LOOK_SECONDS = 0.02


@contextlib.contextmanager
def asking(server: Server) -> Iterator[dict[str, list[float]]]:
    """Two clients that ask until the context ends; seconds of their answers."""
    done, seconds = threading.Event(), {"http": list[float](), "grpc": list[float]()}

    def ask_on(protocol: str, ask: Callable[[Server, np.ndarray], np.ndarray]) -> None:
        while not done.is_set():
            begun = time.perf_counter()
            try:
                np.testing.assert_array_equal(ask(server, X), 2.0 * X)
                seconds[protocol].append(time.perf_counter() - begun)
            except Exception:
                seconds[protocol].append(PATIENCE)  # no answer, or a wrong one
            done.wait(LOOK_SECONDS)

    threads = [threading.Thread(target=ask_on, args=one) for one in (("http", by_http), ("grpc", by_grpc))]
    for thread in threads:
        thread.start()
    try:
        yield seconds
    finally:
        done.set()
        for thread in threads:
            thread.join()


def row(server: Server, name: str, seconds: float, attack: contextlib.AbstractContextManager[object]) -> str:
    """One line of the table: what the attack cost."""
    process = psutil.Process(server.pid)
    before, used = process.memory_info().rss, sum(process.cpu_times()[:2])
    most, begun = before, time.monotonic()
    with attack, asking(server) as answers:
        while time.monotonic() < begun + seconds:
            most = max(most, process.memory_info().rss)
            time.sleep(LOOK_SECONDS)
        share = (sum(process.cpu_times()[:2]) - used) / (time.monotonic() - begun)
    cells = [f"{1000 * statistics.median(one):8.1f} {1000 * max(one):8.0f}" for one in answers.values()]
    return f"{name:26s} {(most - before) / (1 << 20):7.0f} {share:6.2f} {' '.join(cells)}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attackers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    habits = [one for one in (*HTTP, *METRICS, *GRPC, *FLOODS) if not options.only or one.__name__ in options.only]
    with tempfile.TemporaryDirectory() as folder:
        for name in ("doubling", "adding"):
            write_model(Path(folder), entry_config(name, name, backend="onnxruntime"), name)
        print(
            f"{'attack':26s} {'MB':>7s} {'cores':>6s} {'http p50':>8s} {'max ms':>8s} {'grpc p50':>8s} {'max ms':>8s}"
        )
        with small_server(Path(folder), Limits()) as server:
            for ask in (by_http, by_grpc):  # what comes first takes longer
                ask(server, X)
            print(row(server, "(none)", options.seconds, contextlib.nullcontext()), flush=True)
            for habit in habits:
                attack = attackers(server, habit, options.attackers)
                print(row(server, habit.__name__, options.seconds, attack), flush=True)


if __name__ == "__main__":
    main()
