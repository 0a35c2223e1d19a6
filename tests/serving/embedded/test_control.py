"""What changes the models of a running server: nothing, unless that is asked for; and never another site's page."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from nanocv_cli.serving.launch import Server, started
from tests.conftest import Command
from tests.serving.embedded.grpc.raw_http2 import METHOD
from tests.serving.models import entry_config, write_model

WORDS = "explicit model load / unload is not allowed if polling is enabled"
ASK = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "UINT8", "data": [1, 2, 3, 4]}]}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write_model(tmp_path, entry_config("doubling", "doubling", backend="onnxruntime"), "doubling")
    return tmp_path


def ask(server: Server, path: str, document: object = None, **headers: str) -> tuple[int, str]:
    connection = HTTPConnection(server.http, timeout=20)
    try:
        connection.request(
            "POST", path, json.dumps(document or {}), {k.replace("_", "-"): v for k, v in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def load_by_grpc(server: Server, method: str = "RepositoryModelLoad") -> grpc.StatusCode:
    kind = {
        "RepositoryModelLoad": pb.RepositoryModelLoadRequest,
        "RepositoryModelUnload": pb.RepositoryModelUnloadRequest,
    }
    with grpc.insecure_channel(server.grpc) as channel:
        try:
            channel.unary_unary(METHOD + method)(kind[method](model_name="doubling").SerializeToString(), timeout=20)
        except grpc.RpcError as error:
            assert error.details().startswith(WORDS)
            return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("control", ["none", "poll"])
def test_requests_change_nothing(repository: Path, control: str) -> None:
    with started(repository, "embedded", control) as server:  # type: ignore[arg-type]
        for verb in ("load", "unload"):
            status, said = ask(server, f"/v2/repository/models/doubling/{verb}")
            assert status == 503
            assert json.loads(said)["error"].startswith(WORDS)
        assert load_by_grpc(server) is grpc.StatusCode.UNAVAILABLE
        assert load_by_grpc(server, "RepositoryModelUnload") is grpc.StatusCode.UNAVAILABLE
        assert ask(server, "/v2/repository/index")[0] == 200
        assert ask(server, "/v2/models/doubling/infer", ASK)[0] == 200


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("repository")
    write_model(folder, entry_config("doubling", "doubling", backend="onnxruntime"), "doubling")
    with started(folder, "embedded") as running:
        yield running


FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Host": "evil.example"},
    {"Host": "evil.example", "Origin": "http://evil.example"},
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/json"])
def test_no_page_of_another_site_changes_or_asks(server: Server, headers: dict[str, str], kind: str) -> None:
    for path, document in (
        ("/v2/repository/models/doubling/unload", {}),
        ("/v2/repository/models/doubling/load", {}),
        ("/v2/models/doubling/infer", ASK),
    ):
        assert ask(server, path, document, Content_Type=kind, **headers)[0] in (403, 421)
    assert ask(server, "/v2/models/doubling/infer", ASK)[0] == 200


def test_its_own_page_and_plain_tools_may(server: Server) -> None:
    own = {"Origin": f"http://{server.http}", "Sec_Fetch_Site": "same-origin"}
    for headers in ({}, own, {"Content_Type": "application/x-www-form-urlencoded"}, {"Host": "localhost:8000"}):
        assert ask(server, "/v2/models/doubling/infer", ASK, **headers)[0] == 200
        assert ask(server, "/v2/repository/models/doubling/load", {}, **headers)[0] == 200
    assert load_by_grpc(server) is grpc.StatusCode.OK


@pytest.mark.parametrize(
    "options",
    [
        ("--control", "full"),
        ("--control", "explicit", "--poll-s", "1"),
        ("--allowed-host", "two words"),
        ("--allowed-host", ""),
    ],
)
def test_wrong_options(nanocv: Command, repository: Path, options: tuple[str, ...]) -> None:
    outcome = nanocv("serve", "run", "--repository", repository, "--http-port", "0", *options)
    assert outcome.code == 2
    assert "Traceback" not in outcome.err


def test_a_name_that_is_allowed(repository: Path) -> None:
    with started(repository, "embedded", "none", "--allowed-host", "gpubox") as server:
        for host, status in (("gpubox:8000", 200), ("gpubox", 200), ("otherbox", 421)):
            request = urllib.request.Request(f"http://{server.http}/v2", headers={"Host": host})
            try:
                found = urllib.request.urlopen(request, timeout=20).status
            except urllib.error.HTTPError as error:
                found = error.code
            assert found == status
