"""What the log is told of answers: what was sent, and no more."""

import asyncio
from typing import Any

import pytest

from nanocv_cli.serving.embedded.access import Access
from nanocv_cli.serving.embedded.budget import Budget
from nanocv_cli.serving.embedded.exchange import Exchange
from nanocv_cli.serving.embedded.http.answering import GONE, PART, AnswerQueue
from nanocv_cli.serving.embedded.http.messages import HttpAnswer, HttpRequest
from nanocv_cli.serving.embedded.http.server import HttpServer
from nanocv_cli.serving.embedded.limits import Limits


class Connection:
    """A connection's transport and reading half at once, whose client takes so many bytes, then waits or goes.

    Args:
        room: bytes that it takes.
        goes: whether it is gone then.
    """

    has_unparsed = False

    def __init__(self, room: int, goes: bool) -> None:
        self._room, self._goes, self._written = room, goes, 0
        self.answers: AnswerQueue | None = None

    def write(self, data: bytes) -> None:
        assert self.answers is not None
        self._written += len(data)
        if self._written > self._room:
            self.answers.pause()
            asyncio.get_running_loop().call_soon(self.answers.cancel if self._goes else self._take_all)

    def _take_all(self) -> None:
        assert self.answers is not None
        self._room = self._written
        self.answers.resume()

    def is_closing(self) -> bool:
        return self._room < 0

    def get_extra_info(self, _: str) -> tuple[str, int]:
        return "127.0.0.1", 1

    def keeps_alive(self, _: bool) -> bool:
        return True

    def abort(self, *_: object) -> None:
        """Nothing of this matters here."""

    work = wait_for_taking = parse_on = all_answered = stop_reading = abort


def told(size: int, room: int, goes: bool, method: str = "GET") -> tuple[int | str, int]:
    """Status and bytes that the log is told of an answer of so many bytes; see `Connection`."""
    lines = list[Exchange]()

    async def handler(_: HttpRequest) -> HttpAnswer:
        return HttpAnswer(bytes(size))

    async def run() -> None:
        connection: Any = Connection(room, goes)
        connection.answers = answers = AnswerQueue(handler, connection, lines.append)
        answers.connect(connection)
        answers.add(HttpRequest(Budget(1 << 30).holding(), method, b"/"))
        while not lines:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(run(), 20))
    (line,) = lines
    return line.status, line.bytes_out


@pytest.mark.parametrize("size", [0, 100, PART, 3 * PART + 1])
@pytest.mark.parametrize("room", [10, 1 << 30])
def test_all_that_was_taken_is_told(size: int, room: int) -> None:
    assert told(size, room, goes=False) == (200, size)


def test_head_has_no_body() -> None:
    assert told(100, 1 << 30, goes=False, method="HEAD") == (200, 0)


def test_what_was_not_taken_is_not_told() -> None:
    assert told(4 * PART, 2 * PART + PART // 2, goes=True) == (GONE, 2 * PART)
    assert told(PART, 10, goes=True) == (GONE, 0)


def test_each_of_several_requests_of_a_client_that_goes_is_told() -> None:
    lines, asked = list[Exchange](), asyncio.Event()

    async def handler(_: HttpRequest) -> HttpAnswer:
        asked.set()
        await asyncio.sleep(60)
        raise AssertionError

    async def run() -> None:
        server = HttpServer(handler, Access("127.0.0.1"), Limits(), Budget(1 << 30), lambda _: None, lines.append)
        port = await server.listen("127.0.0.1", 0)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        for name in "abc":
            head = f"POST /{name} HTTP/1.1\r\nHost: localhost\r\nx-request-id: {name}\r\nContent-Length: 2\r\n\r\n"
            writer.write(head.encode() + b"{}")
        await asked.wait()
        writer.transport.abort()
        while len(lines) < 3:
            await asyncio.sleep(0.01)
        await server.close(5)

    asyncio.run(asyncio.wait_for(run(), 20))
    found = sorted((line.request_id, line.path, line.status, line.bytes_in, line.bytes_out) for line in lines)
    assert found == [(name, f"/{name}", GONE, 2, 0) for name in "abc"]
    assert all(line.client and 0 < line.began <= line.ended for line in lines)


def test_nothing_is_sent_to_a_client_that_is_gone() -> None:
    assert told(100, -1, goes=True) == (GONE, 0)
