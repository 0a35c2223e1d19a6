"""A connection's bytes become whole requests, within bounds.

The bytes are parsed by llhttp (`httptools`), in pieces. Nothing may stand in a head that two readers could read
differently. A client mostly sends the same head again: bytes that are those of its last head, one by one, say what that
said, and are not parsed a second time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import httptools

from nanocv_cli.serving.embedded.budget import Budget
from nanocv_cli.serving.embedded.faults import Fault, Status, TooLarge
from nanocv_cli.serving.embedded.http.messages import Body, HttpRequest
from nanocv_cli.serving.embedded.limits import Limits

LARGEST_HEAD = 1 << 16
MOST_HEADERS = 128
# Each says something about the request that can only be said once.
ONCE = {
    "authorization",
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
HEAD_END = b"\r\n\r\n"
CHUNKS_OF_A_TURN = 256  # each takes its time, and of the smallest a hundred times as many may come at once
LARGE_PART = 1 << 10  # bytes; smaller ones are gathered: kept one by one they would take many times their size
LONGEST_KNOWN = 1 << 10  # bytes of a head that is remembered


@dataclass(frozen=True, slots=True)
class KnownHead:
    """A head that was parsed and checked on this connection: what its bytes say.

    Attributes:
        text: all of it, with the empty line at its end.
        method, target, version, headers: see `HttpRequest`.
        length: of the body that follows it.
    """

    text: bytes
    method: str
    target: bytes
    version: str
    headers: dict[str, str]
    length: int


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
        self._known: KnownHead | None = None
        self._chunks = 0  # of this turn
        self._begin()

    def parse(self, data: bytes, may_go_on: Callable[[], bool]) -> bytes:
        """Parses bytes for as long as `may_go_on`, and no more chunks than a turn's; returns what is left of them.

        Raises:
            Fault: they are not a request that this server takes. Nothing can be read after that.
        """
        place, end, self._chunks = 0, len(data), 0
        whole = data if end <= PIECE else memoryview(data)
        try:
            while place < end and self._chunks < CHUNKS_OF_A_TURN and may_go_on():
                if self._unparsed:
                    place += self._take(whole[place : place + self._left], end)
                    continue
                known = self._known
                if known is not None and not self.begun and data.startswith(known.text, place):
                    place += len(known.text)
                    self._repeat(known)
                    continue
                size, is_head = self._next_piece(data, place)
                piece, request = whole[place : place + size], self.request
                place += len(piece)
                if self._left <= 0:
                    self._unheard += len(piece)
                    if self._unheard > LARGEST_HEAD:
                        raise _head_too_large()
                self._parser.feed_data(piece)
                # No request ended in this piece, so what is a whole head now is this one alone.
                if is_head and self.in_body and request is self.request and request.keep_alive:
                    self._remember(bytes(piece))
        except httptools.HttpParserUpgrade:
            self.over = True  # it is answered as plain HTTP; what would follow is another protocol
            return b""
        except httptools.HttpParserError as error:
            # An error of our own callbacks arrives as the parser's error's cause.
            cause = error.__context__
            raise cause if isinstance(cause, Fault) else Fault("this is not HTTP") from error
        return data[place:]

    def seconds_left(self, limits: Limits) -> float:
        """How much longer the client may take for the body, by what it has sent."""
        return self.begun + limits.body_seconds + self.received / limits.body_rate - time.monotonic()

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
        request.version = self._parser.get_http_version()
        if not request.keep_alive:
            self._known = None  # what follows its body is no request, whatever it looks like: the parser says so
        length = body_length(request.headers, request.version)
        if length is not None and length > self._largest:
            raise TooLarge(self._largest)
        self._check(request)
        self.in_body, self._left, self._unheard = True, length or 0, 0

    def on_chunk_header(self) -> None:
        self._unheard = 0
        self._chunks += 1

    def on_body(self, body: Body) -> None:
        request, size = self.request, len(body)
        self._unheard, self._left, self.received = 0, self._left - size, self.received + size
        if self.received > self._largest:
            raise TooLarge(self._largest)
        parts = self._parts
        if size >= LARGE_PART:
            parts.append(body)
        elif parts and isinstance(parts[-1], bytearray):
            parts[-1] += body
        else:
            parts.append(bytearray(body))
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
        self._parts: list[Body] = []
        self.received, self._left = 0, 0  # bytes of the body that came, and that are to come
        self._head, self._headers = 0, 0  # bytes of the head, trailers included, and how many headers
        self._unheard = 0  # bytes given to the parser since it last told of something
        self._unparsed = False  # the parser knows nothing of this request

    def _next_piece(self, data: bytes, place: int) -> tuple[int, bool]:
        """How many bytes the parser is given next, and whether they may be a head and nothing else."""
        if self._left > 0:
            return self._left, False
        if not self.begun and (found := data.find(HEAD_END, place, place + LONGEST_KNOWN)) >= 0:
            return found + len(HEAD_END) - place, True
        return PIECE, False

    def _remember(self, text: bytes) -> None:
        request = self.request
        if self._left > 0:  # a body whose length the head tells
            self._known = KnownHead(text, request.method, request.target, request.version, request.headers, self._left)

    def _repeat(self, known: KnownHead) -> None:
        """The client has sent a head once more; whether it may ask is another question each time."""
        request = self.request
        self.begun = time.monotonic()
        request.method, request.target, request.version = known.method, known.target, known.version
        request.headers = known.headers
        self._check(request)
        self.in_body, self._left, self._unparsed = True, known.length, True

    def _take(self, piece: Body, size: int) -> int:
        """Some of the body of a request that the parser knows nothing of; returns how many bytes."""
        found = len(piece)
        # A view keeps all that came with it in memory: of a small part only its bytes are kept.
        self.on_body(piece if 2 * found > size else bytes(piece))
        if not self._left:
            self.on_message_complete()
        return found

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


def _head_too_large() -> Fault:
    return Fault(f"the request's head is larger than {LARGEST_HEAD:,} bytes or {MOST_HEADERS} headers")
