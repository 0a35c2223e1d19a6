"""A whole request and a whole answer of HTTP."""

import json
from dataclasses import dataclass, field
from http import HTTPStatus

from nanocv_cli.serving.embedded.budget import Holding
from nanocv_cli.serving.embedded.faults import Fault

JSON = "application/json"
REASONS = {status.value: status.phrase for status in HTTPStatus}
Body = bytes | bytearray | memoryview


@dataclass(eq=False, slots=True)
class HttpRequest:
    """A whole request, or as much of one as is here.

    Attributes:
        holding: the bytes it holds, until its answer is with the client.
        method: as sent (`GET`).
        target: path and query as sent.
        headers: names in lower case; none twice that this server reads.
        body: as sent, not yet uncompressed.
        keep_alive: whether the client wants to ask again on this connection.
        refusal: the answer, where the request is not one that anything but the protocol has to answer.
    """

    holding: Holding
    method: str = ""
    target: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    body: Body = b""
    keep_alive: bool = True
    refusal: "HttpAnswer | None" = None


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A whole answer."""

    body: bytes = b""
    status: int = 200
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()

    def head(self, keep_alive: bool) -> bytes:
        """Status line and headers."""
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, '')}", f"Content-Length: {len(self.body)}"]
        if self.body:
            lines.append(f"Content-Type: {self.content_type}")
        lines += [f"{name}: {value}" for name, value in self.headers]
        if not keep_alive:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode()


def refused(fault: Fault, *headers: tuple[str, str]) -> HttpAnswer:
    """The answer that says why there is none."""
    return HttpAnswer(json.dumps({"error": fault.message}).encode(), fault.status.http, headers=headers)
