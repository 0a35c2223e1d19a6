"""What this process shows a server, a key and a certificate, and which servers it takes for genuine.

All of it stands in the environment: what stands in a command line is read by everybody on the machine. `NANOCV_KEY` is
a key that `nanocv serve key` made, `NANOCV_CERT` a PEM file with a certificate and its private key, for servers that
ask for one, and `SSL_CERT_FILE` the authorities that may have signed the server's, instead of the system's.
"""

import http.client
import os
import re
import ssl
from typing import TYPE_CHECKING

from nanocv_cli.errors import RequestError, ServingError
from nanocv_cli.untrusted import first_line, read_regular

if TYPE_CHECKING:
    import grpc

KEY, CERTIFICATE, AUTHORITIES = "NANOCV_KEY", "NANOCV_CERT", "SSL_CERT_FILE"
SANE_KEY = re.compile(r"[A-Za-z0-9._~+/=-]{1,4096}", re.ASCII)  # what may stand behind `Bearer` (RFC 6750)
LARGEST_FILE = 1 << 20  # bytes
UNKNOWN, NOT_ALLOWED, TOO_OFTEN = 401, 403, 429


def authorization() -> dict[str, str]:
    """The header that shows the key; empty where there is none.

    Raises:
        RequestError: what is there is no key; it is not repeated.
    """
    key = os.environ.get(KEY, "").strip()
    if not key:
        return {}
    if not SANE_KEY.fullmatch(key):
        raise RequestError(f"{KEY} holds something that is no key", "set it to what nanocv serve key has printed")
    return {"Authorization": f"Bearer {key}"}


def way_in(status: int) -> str | None:
    """What to do about a refusal by HTTP with this status, if it is because of the key."""
    if status == UNKNOWN:
        return f"set {KEY} to a key of that server; nanocv serve key makes one"
    if status == NOT_ALLOWED:
        return f"set {KEY} to a key with the role for this: nanocv serve key --roles"
    if status == TOO_OFTEN:
        return f"ask less often, or set {KEY} to a key with a higher rate: nanocv serve key --rate"
    return None


def tls_context() -> ssl.SSLContext:
    """How connections by HTTP are secured: TLS 1.2 or later, the server's name and certificate checked.

    Raises:
        RequestError: a file that the environment names cannot be used.
    """
    authorities, own = os.environ.get(AUTHORITIES), os.environ.get(CERTIFICATE)
    try:
        context = ssl.create_default_context(cafile=authorities or None)
        if own:
            context.load_cert_chain(own, password=_no_password)
    except (OSError, ValueError) as error:
        raise _unusable(error) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def connection_to(is_secure: bool, host: str, port: int, seconds: float) -> http.client.HTTPConnection:
    """A connection by HTTP, not opened yet; it follows no proxy of the environment, so that none is shown the key.

    Args:
        is_secure: whether by TLS.
        host: a name or an address, without brackets.
        port: of the server.
        seconds: that the server may be silent.

    Raises:
        RequestError: a file that the environment names cannot be used.
    """
    if is_secure:
        return http.client.HTTPSConnection(host, port, timeout=seconds, context=tls_context())
    return http.client.HTTPConnection(host, port, timeout=seconds)


def grpc_channel(address: str, is_secure: bool, options: list[tuple[str, int]]) -> "grpc.Channel":
    """A channel to a server; where it is secured, by the same rules.

    Args:
        address: `host:port`.
        is_secure: whether by TLS.
        options: of gRPC.

    Raises:
        RequestError: a file that the environment names cannot be used.
    """
    import grpc

    if not is_secure:
        return grpc.insecure_channel(address, options)
    tls_context()  # says what is wrong with the files; gRPC would only fail to connect
    authorities, own = os.environ.get(AUTHORITIES), os.environ.get(CERTIFICATE)
    try:
        trusted, mine = _content(authorities) if authorities else None, _content(own) if own else None
    except OSError as error:
        raise _unusable(error) from error
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(trusted, mine, mine), options)


def connecting(error: Exception, is_secure: bool) -> ServingError | None:
    """The failure of a server that is there but not trusted, or does not trust; None for any other.

    Args:
        error: of asking it.
        is_secure: whether it was asked by TLS.
    """
    # In TLS 1.3 a server sees a client's certificate after the client's handshake, and many just close without one.
    if is_secure and isinstance(error, ConnectionResetError | BrokenPipeError):
        return ServingError(
            "the server closed the secure connection without an answer",
            f"does it ask for a certificate? {CERTIFICATE} names yours, with its key; else see the server's log",
        )
    if not isinstance(error, ssl.SSLError):
        return None
    why = getattr(error, "verify_message", "") or first_line(error, 120)
    return ServingError(
        f"no secure connection: {why}",
        f"{AUTHORITIES} names who signed the server's certificate, {CERTIFICATE} yours; http:// is not secured",
    )


def _content(path: str) -> bytes:
    return read_regular(path, LARGEST_FILE)


def _unusable(error: Exception) -> RequestError:
    return RequestError(
        f"{AUTHORITIES} or {CERTIFICATE} names a file that cannot be used: {first_line(error, 120)}",
        f"{AUTHORITIES}: certificates in PEM; {CERTIFICATE}: a certificate and its private key, without a password",
    )


def _no_password() -> str:
    """Else OpenSSL would ask the terminal for one."""
    raise ValueError("the key has a password")
