"""Other servers that `serving.py` measures beside nanocv's own: the least code there is, LitServe and MLServer.

LitServe and MLServer have environments of their own, for they pin what nanocv has newer:

    python -m venv .litserve && .litserve/bin/pip install litserve python-multipart onnxruntime numpy
    python -m venv .mlserver && .mlserver/bin/pip install mlserver onnxruntime

Each serves the graph in the way that its own documentation shows, with the same number of ONNX Runtime threads.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nanocv_cli.bench.load import HttpConnection
from nanocv_cli.bench.payload import Payload, as_http
from nanocv_cli.config.project import project_root
from nanocv_cli.errors import ServingError
from nanocv_cli.serving.launch import free_ports, stop

START_SECONDS = 60.0

LITSERVE = """
import sys
import litserve, numpy, onnxruntime
from fastapi import Request

graph, port, threads, batch = sys.argv[1], *map(int, sys.argv[2:])

class Api(litserve.LitAPI):
    def setup(self, device):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.entry = self.session.get_inputs()[0]

    def decode_request(self, request: Request):
        return numpy.frombuffer(request["image"].file.read(), numpy.uint8).reshape(self.entry.shape[1:])

    def batch(self, images):
        return numpy.stack(images)

    def predict(self, images):
        images = images if images.ndim == 4 else images[None]
        return self.session.run(None, {self.entry.name: images})[0]

    def unbatch(self, answers):
        return list(answers)

    def encode_response(self, answer):
        return {"answer": answer.ravel().tolist()}

if __name__ == "__main__":
    api = Api(max_batch_size=batch, batch_timeout=0.001 if batch > 1 else 0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning", num_api_servers=1)
"""

MLSERVER = """
import os
import numpy, onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

class Runtime(MLModel):
    async def load(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["BARE_THREADS"])
        graph = os.environ["BARE_GRAPH"]
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.entry = self.session.get_inputs()[0]
        return True

    async def predict(self, payload):
        images = NumpyCodec.decode_input(payload.inputs[0]).astype(numpy.uint8, copy=False)
        found = self.session.run(None, {self.entry.name: images})[0]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("probabilities", found)])
"""


@dataclass(frozen=True)
class Rival:
    """A server that runs: what opens a connection to it, and its process."""

    connect: Callable[[], HttpConnection]
    pid: int


@contextlib.contextmanager
def bare_infer(http: str, graph: Path, threads: int, payload: Payload) -> Iterator[Rival]:
    """Serves a graph by `bare_infer.py` behind `uvicorn` or our `own http`."""
    app, host, port = Path(__file__).with_name("bare_infer.py"), "127.0.0.1", free_ports().http
    command = [sys.executable, str(app), str(port)]
    if http == "uvicorn":
        options = ["--http", "httptools", "--loop", "uvloop", "--no-access-log", "--log-level", "warning"]
        place = ["--app-dir", str(app.parent), "--host", host, "--port", str(port)]
        command = [sys.executable, "-m", "uvicorn", "bare_infer:app", *place, *options]
    address = f"{host}:{port}"
    with _running(command, port, BARE_GRAPH=str(graph), BARE_THREADS=str(threads)) as pid:
        yield Rival(lambda: HttpConnection(address, [as_http(payload, address)]), pid)


@contextlib.contextmanager
def litserve(graph: Path, threads: int, batch: int, payload: Payload) -> Iterator[Rival]:
    """Serves a graph by LitServe, which takes an image as the file of a form.

    Raises:
        ServingError: it is not installed, or does not start.
    """
    python, port = _python("litserve"), free_ports().http
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "litserve_app.py"
        script.write_text(LITSERVE, encoding="utf-8")
        command = [str(python), str(script), str(graph.absolute()), str(port), str(threads), str(batch)]
        with _running(command, port) as pid:
            address, request = f"127.0.0.1:{port}", _form(payload)
            yield Rival(lambda: HttpConnection(address, [request]), pid)


@contextlib.contextmanager
def mlserver(graph: Path, threads: int, batch: int, payload: Payload) -> Iterator[Rival]:
    """Serves a graph by MLServer; its HTTP takes tensors as JSON alone.

    Raises:
        ServingError: it is not installed, or does not start.
    """
    python, ports = _python("mlserver"), free_ports()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "runtime.py").write_text(MLSERVER, encoding="utf-8")
        model = {"name": payload.model, "implementation": "runtime.Runtime"}
        if batch > 1:
            model |= {"max_batch_size": batch, "max_batch_time": 0.001}
        Path(folder, "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
        settings = {"http_port": ports.http, "grpc_port": ports.grpc, "metrics_port": ports.metrics}
        settings |= {"host": "127.0.0.1", "parallel_workers": 0, "debug": False}
        Path(folder, "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        command = [str(python.with_name("mlserver")), "start", folder]
        names = {"BARE_GRAPH": str(graph.absolute()), "BARE_THREADS": str(threads), "PYTHONPATH": folder}
        with _running(command, ports.http, **names) as pid:
            address, request = f"127.0.0.1:{ports.http}", _json(payload)
            yield Rival(lambda: HttpConnection(address, [request]), pid)


def perf_analyzer(program: str, address: str, model: str) -> tuple[float, float]:
    """Throughput and p99 (usec) by NVIDIA's program."""
    command = [program, "-m", model, "-u", address, "-i", "http"]
    options = ["--concurrency-range", "4", "--percentile", "99", "-p", "2000"]
    text = subprocess.run([*command, *options], capture_output=True, text=True, check=True, timeout=300).stdout
    found = re.search(r"Throughput: ([\d.]+)", text), re.search(r"p99 latency: (\d+)", text)
    assert found[0] and found[1], text
    return float(found[0][1]), float(found[1][1])


def _python(name: str) -> Path:
    python = project_root() / f".{name}" / "bin" / "python"
    if not python.exists():
        raise ServingError(f"there is no .{name}", "benchmarks/rivals.py says how it is made")
    return python


@contextlib.contextmanager
def _running(command: list[str], port: int, **names: str) -> Iterator[int]:
    """A process that listens on a port; yields its number."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env={**os.environ, **names}, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START_SECONDS
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise ServingError(f"it did not start: {log.read().decode(errors='replace')[-300:]}", "see above")
                time.sleep(0.1)
            time.sleep(1.0)  # its workers load the graph
            yield process.pid
        finally:
            stop(process)


def _form(payload: Payload) -> bytes:
    (_, image), *_ = payload.inputs.values()
    part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="image"\r\n\r\n' + image.tobytes()
    return _post("/predict", "multipart/form-data; boundary=x", part + b"\r\n--x--\r\n")


def _json(payload: Payload) -> bytes:
    inputs = [
        {"name": name, "datatype": kind, "shape": list(array.shape), "data": array.ravel().tolist()}
        for name, (kind, array) in payload.inputs.items()
    ]
    return _post(f"/v2/models/{payload.model}/infer", "application/json", json.dumps({"inputs": inputs}).encode())


def _post(path: str, kind: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
