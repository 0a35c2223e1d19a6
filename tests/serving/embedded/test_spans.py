"""Spans on their way to a collector: one that does not answer holds nobody up, and its URL may hold secrets."""

import contextlib
import socket
import threading
import time
from pathlib import Path

import pytest

from nanocv_cli.serving.embedded import spans
from nanocv_cli.serving.embedded.exchange import Exchange
from tests.conftest import run_nanocv

BATCHES, SPANS = 10, 8  # of each


def test_a_collector_that_does_not_answer_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not once for each batch that is left: each comes by a connection of its own, that nobody answers."""
    monkeypatch.setattr(spans, "SEND_SECONDS", 0.5)
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", str(SPANS))
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def take() -> None:
            with contextlib.suppress(OSError):  # it is closed
                while True:
                    taken.append(silent.accept()[0])

        threading.Thread(target=take, daemon=True).start()
        with spans.sending(f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces") as tell:
            for _ in range(BATCHES * SPANS):
                exchange = Exchange(protocol="http", method="POST", began=time.monotonic_ns())
                exchange.end(200, 0)
                tell(exchange)
            before = len(taken)
        assert len(taken) - before < BATCHES // 2
    for one in taken:
        one.close()


def test_the_last_spans_are_sent() -> None:
    """A collector that answers gets what had not been sent when the server ends."""
    with socket.create_server(("127.0.0.1", 0)) as collector:
        received: list[bytes] = []

        def answer() -> None:
            with collector.accept()[0] as one:
                received.append(one.recv(65536))
                one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        answering = threading.Thread(target=answer, daemon=True)
        answering.start()
        with spans.sending(f"http://127.0.0.1:{collector.getsockname()[1]}/v1/traces") as tell:
            exchange = Exchange(protocol="http", method="POST", began=time.monotonic_ns())
            exchange.end(200, 0)
            tell(exchange)
        answering.join(20)
    assert [content[:5] for content in received] == [b"POST "]


@pytest.mark.parametrize(
    "url",
    ["http://me:hunter2@collector:4318/v1/traces", "me:hunter2@collector", "http://collector/v1/traces?key=hunter2",
     "http://me:hunter2/@collector/v1?a=@b?hunter2"],
)  # fmt: skip
def test_what_is_secret_in_the_url_of_a_collector_is_not_printed(tmp_path: Path, url: str) -> None:
    outcome = run_nanocv("serve", "run", "--repository", tmp_path, "--otlp", url)
    assert outcome.code == 2 and "is no URL of a collector" in outcome.err
    assert "hunter2" not in outcome.out + outcome.err
