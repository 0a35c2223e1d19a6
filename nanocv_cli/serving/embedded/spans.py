"""Requests as OpenTelemetry's spans, sent to a collector by OTLP over HTTP: each with its wait and its run.

The SDK sends them from a thread of its own, out of a bounded queue, and drops what finds no room there.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from nanocv_cli import __version__
from nanocv_cli.serving.embedded.exchange import Exchange, Tell, Trace

SEND_SECONDS = 2.0  # for one batch of spans, with all tries; and for all that is left when the server ends
SCOPE = InstrumentationScope("nanocv", __version__)
Attributes = dict[str, str | int]


@contextlib.contextmanager
def sending(collector: str) -> Iterator[Tell]:
    """What sends an exchange that has ended, as spans.

    When the context ends, the last ones are sent, for `SEND_SECONDS` in all: what a collector has not taken by then is
    lost.

    Args:
        collector: the whole URL of a collector's door for traces, as `http://127.0.0.1:4318/v1/traces`.
    """
    resource = Resource.create({"service.name": "nanocv", "service.version": __version__})
    processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=collector, timeout=SEND_SECONDS))

    def send(exchange: Exchange) -> None:
        if exchange.trace is None:  # it is the first of a trace, and the log names that too
            exchange.trace = Trace(os.urandom(16).hex(), "", os.urandom(8).hex(), True)
        for span in _spans(exchange, exchange.trace, resource):
            processor.on_end(span)

    try:
        yield send
    finally:
        # By itself it gives each batch that is left as long, and waits for half a minute. Its threads are daemons.
        last = threading.Thread(target=processor.shutdown, name="last spans", daemon=True)
        last.start()
        last.join(SEND_SECONDS)


def _spans(exchange: Exchange, trace: Trace, resource: Resource) -> Iterator[ReadableSpan]:
    if not trace.sampled:
        return
    offset = time.time_ns() - time.monotonic_ns()  # from the clock that cannot be set to the one that tells the time
    flags, number = TraceFlags(TraceFlags.SAMPLED), int(trace.trace, 16)
    here = SpanContext(number, int(trace.span, 16), is_remote=False, trace_flags=flags)
    asked = SpanContext(number, int(trace.parent, 16), is_remote=True, trace_flags=flags) if trace.parent else None

    def span(name: str, begin: int, end: int, **more: object) -> ReadableSpan:
        own = SpanContext(number, int.from_bytes(os.urandom(8)), is_remote=False, trace_flags=flags)
        told = {"context": own, "parent": here, "status": Status(), "kind": SpanKind.INTERNAL, **more}
        return ReadableSpan(
            name,
            resource=resource,
            instrumentation_scope=SCOPE,
            start_time=begin + offset,
            end_time=end + offset,
            **told,  # type: ignore[arg-type]
        )

    yield span(
        exchange.method,
        exchange.began,
        exchange.ended,
        context=here,
        parent=asked,
        kind=SpanKind.SERVER,
        status=Status(StatusCode.ERROR) if _failed(exchange) else Status(),
        attributes=_attributes(exchange),
    )
    if exchange.arrived:
        taken = exchange.arrived + exchange.queue_ns
        yield span("queue", exchange.arrived, taken)
        yield span("compute", taken, taken + exchange.compute_ns)


def _failed(exchange: Exchange) -> bool:
    status = exchange.status
    return status >= 500 if isinstance(status, int) else status in ("INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED")


def _attributes(exchange: Exchange) -> Attributes:
    """By OpenTelemetry's conventions, where it has any."""
    told: Attributes = {"client.address": exchange.client, "nanocv.request_id": exchange.request_id}
    if exchange.protocol == "http":
        told |= {"http.request.method": exchange.method, "url.path": exchange.path}
        told |= {"http.response.status_code": exchange.status}
    else:
        told |= {"rpc.system": "grpc", "rpc.method": exchange.method, "rpc.response.status_code": exchange.status}
    if exchange.model:
        told |= {"nanocv.model": exchange.model, "nanocv.version": exchange.version}
    return told
