"""HTTP's messages: whole requests and whole answers, and the bytes that answers become."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus

from nanocv_cli.serving.embedded.background import SmallestFirstExecutor
from nanocv_cli.serving.embedded.budget import Holding
from nanocv_cli.serving.embedded.exchange import Exchange
from nanocv_cli.serving.embedded.faults import Fault, shown
from nanocv_cli.serving.embedded.inflating import inflated

JSON = "application/json"
REASONS = {status.value: status.phrase for status in HTTPStatus}
CLOSE = "Connection: close\r\n"
Body = bytes | bytearray | memoryview


@dataclass(eq=False, slots=True)
class HttpRequest:
    """A whole request, or as much of one as is here.

    Attributes:
        holding: the bytes it holds, until its answer is with the client.
        method: as sent (`GET`).
        target: path and query as sent.
        version: of HTTP, as `1.1`.
        headers: names in lower case; none twice that this server reads.
        body: as sent, not yet uncompressed.
        keep_alive: whether the client wants to ask again on this connection.
        refusal: the answer, where the request is not one that anything but the protocol has to answer.
        exchange: what its client and the log are told of it.
    """

    holding: Holding
    method: str = ""
    target: bytes = b""
    version: str = "1.1"
    headers: dict[str, str] = field(default_factory=dict)
    body: Body = b""
    keep_alive: bool = True
    refusal: HttpAnswer | None = None
    exchange: Exchange = field(default_factory=Exchange)


@dataclass(eq=False, slots=True)
class HttpAnswer:
    """A whole answer."""

    body: bytes = b""
    status: int = 200
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()

    def head(self, keep_alive: bool, told: Iterable[tuple[str, str]] = ()) -> bytes:
        """Status line and headers, with those that tell of the exchange."""
        known = _known_lines(self.status, len(self.body), self.content_type, self.headers)
        more = "".join([f"{name}: {value}\r\n" for name, value in told])
        return f"{known}{more}{'' if keep_alive else CLOSE}\r\n".encode()


@lru_cache(1024)
def _known_lines(status: int, length: int, content_type: str, headers: tuple[tuple[str, str], ...]) -> str:
    """The lines of a head that many answers share."""
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, '')}", f"Content-Length: {length}"]
    if length:
        lines.append(f"Content-Type: {content_type}")
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers), ""])


def refused(fault: Fault, *headers: tuple[str, str]) -> HttpAnswer:
    """The answer that says why there is none."""
    content = json.dumps({"error": fault.message}).encode()
    return HttpAnswer(content, fault.status.http, headers=(*fault.headers, *headers))


async def uncompressed(request: HttpRequest, limit: int, executor: SmallestFirstExecutor) -> Body:
    """The body inflated, in steps, each of which is counted among the request's bytes before the next.

    Args:
        request: with its body as sent.
        limit: bytes of the result.
        executor: where all steps but a small first one are done.

    Raises:
        Fault: an encoding other than gzip and deflate, a damaged body, more than `limit` bytes, or no room for them.
    """
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding == "identity":
        return request.body
    if encoding not in ("gzip", "deflate"):
        raise Fault(f"Content-Encoding '{shown(encoding)}' is not supported; gzip and deflate are")
    return await inflated(request.body, limit, request.holding, executor, f"the {encoding} body")
