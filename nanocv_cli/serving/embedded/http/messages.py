"""HTTP's messages: a connection's bytes become whole requests, within bounds, and whole answers become bytes.

The bytes are parsed by llhttp (`httptools`), in pieces. Nothing may stand in a head that two readers could read
differently.
"""

from __future__ import annotations

import array
import fcntl
import json
import termios
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus

import httptools

from nanocv_cli.serving.embedded.background import SMALL, SmallestFirstExecutor
from nanocv_cli.serving.embedded.budget import Budget, Holding
from nanocv_cli.serving.embedded.exchange import Exchange
from nanocv_cli.serving.embedded.faults import Fault, Status, TooLarge, shown

JSON = "application/json"
REASONS = {status.value: status.phrase for status in HTTPStatus}
STEP_IN, STEP_OUT = 1 << 16, 1 << 20  # bytes of a body that are inflated, and made, at once
Body = bytes | bytearray | memoryview
LARGEST_HEAD = 1 << 16
MOST_HEADERS = 128
# Each says something about the request that can only be said once.
ONCE = {
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "inference-header-content-length",
    "origin",
    "sec-fetch-site",
    "transfer-encoding",
}
PIECE = 1 << 9  # bytes that are parsed before it is asked again whether to go on: so few requests begin at once


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
        exchange: what its client and the log are told of it.
    """

    holding: Holding
    method: str = ""
    target: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    body: Body = b""
    keep_alive: bool = True
    refusal: HttpAnswer | None = None
    exchange: Exchange = field(default_factory=Exchange)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A whole answer."""

    body: bytes = b""
    status: int = 200
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()

    def head(self, keep_alive: bool, told: Iterable[tuple[str, str]] = ()) -> bytes:
        """Status line and headers, with those that tell of the exchange."""
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, '')}", f"Content-Length: {len(self.body)}"]
        if self.body:
            lines.append(f"Content-Type: {self.content_type}")
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines += [f"{name}: {value}" for name, value in told]
        if not keep_alive:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode()


def refused(fault: Fault, *headers: tuple[str, str]) -> HttpAnswer:
    """The answer that says why there is none."""
    return HttpAnswer(json.dumps({"error": fault.message}).encode(), fault.status.http, headers=headers)


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
    # 32 more than the window's bits: zlib finds out by itself which of the two it is.
    inflate, sent, found = zlib.decompressobj(zlib.MAX_WBITS | 32), memoryview(request.body), bytearray()
    place = 0
    while not inflate.eof:
        piece = inflate.unconsumed_tail or sent[place : place + STEP_IN]
        place += 0 if inflate.unconsumed_tail else len(piece)
        most = min(STEP_OUT if found else SMALL, limit + 1 - len(found))
        try:
            part = await executor.run(most, inflate.decompress, piece, most)
        except zlib.error as error:
            raise Fault(f"the {encoding} body is damaged: {error}") from error
        if not part and not piece:
            raise Fault(f"the {encoding} body is damaged: it ends too early")
        request.holding.add(len(part))
        found += part
        if len(found) > limit:
            raise TooLarge(limit)
    if inflate.unused_data or place < len(sent):
        raise Fault(f"the {encoding} body is damaged: something follows its end")
    return found


