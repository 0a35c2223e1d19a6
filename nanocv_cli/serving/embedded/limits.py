"""What one server lets its clients do, and what one model may take, in numbers."""

import contextlib
import resource
from dataclasses import dataclass, replace

from nanocv_cli.images.bounds import FROM_STRANGERS, SECONDS_FOR_STRANGERS
from nanocv_cli.machine import usable_processors

PROCESSORS = usable_processors()
OTHER_FILES = 256  # beside connections: graphs, sockets that listen, what libraries hold


@dataclass(frozen=True)
class Limits:
    """The bounds of one server.

    Attributes:
        message_bytes: largest request, as sent and uncompressed, and largest answer as JSON.
        text_bytes: largest JSON text of a request, and what a gRPC message may hold beside raw tensors. Nothing else
            runs while Python reads such a text: up to 50 ms for each MB.
        flight_bytes: all requests and answers that are in the server at once.
        connections: of each HTTP port at once; at more, idle ones give way.
        grpc_connections: of the gRPC port at once; more are closed.
        calls: gRPC calls at once; at more, those that stand still give way.
        streams: gRPC streams that may wait for their client's next request at once.
        idle_seconds: how long an HTTP connection may stay without a request.
        grpc_idle_seconds: how long a gRPC connection may stay without a call.
        head_seconds: how long a client may take to send a request's head.
        body_seconds: how long it may take to send a body, beside what `body_rate` gives it.
        body_rate: bytes per second that a client must send at least.
        taking_seconds: how long it may take to take 256 KiB of an answer.
        grpc_seconds: how long a client may take to send a message by gRPC, or to take one.
        image_pixels: of an image that is sent as a file.
        image_memory: bytes that decoding one may take, beside the file.
        image_scans: of a progressive JPEG: each goes over all pixels; encoders write ten.
        image_seconds: how long decoding one may take.
        image_threads: that decode at a time, for all clients.
    """

    message_bytes: int = 64 << 20
    text_bytes: int = 4 << 20
    flight_bytes: int = 512 << 20
    connections: int = 2048
    grpc_connections: int = 16384
    calls: int = 1024
    streams: int = 64
    idle_seconds: float = 75.0
    grpc_idle_seconds: float = 300.0
    head_seconds: float = 10.0
    body_seconds: float = 10.0
    body_rate: float = 16 << 10
    taking_seconds: float = 30.0
    grpc_seconds: float = 60.0
    image_pixels: int = FROM_STRANGERS.pixels
    image_memory: int = FROM_STRANGERS.memory
    image_scans: int = FROM_STRANGERS.scans
    image_seconds: float = SECONDS_FOR_STRANGERS
    image_threads: int = max(2, PROCESSORS // 2)


@dataclass(frozen=True)
class ModelLimits:
    """What one model may take.

    Attributes:
        copies: sessions, over its versions, instance groups and devices: each holds the weights once more.
        threads: of one copy within an operator, and across operators.
        load_seconds: reading an entry, laying out its graph and warming it up.
        run_seconds: one run of a graph.
    """

    copies: int = max(16, 4 * PROCESSORS)
    threads: int = max(8, 2 * PROCESSORS)
    load_seconds: float = 60.0
    run_seconds: float = 60.0


DEFAULT_LIMITS = ModelLimits()


def fitting(limits: Limits) -> Limits:
    """The limits with no more connections than this process may open files, which it may let itself do.

    A port whose connections cannot be opened is closed to everybody.
    """
    wanted = OTHER_FILES + 2 * limits.connections + limits.grpc_connections
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        more = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        with contextlib.suppress(OSError, ValueError):  # macOS has another limit yet
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, most))
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed == resource.RLIM_INFINITY or allowed >= wanted:
        return limits
    room = max(4, allowed - OTHER_FILES)
    connections = min(limits.connections, room // 4)
    return replace(
        limits, connections=connections, grpc_connections=min(limits.grpc_connections, room - 2 * connections)
    )
