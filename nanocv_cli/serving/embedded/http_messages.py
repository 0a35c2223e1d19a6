"""A whole request and a whole answer of HTTP."""

import zlib
from dataclasses import dataclass, field
from http import HTTPStatus

from nanocv_cli.serving.embedded.faults import Fault, Status

JSON = "application/json"
REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass
class HttpRequest:
    """A whole request.

    Attributes:
        method: as sent (`GET`).
        target: path and query as sent.
        headers: names in lower case; the last of each name.
        body: as sent, not yet uncompressed.
        keep_alive: whether the client wants to ask again on this connection.
        held: bytes of the budget that are held for it.
    """

    method: str = ""
    target: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    keep_alive: bool = True
    held: int = 0


@dataclass(frozen=True)
class HttpAnswer:
    """A whole answer."""

    body: bytes = b""
    status: int = 200
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()

    def to_bytes(self, keep_alive: bool) -> bytes:
        """Status line, headers and body."""
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, '')}", f"Content-Length: {len(self.body)}"]
        if self.body:
            lines.append(f"Content-Type: {self.content_type}")
        lines += [f"{name}: {value}" for name, value in self.headers]
        if not keep_alive:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode() + self.body


class TooLarge(Fault):
    """A body beyond the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the request is larger than {limit:,} bytes", Status.TOO_LARGE)


def uncompressed(request: HttpRequest, limit: int) -> bytes:
    """The request's body as it was before `Content-Encoding` gzip or deflate.

    Raises:
        Fault: another encoding, a damaged body, or more than `limit` bytes.
    """
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding == "identity":
        return request.body
    if encoding not in ("gzip", "deflate"):
        raise Fault(f"Content-Encoding {encoding!r} is not supported; gzip and deflate are")
    # 32 more than the window's bits: zlib finds out by itself which of the two it is.
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        body = inflate.decompress(request.body, limit)
    except zlib.error as error:
        raise Fault(f"the {encoding} body is damaged: {error}") from error
    if inflate.unconsumed_tail:
        raise TooLarge(limit)
    if not inflate.eof:
        raise Fault(f"the {encoding} body is damaged: it ends too early")
    return body