class RequestReader:
    """Reads one connection's requests.

    Args:
        budget: where the bytes of their bodies are counted.
        largest: bytes of a body.
        check: looks at a head that is whole, and raises the `Fault` that it deserves.
        done: takes a request that is whole.

    Attributes:
        request: the one that is coming.
        begun: when its first byte came, by `time.monotonic`; 0 before that.
        in_body: its head is whole.
        received: bytes of its body.
        over: what follows is not HTTP.
    """

    def __init__(
        self,
        budget: Budget,
        largest: int,
        check: Callable[[HttpRequest], None],
        done: Callable[[HttpRequest], None],
    ) -> None:
        self._budget, self._largest, self._check, self._done = budget, largest, check, done
        self._parser = httptools.HttpRequestParser(self)
        self.over = False
        self.received: int = 0
        self._begin()

    def parse(self, data: bytes, may_go_on: Callable[[], bool]) -> bytes:
        """Parses bytes for as long as `may_go_on`; returns what is left of them.

        Raises:
            Fault: they are not a request that this server takes. Nothing can be read after that.
        """
        place, end = 0, len(data)
        whole = data if end <= PIECE else memoryview(data)
        try:
            while place < end and may_go_on():
                piece = whole[place : place + (self._left if self._left > 0 else PIECE)]
                place += len(piece)
                if self._left <= 0:
                    self._unheard += len(piece)
                    if self._unheard > LARGEST_HEAD:
                        raise _head_too_large()
                self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self.over = True  # it is answered as plain HTTP; what would follow is another protocol
            return b""
        except httptools.HttpParserError as error:
            # An error of our own callbacks arrives as the parser's error's cause.
            cause = error.__context__
            raise cause if isinstance(cause, Fault) else Fault("this is not HTTP") from error
        return data[place:]

    def forget(self) -> None:
        """Drops what there is of the request that is coming: it will not be answered."""
        self._parts.clear()
        self.request.holding.release()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self.begun = time.monotonic()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        self.request.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers += 1
        self._count(len(name) + len(value))
        if self.in_body:
            return  # a trailer is no header
        key, headers = name.decode("latin-1").lower(), self.request.headers
        if key in headers and key in ONCE:
            raise Fault(f"more than one {key} header")
        headers[key] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        request = self.request
        request.method = self._parser.get_method().decode("latin-1")
        request.keep_alive = self._parser.should_keep_alive()
        length = body_length(request.headers, self._parser.get_http_version())
        if length is not None and length > self._largest:
            raise TooLarge(self._largest)
        self._check(request)
        self.in_body, self._left, self._unheard = True, length or 0, 0

    def on_chunk_header(self) -> None:
        self._unheard = 0

    def on_body(self, body: bytes) -> None:
        request, size = self.request, len(body)
        self._unheard, self._left, self.received = 0, self._left - size, self.received + size
        if self.received > self._largest:
            raise TooLarge(self._largest)
        self._parts.append(body)
        request.holding.add(size)

    def on_message_complete(self) -> None:
        request, parts = self.request, self._parts
        request.body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._begin()
        self._done(request)

    def _begin(self) -> None:
        self.request = HttpRequest(self._budget.holding())
        self.begun = 0.0
        self.in_body = False
        self._parts: list[bytes] = []
        self.received, self._left = 0, 0  # bytes of the body that came, and that are to come
        self._head, self._headers = 0, 0  # bytes of the head, trailers included, and how many headers
        self._unheard = 0  # bytes given to the parser since it last told of something

    def _count(self, size: int) -> None:
        self._head += size
        self._unheard = 0
        if self._head > LARGEST_HEAD or self._headers > MOST_HEADERS:
            raise _head_too_large()


def body_length(headers: dict[str, str], version: str) -> int | None:
    """How long the body is, from a head that came whole; None for one in chunks.

    Args:
        headers: by lower-case name.
        version: of HTTP, as `1.1`.

    Raises:
        Fault: the head is not one that this server takes.
    """
    if version not in ("1.0", "1.1"):
        raise Fault(f"HTTP/{version} is not spoken here; HTTP/1.1 is", Status.NO_VERSION)
    if version == "1.1" and "host" not in headers:
        raise Fault("a request needs exactly one Host header")
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if coding is None:
        if length is None:
            return 0
        if not (length.isascii() and length.isdigit()):
            raise Fault("Content-Length is not a number")
        return int(length)
    if length is not None or version == "1.0":
        raise Fault("Transfer-Encoding stands beside Content-Length, or in a request of HTTP/1.0")
    if coding.strip().lower() != "chunked":
        raise Fault("Transfer-Encoding other than chunked is not supported", Status.UNSUPPORTED)
    return None


def unread_bytes(descriptor: int) -> int:
    """How many bytes a socket holds for whoever reads it; 0 also where the system does not tell."""
    found = array.array("i", [0])
    try:
        fcntl.ioctl(descriptor, termios.FIONREAD, found)
    except OSError:  # it is closed
        return 0
    return found[0]


def _head_too_large() -> Fault:
    return Fault(f"the request's head is larger than {LARGEST_HEAD:,} bytes or {MOST_HEADERS} headers")
