"""Keys: nothing is open to who has none, but what is named here, and each role opens its own."""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import cast

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from nanocv_cli.bench.payload import build_payload
from nanocv_cli.bench.server_api import ServerApi
from nanocv_cli.bench.sweep import Target
from nanocv_cli.engine.kserve import ModelClient, RefusedError
from nanocv_cli.engine.model_url import parse_model_url
from nanocv_cli.serving.embedded.access import Access
from nanocv_cli.serving.embedded.background import SmallestFirstExecutor
from nanocv_cli.serving.embedded.credentials import CredentialFiles, Credentials
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.grpc.server import SERVICE
from nanocv_cli.serving.embedded.guard import INFER, Bucket, Guard
from nanocv_cli.serving.embedded.http.image_door import PostprocessorFor
from nanocv_cli.serving.embedded.http.page import page_answers
from nanocv_cli.serving.embedded.http.service import UNSUPPORTED, HttpService
from nanocv_cli.serving.embedded.image_reading import ImageReader
from nanocv_cli.serving.embedded.library import Library
from nanocv_cli.serving.embedded.limits import Limits
from nanocv_cli.serving.embedded.server_log import ServerLog
from nanocv_cli.serving.key_file import ROLES, Role, add_key
from nanocv_cli.serving.launch import Server, started
from tests.conftest import REPOSITORY, run_nanocv
from tests.serving.models import entry_config, write_model

pytestmark = pytest.mark.slow(4)
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")
EVERYBODY, NOBODY = "everybody", ""
# What opens each path of the inference port, for its own method.
PATHS = {
    "/v2": ("GET", "infer control"),
    "/v2/health/live": ("GET", EVERYBODY),
    "/v2/health/ready": ("GET", EVERYBODY),
    "/v2/models/stats": ("GET", "infer control"),
    "/v2/repository/index": ("POST", "infer control"),
    "/v2/models/doubling": ("GET", "infer control"),
    "/v2/models/doubling/infer": ("POST", "infer"),
    "/v2/models/doubling/ready": ("GET", "infer control"),
    "/v2/models/doubling/config": ("GET", "infer control"),
    "/v2/models/doubling/stats": ("GET", "infer control"),
    "/v2/repository/models/doubling/load": ("POST", "control"),
    "/v2/repository/models/doubling/unload": ("POST", "control"),
    **{path.decode(): ("GET", EVERYBODY) for path in page_answers()},
}
NO_PATHS = (
    *(f"/v2/{name}/status" for name in UNSUPPORTED),
    *(
        "/v2/health",
        "/v2/health/live/more",
        "/v2/models/none/infer",
        "/v1",
        "/metrics",
        "/..",
        "/%2e%2e/%00",
        "/nothing",
    ),
)
CALLS = {
    "ServerLive": EVERYBODY,
    "ServerReady": EVERYBODY,
    "ServerMetadata": "infer control",
    "ModelReady": "infer control",
    "ModelMetadata": "infer control",
    "ModelConfig": "infer control",
    "ModelStatistics": "infer control",
    "RepositoryIndex": "infer control",
    "ModelInfer": "infer",
    "ModelStreamInfer": "infer",
}
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "UINT8", "data": [1, 2, 3, 4]}]})


def message() -> bytes:
    """A request by gRPC."""
    request = pb.ModelInferRequest(model_name="doubling", raw_input_contents=[bytes(4)])
    request.inputs.add(name="x", datatype="UINT8", shape=[1, 4])
    return bytes(request.SerializeToString())


