"""As much of HTTP/2 as a client needs that does not play by gRPC's rules."""

import socket
import struct
from collections.abc import Iterator

METHOD = "/inference.GRPCInferenceService/"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
ACK, END_HEADERS, END_STREAM = 1, 4, 1
HEADER_TABLE_SIZE, INITIAL_WINDOW = 1, 4
CANCEL = 8


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def opening(window: int = 65535) -> bytes:
    """What a connection begins with; `window` is how much of each answer the client will take."""
    return PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW, window)) + frame(SETTINGS, ACK, 0)


def header_block(method: str, **further: str) -> bytes:
    """The headers of a call; underscores in names of further ones become hyphens."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": METHOD + method,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
        **{name.replace("_", "-"): value for name, value in further.items()},
    }
    # Literals without indexing.
    return b"".join(b"\0" + text(name) + text(value) for name, value in headers.items())


def call(stream: int, method: str, **further: str) -> bytes:
    """The beginning of a call; streams have odd numbers. Further headers as for `header_block`."""
    return frame(HEADERS, END_HEADERS, stream, header_block(method, **further))


def message(stream: int, content: bytes, announced: int | None = None, end: bool = True) -> bytes:
    """A gRPC message of at most 16 kB, which may announce more than comes."""
    size = len(content) if announced is None else announced
    return frame(DATA, END_STREAM if end else 0, stream, b"\0" + struct.pack(">I", size) + content)


def frames(connection: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    """The kind, stream and payload of all that the server sends until it closes."""
    received = b""
    while part := connection.recv(65536):
        received += part
        while len(received) >= 9 and len(received) >= 9 + (size := int.from_bytes(received[:3], "big")):
            yield received[3], int.from_bytes(received[5:9], "big"), received[9 : 9 + size]
            received = received[9 + size :]


def text(content: str) -> bytes:
    """A text of less than 127 characters, as a header block holds it."""
    return bytes([len(content)]) + content.encode()
