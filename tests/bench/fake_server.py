"""A KServe-v2 server that answers as slowly, and as badly, as a test tells it to."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Behaviour:
    """What the server does, and what it saw."""

    service_s: float = 0.002
    fail_every: int = 0
    stall_at: int = 0
    stall_s: float = 0.0
    close_after: int = 0
    has_config: bool = True
    dims: list[int] = field(default_factory=lambda: [4])
    config: dict[str, Any] = field(
        default_factory=lambda: {
            "name": "fake",
            "max_batch_size": 8,
            "dynamic_batching": {"preferred_batch_size": [8], "max_queue_delay_microseconds": 100},
            "instance_group": [{"kind": "KIND_CPU", "count": 1}],
            "model_warmup": [{"name": "big", "batch_size": 8}, {"name": "one", "batch_size": 1}],
        }
    )
    loads: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    asked: int = 0
    rows: int = 0
    busy_ns: int = 0
    lock: Any = field(default_factory=threading.Lock)
    one_at_a_time: Any = field(default_factory=threading.Lock)


@contextmanager
def fake_server(behaviour: Behaviour) -> Iterator[str]:
    """Serves until the context ends; yields `host:port`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *arguments: Any) -> None:
            pass

        def _answer(self, status: int, document: Any) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if self.path == "/v2/models/fake":
                tensors = [{"name": "x", "datatype": "UINT8", "shape": [-1, *behaviour.dims]}]
                outputs = [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}]
                self._answer(200, {"name": "fake", "versions": ["1"], "inputs": tensors, "outputs": outputs})
            elif self.path == "/v2/models/fake/config" and behaviour.has_config:
                self._answer(200, behaviour.config)
            elif self.path == "/v2/models/fake/versions/1/stats" and behaviour.has_config:
                told = {"count": behaviour.asked, "ns": behaviour.busy_ns}
                none = {"count": behaviour.asked, "ns": 0}
                parts = {"success": told, "compute_infer": told, "queue": none, "compute_input": none}
                stats = {
                    "inference_count": behaviour.rows,
                    "execution_count": behaviour.asked,
                    "inference_stats": {**parts, "compute_output": none},
                }
                self._answer(200, {"model_stats": [stats]})
            elif self.path == "/v2/models/fake/ready":
                self._answer(200, {})
            else:
                self._answer(404, {"error": f"nothing at {self.path}"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v2/repository/models/fake/load":
                config = json.loads(json.loads(body)["parameters"]["config"])
                behaviour.loads.append(config)
                behaviour.config = config
                self._answer(200, {})
                return
            with behaviour.lock:
                behaviour.asked += 1
                number = behaviour.asked
                behaviour.bodies = [*behaviour.bodies[-3:], body]
            if behaviour.close_after and number > behaviour.close_after:
                self.close_connection = True
                self.connection.close()
                return
            with behaviour.one_at_a_time:
                time.sleep(behaviour.service_s + (behaviour.stall_s if number == behaviour.stall_at else 0))
            header = json.loads(body[: int(self.headers["Inference-Header-Content-Length"])])
            with behaviour.lock:
                behaviour.rows += header["inputs"][0]["shape"][0]
                behaviour.busy_ns += round(behaviour.service_s * 1e9)
            if behaviour.fail_every and number % behaviour.fail_every == 0:
                self._answer(400, {"error": "I do not like this one"})
            else:
                self._answer(200, {"outputs": []})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
