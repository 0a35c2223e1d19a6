"""TLS on all three ports, with certificates of both sides, and their change while the server runs."""

import asyncio
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from http.client import HTTPSConnection
from pathlib import Path

import grpc
import pytest
import uvloop
from tritonclient.grpc import service_pb2 as pb

from nanocv_cli.bench.payload import build_payload
from nanocv_cli.bench.server_api import ServerApi
from nanocv_cli.bench.sweep import Target
from nanocv_cli.engine.kserve import ModelClient
from nanocv_cli.engine.model_url import parse_model_url
from nanocv_cli.errors import ConfigError, RequestError, ServingError
from nanocv_cli.serving.embedded import certificates
from nanocv_cli.serving.embedded.access import Access
from nanocv_cli.serving.embedded.budget import Budget
from nanocv_cli.serving.embedded.certificates import Certificates, TlsFiles
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.http.messages import HttpAnswer, HttpRequest
from nanocv_cli.serving.embedded.http.server import HttpServer
from nanocv_cli.serving.embedded.limits import Limits
from nanocv_cli.serving.launch import Server, started
from nanocv_cli.untrusted import read_regular
from tests.conftest import REPOSITORY
from tests.serving.embedded.certificates import Authority, Pair
from tests.serving.models import entry_config, write_model

pytestmark = pytest.mark.slow(4)
HEALTHCHECK = REPOSITORY / "deploy" / "healthcheck.py"
READY = "/inference.GRPCInferenceService/ServerReady"


@dataclass(frozen=True)
class Secured:
    """A server whose clients show certificates."""

    server: Server
    files: TlsFiles
    authority: Authority
    client: Pair
    repository: Path
    log: Path

    def context(self, client: Pair | None) -> ssl.SSLContext:
        """What a client with this certificate connects with."""
        context = ssl.create_default_context(cafile=self.authority.file)
        if client:
            context.load_cert_chain(client.certificate, client.key)
        return context

    def status(self, address: str, client: Pair | None, path: str = "/v2/health/ready") -> int:
        """What is answered by HTTP.

        Raises:
            OSError: the client is not let in.
        """
        with closing(HTTPSConnection(address, timeout=20, context=self.context(client))) as connection:
            connection.request("GET", path)
            return connection.getresponse().status

    def greets(self, client: Pair | None) -> bool:
        """Whether gRPC says its first word."""
        host, port = self.server.grpc.split(":")
        context = self.context(client)
        context.set_alpn_protocols(["h2"])
        with socket.create_connection((host, int(port)), timeout=20) as plain:
            try:
                with context.wrap_socket(plain, server_hostname=host) as one:
                    return bool(one.recv(9))
            except (ssl.SSLError, ConnectionError):
                return False

    def is_ready(self) -> bool:
        """Whether gRPC says so."""
        client = self.client
        own = client.key.read_bytes(), client.certificate.read_bytes()
        credentials = grpc.ssl_channel_credentials(self.authority.file.read_bytes(), *own)
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(self.server.grpc, credentials, options) as channel:
            return pb.ServerReadyResponse.FromString(channel.unary_unary(READY)(b"", timeout=20)).ready

    def serial(self, address: str) -> int:
        """Of the certificate that is shown there."""
        host, port = address.split(":")
        context = self.context(self.client)
        if address == self.server.grpc:
            context.set_alpn_protocols(["h2"])
        with socket.create_connection((host, int(port)), timeout=20) as plain, context.wrap_socket(
            plain, server_hostname=host
        ) as one:  # fmt: skip
            return int(str(one.getpeercert()["serialNumber"]), 16)  # type: ignore[index]


