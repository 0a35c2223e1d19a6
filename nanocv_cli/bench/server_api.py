"""The little a load test has to ask a KServe-v2 server beside inference: its tensors, its config, its counters."""

import json
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import OK, HTTPException
from typing import Any
from urllib.parse import quote

from nanocv_cli.engine.identity import authorization, connecting, connection_to, way_in
from nanocv_cli.errors import RequestError, ServingError
from nanocv_cli.untrusted import first_line

ADDRESS = re.compile(r"[A-Za-z0-9._\-:\[\]%]+:(\d{1,5})", re.ASCII)
LARGEST_PORT = 65_535
LARGEST_ANSWER = 64 << 20  # bytes
TIMEOUT = 60.0
COUNTED = ("queue", "compute_input", "compute_infer", "compute_output", "success")


@dataclass(frozen=True)
class ServerCounters:
    """A model's counters so far: requests, executions, and nanoseconds by part."""

    inferences: int
    executions: int
    requests: int
    ns: dict[str, int]


def host_and_port(address: str) -> str:
    """`host:port`, if that is what it is.

    Raises:
        RequestError: it is something else.
    """
    found = ADDRESS.fullmatch(address)
    if not found or not 0 < int(found[1]) <= LARGEST_PORT:
        raise RequestError(f"{address!r} is no address of a server", "give host:port, as in 127.0.0.1:8000")
    return address


@contextmanager
def described_by(address: str) -> Iterator[None]:
    """Whatever a server says of its models may be anything: what cannot be used is the server's error.

    Raises:
        ServingError: something in its description is missing or of the wrong kind.
    """
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ServingError(
            f"{address} does not describe its model as KServe v2 has it: {first_line(error)}",
            "is it a KServe-v2 server?",
        ) from error


class ServerApi:
    """Asks one server over HTTP.

    Args:
        address: `host:port`, with or without `http://` or `https://`.

    Attributes:
        is_secure: whether by TLS.
        address: `host:port`.
    """

    def __init__(self, address: str) -> None:
        self.is_secure = address.startswith("https://")
        self.address = host_and_port(address.removeprefix("https://").removeprefix("http://").rstrip("/"))

    def metadata(self, model: str) -> dict[str, Any]:
        """Names, types and shapes of the model's tensors.

        Raises:
            ServingError: nothing answers there, or it does not know the model.
        """
        return self._get(f"/v2/models/{quote(model, safe='')}")

    def config(self, model: str) -> dict[str, Any]:
        """The model's config, as Triton's model-configuration extension tells it.

        Raises:
            ServingError: the server lacks that extension.
        """
        return self._get(f"/v2/models/{quote(model, safe='')}/config")

    def load(self, model: str, config: dict[str, Any]) -> None:
        """Loads the model again with another config, and returns when it is ready.

        Raises:
            ServingError: the server refuses.
        """
        body = json.dumps({"parameters": {"config": json.dumps(config)}}).encode()
        self._ask(f"/v2/repository/models/{quote(model, safe='')}/load", body)
        self._ask(f"/v2/models/{quote(model, safe='')}/ready")

    def counters(self, model: str, version: str) -> ServerCounters | None:
        """The model's counters; None where the server keeps none."""
        try:
            found = self._get(f"/v2/models/{quote(model, safe='')}/versions/{quote(version, safe='')}/stats")[
                "model_stats"
            ][0]
            parts = found["inference_stats"]
            return ServerCounters(
                int(found["inference_count"]),
                int(found["execution_count"]),
                int(parts["success"]["count"]),
                {part: int(parts[part]["ns"]) for part in COUNTED},
            )
        except (ServingError, KeyError, IndexError, TypeError, ValueError):
            return None

    def _get(self, path: str) -> dict[str, Any]:
        try:
            document = json.loads(self._ask(path))
        except (ValueError, RecursionError) as error:
            raise ServingError(f"{self.address}{path} does not answer in JSON", "is it a KServe-v2 server?") from error
        if not isinstance(document, dict):
            raise ServingError(f"{self.address}{path} does not answer with an object", "is it a KServe-v2 server?")
        return document

    def _ask(self, path: str, body: bytes | None = None) -> bytes:
        host, _, port = self.address.rpartition(":")
        try:
            with closing(connection_to(self.is_secure, host.strip("[]"), int(port), TIMEOUT)) as connection:
                connection.request("GET" if body is None else "POST", path, body, authorization())
                answer = connection.getresponse()
                content = answer.read(LARGEST_ANSWER + 1)
        except (OSError, ValueError, HTTPException) as error:
            raise connecting(error, self.is_secure) or ServingError(
                f"no server answers at {self.address}: {first_line(error)}", "start one: nanocv serve run"
            ) from error
        if answer.status != OK:
            raise ServingError(
                f"{self.address} refuses {path}: {_said(content)}",
                way_in(answer.status) or "check the model's name and the server's log",
            )
        if len(content) > LARGEST_ANSWER:
            raise ServingError(
                f"{self.address}{path} answers with more than {LARGEST_ANSWER >> 20} MiB",
                "is it a KServe-v2 server?",
            )
        return content


def _said(content: bytes) -> str:
    """The error text of an answer."""
    try:
        return str(json.loads(content)["error"])[:300]
    except (ValueError, KeyError, TypeError, RecursionError):
        return content.decode(errors="replace")[:300] or "without a reason"
