"""One configuration, measured: warm-up, then windows until they agree."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from nanocv_cli.bench.load import Arrivals, Connection, Load
from nanocv_cli.bench.server_api import ServerCounters
from nanocv_cli.bench.statistics import STABLE_WINDOWS, Window, merged, stable
from nanocv_cli.errors import ServingError

FEWEST_ANSWERS = 100
LONGEST_STRETCH = 10  # a window may grow to this many times its length to hold enough answers
DELIVERED_WITHIN = 0.02


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Attributes:
        concurrency: clients (closed loop), or connections that share the arrivals (open loop).
        rows: images per request.
        warmup_s: seconds before the first window.
        window_s: seconds of a window.
        most_windows: after so many, the last three are reported as not stable.
        rate: requests per second in open loop; None for closed loop.
    """

    concurrency: int
    rows: int
    warmup_s: float
    window_s: float
    most_windows: int
    rate: float | None = None


@dataclass(frozen=True)
class Figures:
    """What was measured; docs/bench.md defines each. Times are microseconds, None where the server does not tell."""

    p50_us: float
    p90_us: float
    p95_us: float
    p99_us: float
    mean_us: float
    throughput: float
    requests: int
    errors: int
    stable: bool
    windows: int
    server_us: float | None
    server_queue_us: float | None
    server_compute_us: float | None
    server_share: float | None
    batch_size: float | None
    client_share: float | None
    client_cpu: float
    offered_rate: float | None
    delivered_rate: float | None

    def to_json(self) -> dict[str, object]:
        """All figures by name."""
        return asdict(self)


def measure(
    connect: Callable[[], Connection],
    plan: Plan,
    counters: Callable[[], ServerCounters | None],
    progress: Callable[[int], None] = lambda windows: None,
) -> Figures:
    """Measures one configuration.

    Args:
        connect: opens a connection to the server.
        plan: how.
        counters: reads the server's own counters.
        progress: told the number of windows so far.

    Raises:
        ServingError: the server is gone, or no request was answered without error.
    """
    arrivals = Arrivals(plan.rate) if plan.rate else None
    windows: list[Window] = []
    # One more than there are windows: what the server had counted when each began and ended.
    counted: list[ServerCounters | None] = []
    spent: list[float] = []
    with Load(connect, plan.concurrency, arrivals) as load:
        time.sleep(plan.warmup_s)
        load.taken()
        counted.append(counters())
        spent.append(time.process_time())
        while len(windows) < plan.most_windows and not stable(windows):
            windows.append(_window(load, plan))
            counted.append(counters())
            spent.append(time.process_time())
            progress(len(windows))
        last_error = load.last_error
    last = merged(windows[-STABLE_WINDOWS:])
    if not len(last.latencies):
        raise ServingError(
            f"none of {last.errors} requests was answered: {last_error or 'no answer in time'}",
            "nanocv serve run shows the server's own words",
        )
    first = max(0, len(windows) - STABLE_WINDOWS)
    return _figures(last, windows, plan, counted[first], counted[-1], spent[-1] - spent[first])


def _window(load: Load, plan: Plan) -> Window:
    start = time.perf_counter()
    records = load.taken()
    records.clear()
    for _ in range(LONGEST_STRETCH):
        time.sleep(plan.window_s)
        records += load.taken()
        if len(records) >= FEWEST_ANSWERS:
            break
    seconds = time.perf_counter() - start
    latencies = np.array([record.answered - record.sent for record in records if record.well], np.int64)
    return Window(seconds, latencies, sum(not record.well for record in records), plan.rows)


def _figures(
    last: Window,
    windows: list[Window],
    plan: Plan,
    before: ServerCounters | None,
    after: ServerCounters | None,
    cpu_seconds: float,
) -> Figures:
    server: dict[str, float] = {}
    if before and after and after.requests > before.requests:
        requests = after.requests - before.requests
        spent = {part: (after.ns[part] - before.ns[part]) / requests / 1e3 for part in after.ns}
        server = {
            "us": spent["success"],
            "queue": spent["queue"],
            "compute": spent["compute_input"] + spent["compute_infer"] + spent["compute_output"],
            "batch": (after.inferences - before.inferences) / max(1, after.executions - before.executions),
        }
    share = min(1.0, server["us"] / last.mean) if server else None
    answered = len(last.latencies) + last.errors
    return Figures(
        p50_us=last.percentile(0.50),
        p90_us=last.percentile(0.90),
        p95_us=last.percentile(0.95),
        p99_us=last.percentile(0.99),
        mean_us=last.mean,
        throughput=last.throughput,
        requests=len(last.latencies),
        errors=last.errors,
        stable=stable(windows),
        windows=len(windows),
        server_us=server.get("us"),
        server_queue_us=server.get("queue"),
        server_compute_us=server.get("compute"),
        server_share=share,
        batch_size=server.get("batch"),
        client_share=None if share is None else 1.0 - share,
        client_cpu=cpu_seconds / last.seconds,
        offered_rate=plan.rate,
        delivered_rate=answered / last.seconds if plan.rate else None,
    )
