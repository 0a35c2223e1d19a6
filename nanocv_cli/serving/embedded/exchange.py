"""One request and its answer, as its client and the log name them: ids, sizes, times.

A request may bring an id (`x-request-id`) and the place in a trace that it belongs to (`traceparent`, W3C Trace
Context); it gets an id if it brings none. Both go back with its answer, in headers or in gRPC's trailing metadata:
`x-request-id`, and for a traced request `traceresponse` with the id of what this server did, the child of the span that
asked.
"""

import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count

from nanocv_cli.serving.embedded.job_queue import Job

REQUEST_ID, TRACE_PARENT = "x-request-id", "traceparent"
# What a log, a shell and a header all take as it is.
SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@,-]{1,128}", re.ASCII)
# Version, trace, span and flags; later versions may say more after these.
PARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII
)
LONGEST_NAME = 256  # of what a client wrote, as it is kept for the log
FIRST, NUMBERS = os.urandom(6).hex(), count(1)  # an id of ours: of the process, and of the request in it


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a request stands in a trace.

    Attributes:
        trace: the id of the whole, 32 hex digits.
        parent: of the span that asked, 16 hex digits.
        span: of what is done here, likewise.
        sampled: whether whoever asked records it.
    """

    trace: str
    parent: str
    span: str
    sampled: bool


@dataclass(eq=False, slots=True)
class Exchange:
    """One request and its answer.

    Attributes:
        request_id: the client's, or one of ours.
        trace: where it belongs to, if it says so.
        protocol: http or grpc.
        method: of HTTP, or the name of gRPC's.
        path: as sent, without what stands behind a `?`, cut; empty for gRPC.
        client: its address.
        key: the name of the key that it was let in with, never the key.
        model, version: what it asked.
        status: of the answer: HTTP's number, or the name of gRPC's code.
        bytes_in, bytes_out: of the bodies or messages, as sent.
        began: nanoseconds of `time.monotonic_ns`.
        ended: likewise.
        arrived: likewise: it was put into the queue of its model; 0 if it was not.
        queue_ns: in that queue.
        compute_ns: the run of the graph that answered it, with the laying ready of its inputs.
    """

    request_id: str = ""
    trace: Trace | None = None
    protocol: str = ""
    method: str = ""
    path: str = ""
    client: str = ""
    key: str = ""
    model: str = ""
    version: str = ""
    status: int | str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    began: int = 0
    ended: int = 0
    arrived: int = 0
    queue_ns: int = 0
    compute_ns: int = 0

    def begin(self, request_id: str | None, trace_parent: str | None) -> None:
        """It is about to be answered.

        Args:
            request_id: as the client sent it, if it did; one that is not sane is replaced.
            trace_parent: likewise; one that W3C's rules do not allow is passed over.
        """
        self.began = time.monotonic_ns()
        sane = request_id is not None and SANE_ID.fullmatch(request_id)
        self.request_id = request_id if sane and request_id else f"{FIRST}-{next(NUMBERS):x}"
        self.trace = _traced(trace_parent) if trace_parent else None

    def asks(self, model: str, version: str) -> None:
        """Which model it asks, in the client's words."""
        self.model, self.version = model[:LONGEST_NAME], version[:LONGEST_NAME]

    def ran(self, job: Job) -> None:
        """It was answered by a run."""
        self.arrived, self.queue_ns, self.compute_ns = job.arrived, job.queue_ns, job.compute_ns

    def end(self, status: int | str, bytes_out: int) -> None:
        """Its answer is made."""
        self.status, self.bytes_out, self.ended = status, bytes_out, time.monotonic_ns()

    def next(self) -> "Exchange":
        """The one that follows it in a stream: of the same client, under the same id."""
        other = Exchange(self.request_id, None, self.protocol, self.method, "", self.client, self.key)
        if old := self.trace:
            other.trace = Trace(old.trace, old.parent, os.urandom(8).hex(), old.sampled)
        other.began = time.monotonic_ns()
        return other

    @property
    def told(self) -> Iterable[tuple[str, str]]:
        """What goes back with the answer."""
        if (trace := self.trace) is None:
            return ((REQUEST_ID, self.request_id),)
        response = f"00-{trace.trace}-{trace.span}-{trace.sampled:02x}"
        return (REQUEST_ID, self.request_id), ("traceresponse", response)


Tell = Callable[[Exchange], None]


def _traced(text: str) -> Trace | None:
    found = PARENT.fullmatch(text)
    if found is None or (found[1] == "00" and found[5]):
        return None
    return Trace(found[2], found[3], os.urandom(8).hex(), bool(int(found[4], 16) & 1))
