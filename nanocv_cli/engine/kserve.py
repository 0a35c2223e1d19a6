"""KServe v2 over HTTP, the client's side: requests with binary tensors, answers within bounds.

Nothing of the environment's proxies is followed, and no redirect: what is asked is the address that was given.
"""

import http.client
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.engine.identity import TOO_OFTEN, authorization, connecting, connection_to, way_in
from nanocv_cli.engine.model_url import ModelUrl
from nanocv_cli.engine.signature import NUMPY_TYPES, to_bytes
from nanocv_cli.errors import ServingError
from nanocv_cli.untrusted import first_line, printable

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 120.0  # a server's own limit on a run is 60
MOST_PATIENCE = 60  # seconds that a question waits in all for a server that asks it to come again
LARGEST_DOCUMENT = 64 << 20  # bytes
CHUNK = 1 << 18
HEADER_LENGTH = "Inference-Header-Content-Length"


class RefusedError(ServingError):
    """The server answered with an error.

    Attributes:
        status: HTTP's.
        again_in: seconds after which the server asks to be asked again; 0 where it does not.
    """

    def __init__(self, message: str, hint: str, status: int, again_in: int = 0) -> None:
        super().__init__(message, hint)
        self.status, self.again_in = status, again_in


def infer_request(inputs: Mapping[str, tuple[str, NDArray[Any]]], outputs: Sequence[str]) -> tuple[int, bytes]:
    """An inference request with binary tensors: the length of its JSON, and its whole body.

    Args:
        inputs: KServe's type and the array, by name.
        outputs: names of those that are asked for.
    """
    tails = {name: to_bytes(array) for name, (_, array) in inputs.items()}
    document = {
        "inputs": [
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": kind,
                "parameters": {"binary_data_size": len(tails[name])},
            }
            for name, (kind, array) in inputs.items()
        ],
        "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs],
    }
    header = json.dumps(document, separators=(",", ":")).encode()
    return len(header), b"".join([header, *tails.values()])


def infer_answer(
    body: bytes, header_length: int, expected: Mapping[str, tuple[str, tuple[int | None, ...]]]
) -> dict[str, NDArray[Any]]:
    """The outputs of an answer with binary tensors, read-only, in the order of `expected`.

    Args:
        body: of the answer.
        header_length: of its JSON.
        expected: KServe's type and the shape of every output by name; None for a size that varies.

    Raises:
        ValueError: it is not what was promised; the message says how.
    """
    tensors = json.loads(body[:header_length])["outputs"]
    found: dict[str, NDArray[Any]] = {}
    place = header_length
    for tensor in tensors:
        name, shape, size = tensor["name"], tensor["shape"], tensor["parameters"]["binary_data_size"]
        if name not in expected or name in found:
            raise ValueError(f"it has an output {printable(repr(name), 60)} that nobody asked for")
        kind, sizes = expected[name]
        fits = len(shape) == len(sizes) and all(
            type(size) is int and size >= 0 and wanted in (None, size)
            for size, wanted in zip(shape, sizes, strict=True)
        )
        if tensor["datatype"] != kind or not fits:
            told = f"{printable(tensor['datatype'], 20)} {printable(shape, 80)}"
            wanted_sizes = [-1 if size is None else size for size in sizes]
            raise ValueError(f"its output {name} is {told}, not {kind} {wanted_sizes}")
        dtype = np.dtype(NUMPY_TYPES[kind]).newbyteorder("<")
        count = 1
        for side in shape:
            count *= side
        if type(size) is not int or size != count * dtype.itemsize or place + size > len(body):
            raise ValueError(f"its output {name} has not the bytes of its shape {printable(shape, 80)}")
        found[name] = np.frombuffer(body, dtype, count, place).reshape(shape)
        place += size
    if missing := [name for name in expected if name not in found]:
        raise ValueError(f"it lacks the output {missing[0]}")
    if place != len(body):
        raise ValueError("it has more bytes than outputs")
    return {name: found[name] for name in expected}