@pytest.fixture(scope="module")
def own_verbosity() -> Iterator[None]:
    """Servers set it by themselves; from this process, which has it set, they would inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GRPC_VERBOSITY", raising=False)
        yield


@pytest.fixture(scope="module")
def secured(own_verbosity: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    repository, folder = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("certificates")
    write_model(repository, entry_config("doubling", "doubling", backend="onnxruntime"), "doubling")
    authority = Authority(folder, "authority")
    shown = authority.sign("server")
    files = TlsFiles(shown.certificate, shown.key, folder / "clients.pem")
    shutil.copy(authority.file, folder / "clients.pem")
    options = ("--tls-cert", shown.certificate, "--tls-key", shown.key, "--tls-ca", folder / "clients.pem")
    log = folder / "server.log"
    with log.open("w+b") as said, started(repository, "embedded", "explicit", *map(str, options), log=said) as server:
        yield Secured(server, files, authority, authority.sign("client"), repository, log)


def test_who_shows_a_certificate_is_answered_on_all_three_ports(secured: Secured) -> None:
    server = secured.server
    assert secured.status(server.http, secured.client) == 200
    assert secured.status(server.metrics, secured.client, "/metrics") == 200
    assert secured.greets(secured.client) and secured.is_ready()


def test_clients_of_ours_show_what_the_environment_names(
    secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, own = secured.server, tmp_path / "both.pem"
    own.write_bytes(secured.client.certificate.read_bytes() + secured.client.key.read_bytes())
    url = f"https://{server.http}"
    with pytest.raises(ServingError, match="no secure connection") as untrusted:
        ModelClient(parse_model_url(f"{url}/doubling")).config()
    assert "SSL_CERT_FILE" in untrusted.value.hint
    monkeypatch.setenv("SSL_CERT_FILE", str(secured.authority.file))
    for ask in (ModelClient(parse_model_url(f"{url}/doubling")).config, lambda: ServerApi(url).metadata("doubling")):
        with pytest.raises(ServingError) as unknown:
            ask()
        assert "secure connection" in unknown.value.message and "NANOCV_CERT" in unknown.value.hint
    monkeypatch.setenv("NANOCV_CERT", str(own))
    assert ModelClient(parse_model_url(f"{url}/doubling")).config()["name"] == "doubling"
    api = ServerApi(url)
    payload = build_payload(api.metadata("doubling"), "doubling", 1, "zeros", {}, True)
    for protocol in ("http", "grpc"):  # what `bench server` asks by
        with closing(Target(api, "doubling", protocol, server.grpc).connector([payload])()) as connection:
            connection.infer()
    monkeypatch.setenv("NANOCV_CERT", str(secured.client.key))
    with pytest.raises(RequestError, match="NANOCV_CERT"):
        ModelClient(parse_model_url(f"{url}/doubling"))


def test_the_containers_health_check_asks_by_tls_too(secured: Secured, tmp_path: Path) -> None:
    assert HEALTHCHECK.is_file()
    own = tmp_path / "own.pem"
    own.write_bytes(secured.client.key.read_bytes() + secured.client.certificate.read_bytes())
    port = secured.server.http.split(":")[1]
    for shown, status in ((str(own), 0), ("", 1)):
        asked = [sys.executable, HEALTHCHECK, port]
        said = subprocess.run(asked, env=os.environ | {"NANOCV_CERT": shown}, capture_output=True, timeout=60)
        assert (said.returncode, said.stdout, said.stderr) == (status, b"", b"")


def test_nobody_else_is_let_in(secured: Secured, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger").sign("client")
    for client in (None, stranger):
        for address in (secured.server.http, secured.server.metrics):
            with pytest.raises(OSError):
                secured.status(address, client)
        assert not secured.greets(client)
    for address in (secured.server.http, secured.server.grpc, secured.server.metrics):
        host, port = address.split(":")
        with socket.create_connection((host, int(port)), timeout=20) as plain:
            plain.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200" not in plain.recv(1000)


def test_grpc_writes_no_lines_of_its_own(secured: Secured, own_verbosity: None, tmp_path: Path) -> None:
    """Neither about a client that speaks no TLS, nor about a port that is taken."""
    host, port = secured.server.grpc.split(":")
    said = secured.log.read_text()
    for _ in range(3):
        with socket.create_connection((host, int(port)), timeout=20) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while plain.recv(1000):
                pass
    assert secured.is_ready()
    assert secured.log.read_text() == said
    second = tmp_path / "second.log"
    with second.open("w+b") as log, pytest.raises(ServingError), started(
        secured.repository, "embedded", "explicit", "--grpc-port", port, log=log
    ):  # fmt: skip
        pass
    ready, error, *_ = lines = second.read_text().splitlines()
    assert ready == "doubling version 1 is ready"
    assert error.startswith(f"error: cannot listen on {secured.server.grpc}"), lines


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_are_not_spoken(secured: Secured) -> None:
    for address in (secured.server.http, secured.server.grpc, secured.server.metrics):
        host, port = address.split(":")
        for version, is_spoken in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
            context = secured.context(secured.client)
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, version
            context.set_alpn_protocols(["h2", "http/1.1"])
            with socket.create_connection((host, int(port)), timeout=20) as plain:
                try:
                    with context.wrap_socket(plain, server_hostname=host) as one:
                        assert is_spoken, one.version()
                except OSError:
                    assert not is_spoken


def test_a_hangup_changes_certificate_and_authority(secured: Secured, tmp_path: Path) -> None:
    server, files = secured.server, secured.files
    sides = (server.http, server.grpc, server.metrics)
    later = Authority(tmp_path, "later")
    new, client = secured.authority.sign("renewed"), later.sign("client")
    with closing(HTTPSConnection(server.http, timeout=20, context=secured.context(secured.client))) as kept:
        kept.request("GET", "/v2")
        assert kept.getresponse().read()
        shutil.copy(new.key, files.private_key)  # one of two: it does not belong to the certificate
        os.kill(server.pid, signal.SIGHUP)
        assert secured.status(server.http, secured.client) == 200
        shutil.copy(new.certificate, files.certificate)
        assert files.client_ca
        shutil.copy(later.file, files.client_ca)
        former = secured.client
        os.kill(server.pid, signal.SIGHUP)
        deadline = time.monotonic() + 20
        while True:
            try:
                if secured.status(server.http, client) == 200:
                    break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        renewed = replace(secured, client=client)
        assert [renewed.serial(side) for side in sides] == [new.serial] * 3
        assert renewed.is_ready() and renewed.status(server.metrics, client, "/metrics") == 200
        for side in (server.http, server.metrics):
            with pytest.raises(OSError):
                renewed.status(side, former)
        assert not renewed.greets(former)
        kept.request("GET", "/v2")  # who was let in stays so
        assert kept.getresponse().status == 200


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    one, other = authority.sign("one"), authority.sign("other")
    locked = tmp_path / "locked.key"
    locked.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n")
    for files, blamed in (
        (TlsFiles(one.certificate, other.key), other.key),
        (TlsFiles(one.key, one.certificate), one.key),
        (TlsFiles(one.certificate, locked), locked),
        (TlsFiles(one.certificate, tmp_path / "none"), tmp_path / "none"),
        (TlsFiles(tmp_path, one.key), tmp_path),
        (TlsFiles(one.certificate, one.key, other.key), other.key),
    ):
        with pytest.raises(ConfigError) as refused:
            Certificates(files)
        assert str(blamed) in refused.value.message
        assert files.client_ca is None or str(files.certificate) not in refused.value.message


def test_files_are_read_once_so_that_all_ports_have_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever becomes of them afterwards: here they are gone."""
    authority = Authority(tmp_path, "authority")
    pair = authority.sign("server")

    def taking(path: Path, largest: int) -> bytes:
        content = read_regular(path, largest)
        path.unlink()
        return content

    monkeypatch.setattr(certificates, "read_regular", taking)
    shown = Certificates(TlsFiles(pair.certificate, pair.key, authority.file))
    assert shown.context.verify_mode is ssl.CERT_REQUIRED
    assert [one["serialNumber"] for one in shown.context.get_ca_certs()]
    with pytest.raises(ConfigError, match="cannot read"):
        shown.reload()