@dataclass(frozen=True)
class Guarded:
    """A server with keys, one of each role."""

    server: Server
    key_file: Path
    keys: dict[str, str]

    def hang_up(self, until: Callable[[], bool]) -> None:
        """Sends SIGHUP, and waits until that has had its effect."""
        os.kill(self.server.pid, signal.SIGHUP)
        deadline = time.monotonic() + 20
        while not until():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def ask(self, method: str, path: str, key: str | None, body: str = "", side: str = "http") -> HTTPResponse:
        """The answer by HTTP, read."""
        with closing(HTTPConnection(getattr(self.server, side), timeout=20)) as connection:
            connection.request(method, path, body, {} if key is None else {"Authorization": f"Bearer {key}"})
            answer = connection.getresponse()
            assert b"pytest-of-" not in answer.read()  # no answer tells where anything lies
            return answer

    def call(self, method: str, key: str | None, content: bytes = b"") -> grpc.StatusCode:
        """The status by gRPC."""
        metadata = [] if key is None else [("authorization", f"Bearer {key}")]
        with grpc.insecure_channel(self.server.grpc) as channel:
            try:
                ask = channel.stream_stream(f"/{SERVICE.full_name}/{method}")
                list(ask(iter([content]), timeout=20, metadata=metadata))
            except grpc.RpcError as error:
                assert "pytest-of-" not in str(error.details())  # type: ignore[attr-defined]
                return cast(grpc.StatusCode, error.code())  # type: ignore[attr-defined]
            return grpc.StatusCode.OK


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    repository = tmp_path_factory.mktemp("repository")
    write_model(repository, entry_config("doubling", "doubling", backend="onnxruntime"), "doubling")
    file = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys = {role: add_key(file, f"of-{role}", [role], None) for role in ROLES}
    with started(repository, "embedded", "explicit", "--key-file", str(file)) as server:
        yield Guarded(server, file, keys)


def test_every_path_and_method_of_the_router_is_named_above() -> None:
    executor = SmallestFirstExecutor()
    reader, no_tasks = ImageReader(Limits()), cast(PostprocessorFor, None)
    service = HttpService(
        cast(Library, None),
        Access("localhost"),
        Limits(),
        executor,
        Guard(),
        ServerLog(),
        reader,
        no_tasks,
        page_answers(),
    )
    found = {
        **{path.decode(): one for path, (one, _, _) in service._known.items()},
        **{"/".join(("/v2", *parts)): one for parts, one in service._plain.items()},
        **{f"/v2/models/doubling/{rest}".rstrip("/"): one for rest, one in service._of_models.items()},
        **{f"/v2/repository/models/doubling/{verb}": one for verb, one in service._of_repository.items()},
    }
    assert {path: one.method for path, one in found.items()} == {path: method for path, (method, _) in PATHS.items()}
    assert {method.name for method in SERVICE.methods} >= set(CALLS)


def test_without_a_key_every_path_is_closed_by_every_method(guarded: Guarded) -> None:
    versioned = {path.replace("/doubling", "/doubling/versions/1"): NOBODY for path in PATHS if "/doubling" in path}
    for path in (*PATHS, *NO_PATHS, *versioned):
        for method in METHODS:
            own, who = PATHS.get(path, ("", NOBODY))
            is_open = who == EVERYBODY and method in (own, "HEAD")
            answer = guarded.ask(method, path, None, "{}")
            assert answer.status == (200 if is_open else 401), (method, path)
            assert is_open or answer.headers["WWW-Authenticate"].startswith("Bearer")
    for path in ("/metrics", "/", "/nothing"):
        assert {guarded.ask(method, path, None, side="metrics").status for method in METHODS} == {401}


def test_the_containers_health_check_needs_no_key(guarded: Guarded) -> None:
    with socket.create_server(("127.0.0.1", 0)) as former:
        nobody = str(former.getsockname()[1])
    for port, status in ((guarded.server.http.split(":")[1], 0), (nobody, 1)):
        asked = [sys.executable, REPOSITORY / "deploy" / "healthcheck.py", port]
        assert subprocess.run(asked, timeout=60).returncode == status


