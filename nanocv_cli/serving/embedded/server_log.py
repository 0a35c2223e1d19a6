"""What the server says on stderr: lines about itself, and one about each request if that is asked for.

Whoever reads them may be slow, or stop reading, and the disk may be full: so a thread of its own writes them, from a
bounded queue. Nothing else ever waits for it. What finds no room is dropped, counted, and the count is said.
"""

import contextlib
import json
import logging
import os
import select
import sys
import threading
import time
from collections import deque
from datetime import UTC, datetime
from types import TracebackType
from typing import IO, Any, Self

from nanocv_cli.serving.embedded.exchange import Exchange, Tell
from nanocv_cli.untrusted import escaped, printable

MOST_WAITING = 10_000  # lines; each is 2 KB at most while it waits
GATHER_SECONDS = 0.02  # one wake-up, and one write, for all lines that come in this time
CLOSE_SECONDS = 1.0  # for the last lines
MOST_AT_ONCE = 500  # lines in one write
# Of Python's logging. gRPC's are left out: it tells of each client that goes too soon.
LOGGERS = ("nanocv_cli", "asyncio", "opentelemetry")
LONGEST = 1000  # characters of a line about the server itself
Line = Exchange | tuple[int, str, str]  # of an exchange, or nanoseconds since the epoch, level and text


class ServerLog(logging.Handler):
    """Takes lines without waiting, also those of `LOGGERS` while it is open, and writes them.

    Args:
        form: of the lines about requests: off, text or json. With `json` those about the server are JSON objects, too.
        descriptor: of the file that is written to; default: stderr.

    Attributes:
        dropped: lines that found no room, or could not be written.
        also: told of each request that has ended, before its line is written.
    """

    def __init__(self, form: str = "off", descriptor: int | None = None) -> None:
        super().__init__(logging.WARNING)
        self.form, self.dropped = form, 0
        self.also: Tell | None = None
        self._stream = sys.stderr
        self._descriptor = _descriptor(self._stream) if descriptor is None else descriptor
        self._lines: deque[Line] = deque()
        self._come, self._closing, self._said = threading.Event(), False, 0
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self)
        self._closing = True
        self._come.set()
        self._thread.join(CLOSE_SECONDS)

    def say(self, text: str) -> None:
        """A line about the server itself."""
        self._put((time.time_ns(), "info", text))

    def emit(self, record: logging.LogRecord) -> None:
        """A line of Python's `logging`."""
        self._put((time.time_ns(), record.levelname.lower(), record.getMessage()))

    @property
    def tell(self) -> Tell | None:
        """What is to be told of each request that has ended; None: nobody wants to know."""
        return self._tell if self.form != "off" or self.also else None

    def _tell(self, exchange: Exchange) -> None:
        if self.also:
            self.also(exchange)
        if self.form != "off":
            self._put(exchange)

    def _put(self, line: Line) -> None:
        if len(self._lines) >= MOST_WAITING:
            self._drop(1)
            return
        self._lines.append(line)
        if not self._come.is_set():
            self._come.set()

    def _drop(self, count: int) -> None:
        with self._counting:
            self.dropped += count

    # What the thread does.

    def _write_all(self) -> None:
        while not self._closing or self._lines:
            self._come.wait()
            if not self._closing:
                time.sleep(GATHER_SECONDS)
            self._come.clear()
            while self._lines:
                self._write(self._taken())

    def _taken(self) -> list[str]:
        """The next lines, as they are written."""
        # From the clock that cannot be set to the one that tells the time.
        offset = time.time_ns() - time.monotonic_ns()
        lines = [self._line(self._lines.popleft(), offset) for _ in range(min(len(self._lines), MOST_AT_ONCE))]
        if self.dropped > self._said:
            more, self._said = self.dropped - self._said, self.dropped
            lines.append(self._line((time.time_ns(), "warning", f"{more} lines of this log were dropped"), offset))
        return lines

    def _line(self, line: Line, offset: int) -> str:
        if isinstance(line, Exchange):
            told = fields(line, offset)
            return json.dumps(told) if self.form == "json" else _text(told)
        when, level, text = line
        if self.form == "json":
            return json.dumps({"time": _time(when), "level": level, "message": printable(text, LONGEST)})
        return printable(text, LONGEST)

    def _write(self, lines: list[str]) -> None:
        text = "".join(f"{line}\n" for line in lines)
        if self._descriptor is None:  # whoever runs us in his own process has put another stream there
            self._stream.write(text)
            return
        # Not by Python's stream: it holds a lock while it waits, and the process could not end.
        left = memoryview(text.encode(errors="backslashreplace"))
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # whoever gave us the pipe has made it so
                with contextlib.suppress(OSError):
                    select.select([], [self._descriptor], [], 1.0)
            except OSError:  # it is full, or its reader has gone
                self._drop(len(lines))
                return


def _descriptor(stream: IO[str]) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None


def fields(exchange: Exchange, offset: int) -> dict[str, Any]:
    """An exchange as the log tells it; what does not apply is null.

    Args:
        exchange: one that has ended.
        offset: nanoseconds from `time.monotonic_ns` to the time since the epoch.
    """
    trace, queued = exchange.trace, exchange.arrived > 0
    return {
        "time": _time(exchange.ended + offset),
        "client": exchange.client,
        "protocol": exchange.protocol,
        "method": exchange.method,
        "path": exchange.path or None,
        "status": exchange.status,
        "model": exchange.model or None,
        "version": exchange.version or None,
        "bytes_in": exchange.bytes_in,
        "bytes_out": exchange.bytes_out,
        "total_ms": _ms(exchange.ended - exchange.began),
        "queue_ms": _ms(exchange.queue_ns) if queued else None,
        "compute_ms": _ms(exchange.compute_ns) if queued else None,
        "request_id": exchange.request_id,
        "trace_id": trace.trace if trace else None,
        "parent_id": (trace.parent or None) if trace else None,
        "span_id": trace.span if trace else None,
        "key": exchange.key or None,
    }


def _text(told: dict[str, Any]) -> str:
    return " ".join(f"{key}={_value(value)}" for key, value in told.items() if value is not None)


def _value(value: Any) -> str:
    """A value as one word, or in quotes."""
    text = escaped(value)
    return text if text and not set(text) & set(' "=\\') and text.isascii() else json.dumps(text)


def _time(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds // 1_000_000 / 1000, UTC).isoformat(timespec="milliseconds")


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 3)
