"""Who may ask, and for what: the names this server answers to, pages of other sites, changes to what it serves.

A browser sends what any page tells it to, to this server too if it runs on the same machine. So a request that comes
from another site's page is refused, and so is one that calls this server by a name that is not its own: that is how a
page makes the browser believe that this server belongs to it (DNS rebinding).
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Collection

from nanocv_cli.errors import RequestError
from nanocv_cli.serving.embedded.faults import Fault, Status, shown
from nanocv_cli.serving.ports import Control
from nanocv_cli.untrusted import printable

Headers = dict[str, str]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})(?::[0-9]{1,5})?", re.ASCII)
MOST_KNOWN = 256
SAFE = ("GET", "HEAD")
# What a page of another site may send without asking first, and no tool sends unless it is told to.
SIMPLE_TYPES = ("text/plain", "multipart/form-data")
# Triton's words, whichever manner of control it is that forbids it.
NOT_EXPLICIT = "explicit model load / unload is not allowed if polling is enabled"


class Access:
    """The rules of one server.

    Args:
        host: where it listens, a name or an address.
        allowed: further names it is known by; `*` for any.
        control: what changes the models that are served: `none`, requests (`explicit`), or the folder (`poll`).

    Raises:
        RequestError: one of the further names is none.
    """

    def __init__(self, host: str, allowed: Collection[str] = (), control: Control = "none") -> None:
        further = set(allowed) - {"*"}
        for name in further:
            if not (HOST.fullmatch(name) or _is_address(name)):
                raise RequestError(f"{printable(name)!r} is no name of a host", "--allowed-host NAME, or * for any")
        self._any = "*" in allowed
        self._names = {_plain(name) for name in (*LOOPBACK, host, socket.gethostname(), *further)}
        self._control = control
        self._known: set[str] = set()  # Host headers that were found right

    def check(self, method: str, headers: Headers, local: Callable[[], str]) -> None:
        """Lets a request pass, or does not.

        Args:
            method: of the request.
            headers: by lower-case name.
            local: tells the address at which the client reached this server.

        Raises:
            Fault: it calls the server by another's name, or another site's page sent it.
        """
        host = headers.get("host")
        if host is not None and host not in self._known:
            self._check_host(host, local)
            if len(self._known) < MOST_KNOWN:
                self._known.add(host)
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
            raise Fault(f"pages of {shown(origin)} may not ask this server", Status.FORBIDDEN)
        if method not in SAFE and headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Fault("pages of other sites may not ask this server", Status.FORBIDDEN)

    def check_control(self, headers: Headers | None = None) -> None:
        """Lets a request change the models that are served, or does not.

        Args:
            headers: of a request by HTTP.

        Raises:
            Fault: this server's models are not changed by requests, or not by this kind of request.
        """
        if self._control != "explicit":
            raise Fault(f"{NOT_EXPLICIT}; nanocv serve run --control explicit allows it", Status.UNAVAILABLE)
        kind = (headers or {}).get("content-type", "").partition(";")[0].strip().lower()
        if kind in SIMPLE_TYPES:
            raise Fault(f"Content-Type {kind} is not taken here; send application/json", Status.WRONG_TYPE)

    def _check_host(self, host: str, local: Callable[[], str]) -> None:
        if not HOST.fullmatch(host):
            raise Fault(f"Host '{shown(host)}' names no host")
        name = _plain(host)
        if not (self._any or name in self._names or name == _plain(local())):
            raise Fault(
                f"this server is not known as '{shown(name)}'; nanocv serve run --allowed-host NAME makes it so",
                Status.MISDIRECTED,
            )


def _plain(name: str) -> str:
    """A name or address as it is compared: without a port, lower case, addresses in their shortest form."""
    name = name.partition("%")[0]
    if (found := HOST.fullmatch(name)) and not _is_address(name):
        name = found[1]
    name = name.strip("[]").rstrip(".").lower()
    if not _is_address(name):
        return name
    address = ipaddress.ip_address(name)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(address)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
