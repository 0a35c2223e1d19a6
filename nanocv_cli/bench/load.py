"""Load: clients that ask one after the other (closed loop), or at times drawn beforehand (open loop)."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from nanocv_cli.bench.connections import Connection, Refused
from nanocv_cli.errors import ServingError

MOST_RECONNECTS = 20
RECONNECT_SECONDS = 0.1
STOP_SECONDS = 70.0


@dataclass(slots=True)
class Record:
    """One request: when it was (or should have been) sent, when it was answered, in nanoseconds; whether well."""

    sent: int
    answered: int
    well: bool


@dataclass
class Arrivals:
    """Times at which requests should be sent: a Poisson process, the same for the same seed.

    Args:
        rate: requests per second.
        seed: of the times.
    """

    rate: float
    seed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._next = time.perf_counter_ns()

    def take(self) -> int:
        """The next time, nanoseconds of `time.perf_counter_ns`."""
        with self._lock:
            self._next += round(self._random.expovariate(self.rate) * 1e9)
            return self._next


class Load:
    """Clients at work, each in a thread with a connection of its own, from `__enter__` to `__exit__`.

    In closed loop each sends its next request when the last one is answered. In open loop a request belongs to a time,
    not to a client: whoever is free takes the next time and waits for it, and latency counts from that time even where
    all clients were still waiting for slow answers (else a slow server would hide its delay: coordinated omission).

    Args:
        connect: opens a connection.
        clients: how many.
        arrivals: when to send; None for closed loop.
    """

    def __init__(self, connect: Callable[[], Connection], clients: int, arrivals: Arrivals | None = None) -> None:
        self._connect, self._arrivals = connect, arrivals
        self._stopping = threading.Event()
        self._records: list[list[Record]] = [[] for _ in range(clients)]
        self._read = [0] * clients
        self.last_error = ""
        self._failure: Exception | None = None
        self._threads = [
            threading.Thread(target=self._work, args=(records,), name="load", daemon=True) for records in self._records
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._stopping.set()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def taken(self) -> list[Record]:
        """What was answered since the last call.

        Raises:
            ServingError: the server is gone.
        """
        if self._failure is not None:
            raise ServingError(
                f"the server stopped answering: {self._failure}", "look at its log, and start it again"
            ) from self._failure
        found: list[Record] = []
        for client, records in enumerate(self._records):
            end = len(records)
            found += records[self._read[client] : end]
            self._read[client] = end
        return found

    def _work(self, records: list[Record]) -> None:
        try:
            connection, broken = self._connected(), 0
            for sent in self._times():
                try:
                    connection.infer()
                    broken = 0
                    records.append(Record(sent, time.perf_counter_ns(), True))
                except Refused as refused:
                    self.last_error = str(refused)
                    records.append(Record(sent, time.perf_counter_ns(), False))
                except OSError as error:
                    self.last_error, broken = str(error), broken + 1
                    if broken > MOST_RECONNECTS:
                        raise
                    records.append(Record(sent, time.perf_counter_ns(), False))
                    connection.close()
                    self._stopping.wait(RECONNECT_SECONDS)
                    connection = self._connected()
            connection.close()
        except Exception as error:  # whatever ends a client ends the test, in the thread that asks for the records
            self._failure = error
            self._stopping.set()

    def _times(self) -> Iterator[int]:
        while not self._stopping.is_set():
            if self._arrivals is None:
                yield time.perf_counter_ns()
                continue
            sent = self._arrivals.take()
            wait = (sent - time.perf_counter_ns()) / 1e9
            if wait > 0 and self._stopping.wait(wait):
                return
            yield sent

    def _connected(self) -> Connection:
        for attempt in range(MOST_RECONNECTS):
            try:
                return self._connect()
            except OSError as error:
                if attempt + 1 == MOST_RECONNECTS or self._stopping.wait(RECONNECT_SECONDS):
                    raise ServingError(f"cannot connect: {error}") from error
        raise AssertionError("unreachable")
