"""What a server shows itself by, and asks its clients to show themselves by: TLS 1.2 or later, on all its ports.

The files are read again on SIGHUP, each once for all ports. Who connects then meets what they hold by then; who is
connected stays so.
"""

import contextlib
import os
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from nanocv_cli.errors import ConfigError
from nanocv_cli.untrusted import first_line, read_regular

LARGEST_FILE = 1 << 20  # bytes
# HTTP/2 is spoken on the port of gRPC alone, which tells that by itself.
PROTOCOLS = ["http/1.1"]
ADVICE = "PEM files that belong together: --tls-cert, its chain behind it, --tls-key, without a password, and --tls-ca"


@dataclass(frozen=True)
class TlsFiles:
    """Where they lie, all in PEM.

    Attributes:
        certificate: the server's, and its chain behind it.
        private_key: of that certificate, without a password.
        client_ca: who must have signed the certificate that a client shows; None where none is asked for.
    """

    certificate: Path
    private_key: Path
    client_ca: Path | None = None


class Certificates:
    """The certificates of one server.

    Args:
        files: where they lie.

    Attributes:
        context: what a connection by HTTP is secured with that is made now.

    Raises:
        ConfigError: one cannot be read, or they do not belong together.
    """

    context: ssl.SSLContext

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self.reload()
        self._told = self._config

    def reload(self) -> None:
        """Reads them again; where that fails, what was read before stays.

        Raises:
            ConfigError: one cannot be read, or they do not belong together.
        """
        files = self._files
        certificate, key = _content(files.certificate), _content(files.private_key)
        authorities = _content(files.client_ca) if files.client_ca else None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(PROTOCOLS)
        pair = f"{files.certificate} with the key {files.private_key}"
        with _naming(pair), _as_file(certificate) as chain, _as_file(key) as own:
            context.load_cert_chain(chain, own, _no_password)
        if authorities is not None:
            with _naming(f"{files.client_ca}"), _as_file(authorities) as trusted:
                context.load_verify_locations(trusted)
            context.verify_mode = ssl.CERT_REQUIRED
        self.context = context
        self._config = grpc.ssl_server_certificate_configuration([(key, certificate)], authorities)

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """What connections by gRPC are secured with, at each moment."""
        is_mutual = self._files.client_ca is not None
        return grpc.dynamic_ssl_server_credentials(self._config, self._changed, is_mutual)  # type: ignore[arg-type]

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What gRPC has not been told yet; it asks before each handshake, in threads of its own."""
        if (present := self._config) is self._told:
            return None
        self._told = present
        return present


def _content(path: Path) -> bytes:
    try:
        return read_regular(path, LARGEST_FILE)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}", ADVICE) from error


@contextlib.contextmanager
def _naming(what: str) -> Iterator[None]:
    """What OpenSSL refuses inside the block is told with the name of what it was given, which it does not say."""
    try:
        yield
    except (ssl.SSLError, ValueError, OSError) as error:
        raise ConfigError(f"{what} cannot be used for TLS: {first_line(error, 120)}", ADVICE) from error


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path with this content, that no other user can open and that is gone afterwards.

    Python's TLS takes paths alone. Were it given the files themselves, they could be other ones by then than those that
    gRPC is given.
    """
    with contextlib.ExitStack() as held:
        if hasattr(os, "memfd_create"):  # Linux: no disk sees a key
            descriptor = os.memfd_create("nanocv-tls", os.MFD_CLOEXEC)
            held.callback(os.close, descriptor)
        else:
            descriptor = held.enter_context(tempfile.TemporaryFile()).fileno()
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield f"/dev/fd/{descriptor}"


def _no_password() -> str:
    """Else OpenSSL would ask the terminal for one."""
    raise ValueError("the key has a password")