@pytest.mark.parametrize(
    "target",
    [
        "//v2", "/v2//", "//v2/../v2", "/v2/health/live/..", "/v2/health/live/../../models/doubling", "/V2", "/v2%00",
        "/v2/health/live;/../stats", "/v2/health/live%2f..%2f..", "/v2/health/live%00", "/v2/models/%64oubling",
        "/v2/models/doubling/versions/1/../config", "/%76%32", "/v2?/v2/health/live", "/v2#/v2/health/live", "*",
        "/?/v2/models/stats", "http://localhost/v2/health/live", "http://localhost/v2", "//localhost/v2/health/live",
    ],
)  # fmt: skip
def test_no_spelling_of_a_path_opens_it(guarded: Guarded, target: str) -> None:
    host, port = guarded.server.http.split(":")
    for method in ("GET", "HEAD", "POST", "OPTIONS"):
        with socket.create_connection((host, int(port)), timeout=20) as one:
            one.sendall(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert one.recv(4096).split(b" ", 2)[1] in (b"400", b"401")


def test_what_is_open_opens_nothing_behind_it(guarded: Guarded) -> None:
    """On one connection, with the key of another request, or its head again without it."""
    host, port = guarded.server.http.split(":")
    live, open_head = (
        b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n",
    )
    keyed = open_head + f"Authorization: Bearer {guarded.keys['infer']}\r\n\r\n".encode()
    for before in (live, keyed, keyed * 2):
        with socket.create_connection((host, int(port)), timeout=20) as one:
            one.sendall(before + open_head + b"\r\n" + live)
            said = b"".join(iter(lambda one=one: one.recv(4096), b""))  # type: ignore[misc]
        statuses = [part[:3] for part in said.split(b"HTTP/1.1 ")[1:]]
        assert statuses[-1] == b"401" and set(statuses[:-1]) == {b"200"}


@pytest.mark.parametrize("role", [None, *ROLES])
def test_who_asks_for_what_there_is_not_needs_a_key(guarded: Guarded, role: Role | None) -> None:
    sent = {"metadata": [("authorization", f"Bearer {guarded.keys[role]}")]} if role else {}
    expected = grpc.StatusCode.UNIMPLEMENTED if role else grpc.StatusCode.UNAUTHENTICATED
    with grpc.insecure_channel(guarded.server.grpc) as channel:
        for method in ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/grpc.health.v1.Health/Check",
                       f"/{SERVICE.full_name}/modelinfer", f"/{SERVICE.full_name}/ModelInfer/", "/", "//"):  # fmt: skip
            with pytest.raises(grpc.RpcError) as refused:
                list(channel.stream_stream(method)(iter([message()]), timeout=20, **sent))
            assert refused.value.code() is expected  # type: ignore[attr-defined]


def test_without_a_key_every_call_is_closed(guarded: Guarded) -> None:
    for method in SERVICE.methods:
        expected = grpc.StatusCode.OK if CALLS.get(method.name) == EVERYBODY else grpc.StatusCode.UNAUTHENTICATED
        assert guarded.call(method.name, None) is expected, method.name


@pytest.mark.parametrize("role", ROLES)
def test_a_role_opens_its_own_alone(guarded: Guarded, role: Role) -> None:
    key = guarded.keys[role]
    for path, (method, who) in PATHS.items():
        if "load" not in path:
            allowed = who == EVERYBODY or role in who.split()
            assert (guarded.ask(method, path, key, BODY if "infer" in path else "").status == 403) is not allowed, path
    for path in NO_PATHS:
        assert guarded.ask("GET", path, key).status in (400, 404, 405, 501)
    assert guarded.ask("GET", "/metrics", key, side="metrics").status == (200 if role == "metrics" else 403)
    for call in SERVICE.methods:
        who = CALLS.get(call.name, "control")
        allowed = who == EVERYBODY or role in who.split()
        assert (guarded.call(call.name, key) is grpc.StatusCode.PERMISSION_DENIED) is not allowed, call.name