def test_who_does_not_shake_hands_keeps_nobody_out(tmp_path: Path) -> None:
    """Clients that connect and say nothing, in the midst of them some that ask, at once after their handshake."""
    authority = Authority(tmp_path, "authority")
    pair = authority.sign("server")
    shown, limits = Certificates(TlsFiles(pair.certificate, pair.key)), Limits(connections=16)
    asked = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

    async def answer(request: HttpRequest) -> HttpAnswer:
        return HttpAnswer(request.body or b"yes")

    def gate(request: HttpRequest) -> None:
        if request.method == "POST":
            raise Fault("no key", Status.UNAUTHENTICATED)

    async def main() -> None:
        server = HttpServer(answer, Access("127.0.0.1"), limits, Budget(1 << 30), gate, None, shown)
        port = await server.listen("127.0.0.1", 0)
        context, silent = ssl.create_default_context(cafile=authority.file), []
        for _ in range(12):
            silent += [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            writer.write(asked)
            assert (await asyncio.wait_for(reader.read(), 20)).endswith(b"yes")
            writer.close()
        # A client that is refused sees why, though it is still sending.
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n" + bytes(1_000_000))
        assert b" 401 " in await asyncio.wait_for(reader.readline(), 20)
        for _, one in (*silent, (reader, writer)):
            one.close()
        await server.close(5)

    uvloop.run(asyncio.wait_for(main(), 60))