class ModelClient:
    """A kept-alive connection to the server of a model; it waits where its key may not ask so often.

    Args:
        url: of the model.
        sleep: waits for some seconds.

    Raises:
        RequestError: the environment's key or certificates cannot be used.
    """

    def __init__(self, url: ModelUrl, sleep: Callable[[float], object] = time.sleep) -> None:
        self.url = url
        self._sleep = sleep
        self._shown = authorization()
        self._connection = connection_to(url.secure, url.host, url.port, CONNECT_SECONDS)

    def config(self) -> dict[str, Any]:
        """The model's config, as Triton's model-configuration extension tells it.

        Raises:
            RefusedError: the server knows no such model, has it not ready, or lacks that extension.
            ServingError: nothing answers there, or not in JSON.
        """
        body, _ = self._ask("GET", f"{self.url.path}/config", None, {}, LARGEST_DOCUMENT)
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise ServingError(f"{self.url.server} does not answer in JSON", "is it a KServe-v2 server?")
        return document

    def infer(
        self,
        inputs: Mapping[str, tuple[str, NDArray[Any]]],
        outputs: Mapping[str, tuple[str, tuple[int | None, ...]]],
        largest: int,
    ) -> dict[str, NDArray[Any]]:
        """Asks for an inference.

        Args:
            inputs: KServe's type and the array, by name.
            outputs: KServe's type and the shape that each output must have, by name.
            largest: bytes that the answer may have.

        Raises:
            RefusedError: the server refuses.
            ServingError: it does not answer, or something else than it promised.
        """
        length, content = infer_request(inputs, list(outputs))
        headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(length)}
        body, told = self._ask("POST", f"{self.url.path}/infer", content, headers, largest)
        try:
            if not told.isdigit() or not 0 < int(told[:12]) <= len(body):
                raise ValueError("it has no binary tensors")
            return infer_answer(body, int(told), outputs)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ServingError(
                f"{self.url} answers otherwise than it promised: {first_line(error)}", "is it a KServe-v2 server?"
            ) from error

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    def _ask(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str], largest: int
    ) -> tuple[bytes, str]:
        """The body of an answer, and the length of its JSON as the server tells it."""
        patience = MOST_PATIENCE
        while True:
            try:
                return self._ask_once(method, path, content, headers, largest)
            except RefusedError as refused:
                if refused.status != TOO_OFTEN or not 0 < refused.again_in <= patience:
                    raise
                patience -= refused.again_in
                self._sleep(refused.again_in)

    def _ask_once(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str], largest: int
    ) -> tuple[bytes, str]:
        is_used = self._connection.sock is not None
        try:
            try:
                return self._answer(method, path, content, headers, largest)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                if not is_used:
                    raise
                self._connection.close()  # the server has closed what lay idle
                return self._answer(method, path, content, headers, largest)
        except TimeoutError as error:
            self._connection.close()
            raise ServingError(
                f"{self.url.server} did not answer in time", "see the server's log, or ask for smaller batches"
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            if insecure := connecting(error, self.url.secure):
                raise insecure from error
            why = first_line(error, 120)
            raise ServingError(
                f"no server answers at {self.url.server}: {why}", "start one: nanocv serve run"
            ) from error

    def _answer(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str], largest: int
    ) -> tuple[bytes, str]:
        if self._connection.sock is None:
            self._connection.connect()
            assert self._connection.sock is not None
            self._connection.sock.settimeout(ANSWER_SECONDS)
        deadline = time.monotonic() + ANSWER_SECONDS
        self._connection.request(method, path, content, headers | self._shown)
        response = self._connection.getresponse()
        parts: list[bytes] = []
        length = 0
        while part := response.read1(CHUNK):
            parts.append(part)
            length += len(part)
            if length > largest:
                self._connection.close()
                raise ServingError(
                    f"{self.url.server} answers with more than the {largest:,} bytes that there can be",
                    "is it a KServe-v2 server?",
                )
            if time.monotonic() > deadline:
                raise TimeoutError
        body = b"".join(parts)
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        response.close()  # the connection stays
        if response.status != 200:
            why = _said(body)
            raise RefusedError(
                f"{self.url.server} refuses {self.url.model}: {why}",
                way_in(response.status)
                or "nanocv serve config and nanocv serve run serve a model; check its name, and the server's log",
                response.status,
                _seconds(response.headers.get("Retry-After", "")),
            )
        return body, response.headers.get(HEADER_LENGTH, "")


def _seconds(told: str) -> int:
    """The seconds of a `Retry-After`; 0 where it has something else, such as a date."""
    return int(told) if told.isascii() and told.isdigit() and len(told) < 10 else 0


def _said(body: bytes) -> str:
    """The error text of an answer."""
    try:
        return printable(json.loads(body)["error"], 300)
    except (ValueError, KeyError, TypeError, RecursionError):
        return printable(body[:600].decode(errors="replace").strip(), 200) or "without a reason"
