"""The least that answers KServe's infer request, as an ASGI app and behind nanocv's own HTTP server.

`benchmarks/serving.py` runs it under both, so that their difference is that of the HTTP servers alone. It parses the
JSON head, takes the bytes behind it as the input, runs the graph in one thread beside the event loop and sends all
outputs as bytes. It checks nothing, counts nothing and batches nothing.

    BARE_GRAPH=model.onnx BARE_THREADS=1 uvicorn --app-dir benchmarks bare_infer:app
    BARE_GRAPH=model.onnx BARE_THREADS=1 python -m benchmarks.bare_infer PORT
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime

from nanocv_cli.serving.embedded.access import Access
from nanocv_cli.serving.embedded.budget import Budget
from nanocv_cli.serving.embedded.encoding import DATATYPES
from nanocv_cli.serving.embedded.http.messages import HttpAnswer, HttpRequest
from nanocv_cli.serving.embedded.http.server import HttpServer
from nanocv_cli.serving.embedded.limits import Limits
from nanocv_cli.serving.embedded.server import run

HEADER_LENGTH = "inference-header-content-length"
KIND = "application/octet-stream"

_options = onnxruntime.SessionOptions()
_options.intra_op_num_threads = int(os.environ["BARE_THREADS"])
_options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as the embedded server has it
_session = onnxruntime.InferenceSession(os.environ["BARE_GRAPH"], _options, providers=["CPUExecutionProvider"])
_names = [output.name for output in _session.get_outputs()]
_thread = ThreadPoolExecutor(1)


async def infer(body: bytes, header_length: int) -> tuple[bytes, int]:
    """The answer's body, and how much of it is JSON."""
    tensor = json.loads(body[:header_length])["inputs"][0]
    array = np.frombuffer(body, np.uint8, offset=header_length).reshape(tensor["shape"])
    loop = asyncio.get_running_loop()
    outputs = await loop.run_in_executor(_thread, _session.run, _names, {tensor["name"]: array})
    described = [
        {
            "name": name,
            "datatype": DATATYPES[output.dtype],
            "shape": output.shape,
            "parameters": {"binary_data_size": output.nbytes},
        }
        for name, output in zip(_names, outputs, strict=True)
    ]
    text = json.dumps({"outputs": described}, separators=(",", ":")).encode()
    return b"".join([text, *(output.tobytes() for output in outputs)]), len(text)


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """The ASGI app."""
    if scope["type"] != "http":  # the server asks whether the app has a start and an end of its own
        raise NotImplementedError
    part = await receive()
    body = part["body"]
    while part.get("more_body"):
        part = await receive()
        body += part["body"]
    content, length = await infer(body, int(dict(scope["headers"])[HEADER_LENGTH.encode()]))
    headers = [
        (b"content-type", KIND.encode()),
        (b"content-length", str(len(content)).encode()),
        (HEADER_LENGTH.encode(), str(length).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def answer(request: HttpRequest) -> HttpAnswer:
    """The handler of nanocv's own HTTP server."""
    content, length = await infer(bytes(request.body), int(request.headers[HEADER_LENGTH]))
    return HttpAnswer(content, content_type=KIND, headers=((HEADER_LENGTH, str(length)),))


async def serve(port: int) -> None:
    """Serves until it is ended."""
    limits = Limits()
    server = HttpServer(answer, Access("127.0.0.1"), limits, Budget(limits.flight_bytes), lambda request: None)
    await server.listen("127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    run(serve(int(sys.argv[1])))
