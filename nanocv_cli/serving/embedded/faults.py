"""What the server answers where it cannot answer: Triton's words, with a status for HTTP and one for gRPC."""

from enum import Enum

import grpc


class Status(Enum):
    """Triton's error codes: (HTTP status, gRPC status)."""

    INVALID_ARGUMENT = (400, grpc.StatusCode.INVALID_ARGUMENT)
    NOT_FOUND = (404, grpc.StatusCode.NOT_FOUND)
    TOO_LARGE = (413, grpc.StatusCode.RESOURCE_EXHAUSTED)
    UNAVAILABLE = (503, grpc.StatusCode.UNAVAILABLE)
    INTERNAL = (500, grpc.StatusCode.INTERNAL)
    UNSUPPORTED = (501, grpc.StatusCode.UNIMPLEMENTED)
    TIMED_OUT = (504, grpc.StatusCode.DEADLINE_EXCEEDED)

    @property
    def http(self) -> int:
        """The HTTP status."""
        return self.value[0]

    @property
    def grpc(self) -> grpc.StatusCode:
        """The gRPC status."""
        return self.value[1]


class Fault(Exception):
    """A request that gets an error for an answer.

    Args:
        message: one line, as Triton would say it where Triton says it.
        status: its kind.
        reason: under which `nv_inference_request_failure` counts it: REJECTED, BACKEND, CANCELED or OTHER.
    """

    def __init__(self, message: str, status: Status = Status.INVALID_ARGUMENT, reason: str = "OTHER") -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason


def about(request_id: str, message: str) -> str:
    """A message that names the request it is about, in Triton's form."""
    return f"[request id: {request_id or '<id_unknown>'}] {message}"
