"""What the server answers where it cannot answer: Triton's words, with a status for HTTP and one for gRPC."""

import logging
import time
import traceback
from enum import Enum
from pathlib import Path

import grpc

from nanocv_cli.untrusted import first_line, printable

LONGEST_MESSAGE = 1000
LONGEST_NAME = 120  # of what a client calls itself or a tensor, where a message repeats it
LOG = logging.getLogger(__name__)


class Status(Enum):
    """Triton's error codes, and what HTTP has besides: (HTTP status, gRPC status)."""

    INVALID_ARGUMENT = (400, grpc.StatusCode.INVALID_ARGUMENT)
    UNAUTHENTICATED = (401, grpc.StatusCode.UNAUTHENTICATED)
    FORBIDDEN = (403, grpc.StatusCode.PERMISSION_DENIED)
    NOT_FOUND = (404, grpc.StatusCode.NOT_FOUND)
    NO_METHOD = (405, grpc.StatusCode.UNIMPLEMENTED)
    TOO_SLOW = (408, grpc.StatusCode.DEADLINE_EXCEEDED)
    TOO_LARGE = (413, grpc.StatusCode.RESOURCE_EXHAUSTED)
    WRONG_TYPE = (415, grpc.StatusCode.INVALID_ARGUMENT)
    MISDIRECTED = (421, grpc.StatusCode.FAILED_PRECONDITION)
    TOO_MANY = (429, grpc.StatusCode.RESOURCE_EXHAUSTED)
    INTERNAL = (500, grpc.StatusCode.INTERNAL)
    UNSUPPORTED = (501, grpc.StatusCode.UNIMPLEMENTED)
    UNAVAILABLE = (503, grpc.StatusCode.UNAVAILABLE)
    TIMED_OUT = (504, grpc.StatusCode.DEADLINE_EXCEEDED)
    NO_VERSION = (505, grpc.StatusCode.UNIMPLEMENTED)

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
        message: one line, as Triton would say it where Triton says it. What a client wrote may stand in it as it is:
            it is made printable, and cut where it is long.
        status: its kind.
        reason: under which `nv_inference_request_failure` counts it: REJECTED, BACKEND, CANCELED or OTHER.
        headers: of the answer by HTTP, which tell a client what to do.
    """

    def __init__(
        self,
        message: str,
        status: Status = Status.INVALID_ARGUMENT,
        reason: str = "OTHER",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = printable(message, LONGEST_MESSAGE)
        self.status = status
        self.reason = reason
        self.headers = headers


class TooLarge(Fault):
    """A request beyond a limit of bytes."""

    def __init__(self, limit: int, what: str = "the request") -> None:
        super().__init__(f"{what} is larger than {limit:,} bytes", Status.TOO_LARGE)


def about(request_id: str, message: str) -> str:
    """A message that names the request it is about, in Triton's form."""
    return f"[request id: {shown(request_id) or '<id_unknown>'}] {message}"


def shown(name: object) -> str:
    """A client's name for something, short enough to leave room for what is said about it."""
    return printable(name, LONGEST_NAME)


class Defects:
    """Tells the log of exceptions that nobody expected, but of no more than one in a while: clients may cause many.

    Args:
        seconds: between two lines.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        self._seconds, self._next, self._unsaid = seconds, 0.0, 0

    def answer(self, error: Exception) -> Fault:
        """What the client is told: that there is a defect, and no more."""
        now = time.monotonic()
        if now < self._next:
            self._unsaid += 1
        else:
            more = f"; {self._unsaid} more since the last such line" if self._unsaid else ""
            kind, what = type(error).__name__, first_line(error)
            LOG.error("a request failed in the server: %s: %s (%s%s)", kind, what, _place(error), more)
            self._next, self._unsaid = now + self._seconds, 0
        return Fault(f"internal: {type(error).__name__}", Status.INTERNAL)


def _place(error: Exception) -> str:
    """Where it happened: the innermost calls, on one line."""
    calls = list(traceback.walk_tb(error.__traceback__))[-4:]
    return " < ".join(f"{Path(f.f_code.co_filename).name}:{line} {f.f_code.co_name}" for f, line in reversed(calls))


DEFECTS = Defects()
