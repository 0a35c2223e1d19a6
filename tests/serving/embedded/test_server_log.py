"""The log: what its lines look like, and that nobody waits for whoever reads them."""

import json
import logging
import os
import select
import shlex
import time
from collections.abc import Callable, Iterator

import pytest

from nanocv_cli.serving.embedded import server_log
from nanocv_cli.serving.embedded.exchange import Exchange
from nanocv_cli.serving.embedded.server_log import ServerLog

HOSTILE = 'a\nb\x1b[31m\r\u202e \u2028="\\é\ud800'


class Pipe:
    """A pipe whose reader reads when it is told to."""

    def __init__(self) -> None:
        self.out, self.into = os.pipe()

    def read_until(self, condition: Callable[[list[str]], bool]) -> list[str]:
        """The lines until they are enough."""
        content, deadline = b"", time.monotonic() + 20
        while not condition(lines := content.decode().split("\n")[:-1]):
            assert time.monotonic() < deadline, content[-1000:]
            content += os.read(self.out, 1 << 16)
        return lines


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    one = Pipe()
    yield one
    for descriptor in (one.out, one.into):
        os.close(descriptor)


def ended(**values: str) -> Exchange:
    """An exchange that was answered."""
    exchange = Exchange(protocol="http", method="POST", **values)
    exchange.begin("7", f"00-{'a' * 32}-{'b' * 16}-01")
    exchange.arrived, exchange.queue_ns, exchange.compute_ns = exchange.began, 2_000_000, 3_500_000
    exchange.end(200, 40)
    return exchange


def accounted(lines: list[str]) -> list[str]:
    """The lines about requests, and one for each that is said to have been dropped."""
    told: list[str] = []
    for line in lines:
        message = json.loads(line).get("message", "")
        told += [line] * (int(message.split()[0]) if message.endswith("were dropped") else 1)
    return told


def test_a_line_of_json_for_each_request(pipe: Pipe) -> None:
    with ServerLog("json", pipe.into) as log:
        log.tell(ended(path="/v2/models/m/infer", model="m", version="1", key="lab"))
        log.say("stopping")
    first, second = (json.loads(line) for line in pipe.read_until(lambda lines: len(lines) == 2))
    assert first["time"].endswith("+00:00")
    assert first["total_ms"] >= 0
    assert first["span_id"] not in ("", "b" * 16)
    assert {key: first[key] for key in first.keys() - {"time", "total_ms", "span_id"}} == {
        "client": "", "protocol": "http", "method": "POST", "path": "/v2/models/m/infer", "status": 200, "model": "m",
        "version": "1", "bytes_in": 0, "bytes_out": 40, "queue_ms": 2.0, "compute_ms": 3.5, "request_id": "7",
        "trace_id": "a" * 32, "parent_id": "b" * 16, "key": "lab",
    }  # fmt: skip
    assert (second["level"], second["message"]) == ("info", "stopping")


def test_a_line_of_words_for_each_request(pipe: Pipe) -> None:
    with ServerLog("text", pipe.into) as log:
        log.tell(ended(path="/v2/models/a%20b/infer", model="a b"))
        log.say("stopping")
    line, said = pipe.read_until(lambda lines: len(lines) == 2)
    told = dict(word.split("=", 1) for word in shlex.split(line))
    assert (told["model"], told["status"], told["compute_ms"], told["request_id"]) == ("a b", "200", "3.5", "7")
    assert "key" not in told
    assert said == "stopping"


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_clients_write_is_one_line_of_ascii(pipe: Pipe, form: str) -> None:
    with ServerLog(form, pipe.into) as log:
        log.tell(ended(path=HOSTILE, model=HOSTILE))
        log.say(HOSTILE)
    lines = pipe.read_until(lambda lines: len(lines) >= 2)
    assert len(lines) == 2
    assert all(line.isprintable() and "\x1b" not in line for line in lines)
    assert lines[0].isascii()
    if form == "json":
        assert json.loads(lines[0])["model"] == HOSTILE


def test_a_reader_that_stops_keeps_nobody_waiting_and_hears_what_it_missed(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_log, "MOST_WAITING", 100)
    with ServerLog("json", pipe.into) as log:
        for _ in range(5000):  # the pipe holds a few hundred
            log.tell(ended(path="/" * 200))
        assert log.dropped > 4000
        lines = pipe.read_until(lambda lines: len(accounted(lines)) == 5000)
    assert 100 <= sum("path" in json.loads(line) for line in lines) == 5000 - log.dropped


def test_a_reader_that_has_gone_is_no_failure() -> None:
    out, into = os.pipe()
    os.close(out)
    with ServerLog("text", into) as log:
        log.tell(ended())
        log.say("stopping")
    os.close(into)
    assert log.dropped >= 2


def test_a_reader_that_never_reads_does_not_keep_the_server_from_ending(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_log, "CLOSE_SECONDS", 0.05)
    with ServerLog("text", pipe.into) as log:
        for _ in range(2000):
            log.tell(ended(path="/" * 200))
    assert log._thread.is_alive()
    while log._thread.is_alive():  # it is let go, for the next test
        if select.select([pipe.out], [], [], 0.05)[0]:
            os.read(pipe.out, 1 << 20)


def test_lines_of_logging_stand_in_it_while_it_is_open(pipe: Pipe) -> None:
    with ServerLog("json", pipe.into):
        logging.getLogger("nanocv_cli.serving").error("model '%s' failed", "m")
    logging.getLogger("nanocv_cli.serving").error("another")
    (line,) = pipe.read_until(lambda lines: len(lines) == 1)
    told = json.loads(line)
    assert (told["level"], told["message"]) == ("error", "model 'm' failed")
