"""Where a server listens, and who changes what it serves."""

import ipaddress
import socket
from dataclasses import dataclass
from typing import Literal

# Nobody while it runs, requests to load and unload, or the repository's folder.
Control = Literal["none", "explicit", "poll"]


def address(host: str, port: int) -> str:
    """`host:port`; an IPv6 address stands in brackets, as in URLs (RFC 3986)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether who listens there is reached from this machine alone, as far as can be found out."""
    try:
        found = {str(place[4][0]).partition("%")[0] for place in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(one).is_loopback for one in found)


@dataclass(frozen=True)
class Ports:
    """Host and the three ports, Triton's by default; 0 is any free one."""

    host: str = "127.0.0.1"
    http: int = 8000
    grpc: int = 8001
    metrics: int = 8002


@dataclass(frozen=True)
class Addresses:
    """Where a running server can be reached."""

    host: str
    http_port: int
    grpc_port: int
    metrics_port: int

    @property
    def http(self) -> str:
        """`host:port` of KServe v2 over HTTP."""
        return address(self.host, self.http_port)

    @property
    def grpc(self) -> str:
        """`host:port` of KServe v2 over gRPC."""
        return address(self.host, self.grpc_port)

    @property
    def metrics(self) -> str:
        """`host:port` of Prometheus' /metrics."""
        return address(self.host, self.metrics_port)