def test_a_key_is_let_in(guarded: Guarded) -> None:
    assert guarded.ask("POST", "/v2/models/doubling/infer", guarded.keys["infer"], BODY).status == 200
    for method in ("ModelInfer", "ModelStreamInfer"):
        assert guarded.call(method, guarded.keys["infer"], message()) is grpc.StatusCode.OK
    assert guarded.ask("POST", "/v2/repository/models/doubling/load", guarded.keys["infer"]).status == 403
    assert guarded.ask("POST", "/v2/repository/models/doubling/load", guarded.keys["control"]).status == 200


def test_clients_of_ours_show_the_key_that_the_environment_holds(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = guarded.server
    bench = ("bench", "server", "--url", server.http, "--model", "doubling", "--json")
    url = parse_model_url(f"http://{server.http}/doubling")
    for key, said in (("", "NANOCV_KEY"), (guarded.keys["metrics"], "--roles")):
        monkeypatch.setenv("NANOCV_KEY", key)
        with pytest.raises(RefusedError) as refused:
            ModelClient(url).config()
        assert said in refused.value.hint
        outcome = run_nanocv(*bench)
        assert outcome.code == 1 and said in outcome.document["error"]["hint"]
    monkeypatch.setenv("NANOCV_KEY", guarded.keys["infer"])
    assert ModelClient(url).config()["name"] == "doubling"
    api = ServerApi(server.http)
    payload = build_payload(api.metadata("doubling"), "doubling", 1, "zeros", {}, True)
    for protocol in ("http", "grpc"):  # what `bench server` asks by
        with closing(Target(api, "doubling", protocol, server.grpc).connector([payload])()) as connection:
            connection.infer()
    monkeypatch.setenv("NANOCV_KEY", "two words\r\nX: y")
    outcome = run_nanocv(*bench)
    assert outcome.code == 2 and "two words" not in outcome.out + outcome.err


def test_nothing_else_is_a_key(guarded: Guarded) -> None:
    key = guarded.keys["infer"]
    line = next(line for line in guarded.key_file.read_text().splitlines() if line.startswith("of-infer"))
    for wrong in (key[:-1], key + "0", key.upper(), key[:-1] + "g", "", " ", line, line.split(":")[-1], "x" * 60_000,
                  "ü" * 88, key[:24] + "0" * 64):  # fmt: skip
        answer = guarded.ask("GET", "/v2", wrong)
        assert answer.status == 401, wrong
    with closing(HTTPConnection(guarded.server.http, timeout=20)) as connection:
        connection.putrequest("GET", "/v2")
        for _ in range(2):
            connection.putheader("Authorization", f"Bearer {key}")
        connection.endheaders()
        assert connection.getresponse().status == 400
    with closing(HTTPConnection(guarded.server.http, timeout=20)) as connection:
        connection.request("GET", "/v2", headers={"Authorization": f"Basic {key}"})
        assert connection.getresponse().status == 401


def test_a_key_opens_nothing_behind_its_own_request(guarded: Guarded) -> None:
    host, port = guarded.server.http.split(":")
    shown = f"Host: localhost\r\nAuthorization: Bearer {guarded.keys['infer']}\r\n"
    for line in ("GET /v2", "CONNECT localhost:80", "OPTIONS *", "GET http://localhost/v2/health/live"):
        with socket.create_connection((host, int(port)), timeout=20) as one:
            one.sendall(f"GET /v2 HTTP/1.1\r\n{shown}\r\n{line} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            received = b""
            while part := one.recv(65536):
                received += part
        assert [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]] == [200, 401], line


def test_a_key_does_not_open_what_another_site_asks_for(guarded: Guarded) -> None:
    own = {"Authorization": f"Bearer {guarded.keys['infer']}"}
    for more, status in (({"Host": "evil.example"}, 421), ({"Origin": "http://evil.example"}, 403)):
        with closing(HTTPConnection(guarded.server.http, timeout=20)) as connection:
            connection.request("GET", "/v2", headers={**own, **more})
            assert connection.getresponse().status == status


def test_a_hangup_reads_the_keys_again(guarded: Guarded) -> None:
    former = guarded.key_file.read_text()
    late = add_key(guarded.key_file, "late", ["infer"], None)
    assert guarded.ask("GET", "/v2", late).status == 401
    guarded.hang_up(lambda: guarded.ask("GET", "/v2", late).status == 200)
    sent: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    with grpc.insecure_channel(guarded.server.grpc) as channel, closing(HTTPConnection(guarded.server.http)) as kept:
        stream = channel.stream_stream(f"/{SERVICE.full_name}/ModelStreamInfer")
        answers = stream(iter(sent.get, b""), timeout=60, metadata=[("authorization", f"Bearer {late}")])
        sent.put(message())
        assert not pb.ModelStreamInferResponse.FromString(next(answers)).error_message
        own = {"Authorization": f"Bearer {late}"}
        kept.request("POST", "/v2/models/doubling/infer", BODY, own)
        assert kept.getresponse().read()
        guarded.key_file.write_text(former)
        guarded.hang_up(lambda: guarded.ask("GET", "/v2", late).status == 401)
        # What was opened by it before is closed too.
        sent.put(message())
        with pytest.raises(grpc.RpcError) as ended:
            next(answers)
        assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]
        kept.request("POST", "/v2/models/doubling/infer", BODY, own)
        assert kept.getresponse().status == 401
        sent.put(b"")
    assert guarded.ask("GET", "/v2", guarded.keys["infer"]).status == 200


