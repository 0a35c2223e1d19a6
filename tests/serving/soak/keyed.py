"""A server that lets in by keys, and what bears one: honest clients, attackers, whoever runs it."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from tritonclient.http import InferenceServerClientPlugin

from nanocv_cli.serving.key_file import add_key
from nanocv_cli.serving.launch import Server
from tests.serving.conformance.clients import Client
from tests.serving.embedded.attackers import Attacker, Habit
from tests.serving.embedded.grpc.raw_http2 import HEADERS, PREFACE, frame

HOST_LINE = b"Host: localhost\r\n"


@dataclass(frozen=True)
class KeyedServer(Server):
    """A running server with a key of all roles, and the file of its keys."""

    key: str
    key_file: Path

    @property
    def authorization(self) -> str:
        """The header's value."""
        return f"Bearer {self.key}"

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """For calls by gRPC."""
        return [("authorization", self.authorization)]

    def channel(self) -> grpc.Channel:
        """A connection of its own: channels of one process share theirs unless they are told not to."""
        return grpc.insecure_channel(self.grpc, [("grpc.use_local_subchannel_pool", 1)])

    def client(self, protocol: str, key: str = "") -> Client:
        """A client that bears the server's key, or another one."""
        client = Client(self, protocol)
        client.raw.register_plugin(_Bearer(f"Bearer {key}" if key else self.authorization))
        return client


def make_key(key_file: Path) -> str:
    """A key that opens everything, added to the file."""
    return add_key(key_file, "soak", ["infer", "control", "metrics"], None)


class KeyedAttacker(Attacker):
    """One whose requests bear a key, so that they are not refused for having none.

    Args:
        server: whose key it is.
        address: of the side that is attacked.
        habit: what it does.
    """

    def __init__(self, server: KeyedServer, address: str, habit: Habit) -> None:
        self._server = server
        super().__init__(address, habit)

    def connect(self) -> None:
        """Comes, or comes back."""
        super().connect()
        self._acts: Iterator[bytes | None] = (said and with_key(said, self._server) for said in self._acts)


def with_key(said: bytes, server: KeyedServer) -> bytes:
    """What a client says by HTTP/1.1 or from the beginning of HTTP/2 on, with the key in each request's head."""
    if not said.startswith(PREFACE):
        return said.replace(HOST_LINE, HOST_LINE + f"Authorization: {server.authorization}\r\n".encode())
    name, value = b"authorization", server.authorization.encode()
    literal = bytes([0, len(name)]) + name + bytes([len(value)]) + value
    changed, place = PREFACE, len(PREFACE)
    while place < len(said):
        size, kind, flags = int.from_bytes(said[place : place + 3], "big"), said[place + 3], said[place + 4]
        (stream,) = struct.unpack(">I", said[place + 5 : place + 9])
        payload = said[place + 9 : place + 9 + size]
        changed += frame(kind, flags, stream, payload + literal if kind == HEADERS else payload)
        place += 9 + size
    return changed


class _Bearer(InferenceServerClientPlugin):  # type: ignore[misc]
    def __init__(self, authorization: str) -> None:
        self._authorization = authorization

    def __call__(self, request: Any) -> None:
        request.headers["authorization"] = self._authorization
