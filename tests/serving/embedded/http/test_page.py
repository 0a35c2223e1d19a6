"""The page's files: where they are, what the browser is told about them, and who gets them."""

import re
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from nanocv_cli.serving.embedded.http.page import page_answers
from nanocv_cli.serving.launch import Server, started
from tests.serving.models import entry_config, write_model

pytestmark = pytest.mark.slow(4)

SOURCE = re.compile(r'(?:src|href)="([^"#]+)"|from "\./([^"]+)"')


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    write_model(folder, entry_config("doubling", "doubling", backend="onnxruntime"), "doubling")
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with started(repository, "embedded") as running:
        yield running


def got(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection(server.http, timeout=20)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def test_all_that_the_page_names_is_there_and_locked(server: Server) -> None:
    waiting, seen = ["/"], set[str]()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        answer, body = got(server, path)
        assert answer.status == 200, path
        policy = dict(part.split(" ", 1) for part in (answer.getheader("Content-Security-Policy") or "").split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == "'self'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert answer.getheader("X-Content-Type-Options") == "nosniff"
        assert answer.getheader("Referrer-Policy") == "no-referrer"
        waiting += [f"/{one or other}" for one, other in SOURCE.findall(body.decode())]
    assert seen == {path.decode() for path in page_answers()}


def test_it_is_read_and_nothing_else(server: Server) -> None:
    answer, body = got(server, "/", "HEAD")
    assert (answer.status, body) == (200, b"") and int(answer.getheader("Content-Length") or 0) > 1000
    assert got(server, "/", "POST")[0].status == 405
    for path in ("/index.html", "/page", "/..", "/%2e%2e/page.py", "/app.js/", "/page.css%00"):
        assert got(server, path)[0].status in (400, 404), path


def test_the_rules_for_names_and_other_sites_hold_for_it(server: Server) -> None:
    assert got(server, "/", Host="evil.example")[0].status == 421
    assert got(server, "/app.js", Host="evil.example")[0].status == 421
    assert got(server, "/", Origin="http://evil.example")[0].status == 403


def test_a_server_without_the_page_has_none_of_it(repository: Path) -> None:
    with started(repository, "embedded", "explicit", "--no-page") as running:
        assert {got(running, path.decode())[0].status for path in page_answers()} == {404}
        assert got(running, "/v2")[0].status == 200