def test_a_file_that_is_torn_takes_nobodys_key_away(tmp_path: Path) -> None:
    path, said = tmp_path / "keys.txt", list[str]()
    key = add_key(path, "laptop", ["infer"], None)
    credentials = Credentials(CredentialFiles(path), said.append)
    path.write_text("half a line\n")
    credentials.reload()
    assert credentials.guard.check(f"Bearer {key}", INFER) == "laptop"
    path.write_text("")
    path.chmod(0o660)
    credentials.reload()
    assert credentials.guard.check(f"Bearer {key}", INFER) == "laptop"
    path.unlink()
    credentials.reload()
    assert credentials.guard.check(f"bearer  {key}", INFER) == "laptop"
    path.write_text("")
    credentials.reload()
    with pytest.raises(Fault) as refused:
        credentials.guard.check(f"Bearer {key}", INFER)
    assert refused.value.status is Status.UNAUTHENTICATED
    assert [line.endswith("what was read before stays in force") for line in said] == [True, True, True, False]


def test_a_file_that_goes_while_it_is_read_takes_nobodys_key_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, said = tmp_path / "keys.txt", list[str]()
    key = add_key(path, "laptop", ["infer"], None)
    credentials = Credentials(CredentialFiles(path), said.append)
    fstat = os.fstat

    def taking(descriptor: int) -> os.stat_result:
        path.unlink(missing_ok=True)
        return fstat(descriptor)

    monkeypatch.setattr(os, "fstat", taking)
    for found in ("was read again: 1 key", "what was read before stays in force"):
        credentials.reload()
        assert said[-1].endswith(found)
    assert credentials.guard.check(f"Bearer {key}", INFER) == "laptop"


def test_a_key_asks_no_more_often_than_its_rate(guarded: Guarded) -> None:
    former = guarded.key_file.read_text()
    rare = add_key(guarded.key_file, "rare", ["infer", "metrics"], 0.001)
    # What is refused at the metrics port for its role is known by then, and was not counted.
    guarded.hang_up(lambda: guarded.ask("POST", "/v2/repository/models/doubling/load", rare).status == 403)
    with closing(HTTPConnection(guarded.server.http, timeout=20)) as kept:
        for status in (200, 429, 429):
            kept.request("POST", "/v2/models/doubling/infer", BODY, {"Authorization": f"Bearer {rare}"})
            answer = kept.getresponse()
            assert answer.status == status and (b"try again in" in answer.read()) is (status == 429)
            assert answer.will_close is False
            assert status == 200 or 900 < int(answer.headers["Retry-After"]) <= 1000
    assert guarded.ask("GET", "/metrics", rare, side="metrics").status == 429
    assert guarded.call("ModelInfer", rare, message()) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert guarded.call("ModelStreamInfer", rare, message()) is grpc.StatusCode.RESOURCE_EXHAUSTED
    # Neither does reading the file again fill its bucket, nor does it concern others.
    later = add_key(guarded.key_file, "later", ["infer"], None)
    guarded.hang_up(lambda: guarded.ask("GET", "/v2", later).status == 200)
    assert guarded.ask("GET", "/v2", rare).status == 429
    assert guarded.ask("GET", "/v2", guarded.keys["infer"]).status == 200
    guarded.key_file.write_text(former)
    guarded.hang_up(lambda: guarded.ask("GET", "/v2", rare).status == 401)
    assert guarded.ask("GET", "/v2", guarded.keys["infer"]).status == 200


def test_calls_without_a_message_count_and_a_streams_first_message_counts_once(guarded: Guarded) -> None:
    former, names = guarded.key_file.read_text(), ("empty", "unknown", "full")
    rare = {name: add_key(guarded.key_file, name, ["infer"], 0.001) for name in names}
    # What is refused for its role is not counted.
    guarded.hang_up(lambda: guarded.ask("POST", "/v2/repository/models/doubling/load", rare["full"]).status == 403)
    metadata = {name: [("authorization", f"Bearer {key}")] for name, key in rare.items()}
    with grpc.insecure_channel(guarded.server.grpc) as channel:
        stream = channel.stream_stream(f"/{SERVICE.full_name}/ModelStreamInfer")
        assert list(stream(iter([]), timeout=20, metadata=metadata["empty"])) == []
        with pytest.raises(grpc.RpcError, match="RESOURCE_EXHAUSTED"):
            list(stream(iter([]), timeout=20, metadata=metadata["empty"]))
        answers = list(stream(iter([message()] * 2), timeout=20, metadata=metadata["full"]))
    told = [pb.ModelStreamInferResponse.FromString(answer).error_message for answer in answers]
    assert told[0] == "" and "try again" in told[1]
    unknown = [guarded.call("Nothing", rare["unknown"]) for _ in range(2)]
    assert unknown == [grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED]
    guarded.key_file.write_text(former)
    guarded.hang_up(lambda: guarded.ask("GET", "/v2", rare["full"]).status == 401)


def test_a_bucket_fills_by_its_rate_and_holds_what_a_second_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    bucket = Bucket(4.0)
    assert [bucket.take() for _ in range(5)] == [0, 0, 0, 0, 0.25]
    now[0] += 0.5
    assert [bucket.take() for _ in range(3)] == [0, 0, 0.25]
    now[0] += 1e6
    assert sum(bucket.take() == 0 for _ in range(100)) == 4


@pytest.mark.parametrize("engine", ["embedded", "triton"])
def test_beyond_loopback_nobody_is_let_in_without_a_key_unless_that_is_said(tmp_path: Path, engine: str) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.7", "no-such-name.invalid"):
        outcome = run_nanocv("serve", "run", "--repository", tmp_path, "--host", host, "--engine", engine)
        assert outcome.code == 2 and "--insecure" in outcome.err
    (tmp_path / "keys.txt").touch(0o600)
    for more in (["--insecure"], ["--key-file", str(tmp_path / "keys.txt")]) if engine == "embedded" else ():
        outcome = run_nanocv("serve", "run", "--repository", tmp_path, "--host", "0.0.0.0", *more)
        assert outcome.code == 1 and "holds no model" in outcome.err


def test_a_file_without_a_key_is_said_to_let_nobody_in(tmp_path: Path) -> None:
    file, said = tmp_path / "keys.txt", list[str]()
    file.touch(0o600)
    credentials = Credentials(CredentialFiles(file), said.append)
    assert credentials.guard.has_keys and len(said) == 1 and "nobody is let in" in said[0]
    add_key(file, "laptop", ["infer"], None)
    credentials.reload()
    assert said[1].endswith("was read again: 1 key")
