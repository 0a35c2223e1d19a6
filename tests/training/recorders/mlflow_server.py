"""An MLflow tracking server on loopback: MLflow's own store behind its REST API, as well or as badly as a test says."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Behaviour:
    """What the server does with a request, and the files it was sent.

    Attributes:
        mode: `answers`; `fails` with status 500; `loses`: stores what it is sent, and hangs up without an answer;
            `hangs`: neither stores nor answers.
    """

    mode: str = "answers"
    files: dict[str, bytes] = field(default_factory=dict)
    ended: threading.Event = field(default_factory=threading.Event)


@contextmanager
def mlflow_server(folder: Path, behaviour: Behaviour) -> Iterator[str]:
    """Serves until the context ends; yields the tracking URI."""
    from mlflow.entities import Metric, Param, RunStatus, RunTag, ViewType
    from mlflow.protos.service_pb2 import (
        CreateExperiment,
        CreateRun,
        GetExperimentByName,
        GetMetricHistory,
        GetRun,
        LogBatch,
        SearchRuns,
        UpdateRun,
    )
    from mlflow.store.tracking.file_store import FileStore
    from mlflow.utils.proto_json_utils import message_to_json

    store = FileStore(str(folder), "mlflow-artifacts:/")
    one_at_a_time = threading.Lock()

    def answer(call: str, asked: dict[str, Any]) -> Any:
        """The response message to one call; None where what it names is not there."""
        match call:
            case "experiments/get-by-name":
                found = store.get_experiment_by_name(asked["experiment_name"])
                return GetExperimentByName.Response(experiment=found.to_proto()) if found else None
            case "experiments/create":
                return CreateExperiment.Response(experiment_id=store.create_experiment(asked["name"], None, []))
            case "runs/search":
                runs = store.search_runs(asked["experiment_ids"], asked.get("filter", ""), ViewType.ACTIVE_ONLY)
                return SearchRuns.Response(runs=[run.to_proto() for run in runs])
            case "runs/create":
                tags = [RunTag(tag["key"], tag["value"]) for tag in asked["tags"]]
                made = store.create_run(
                    asked["experiment_id"], asked.get("user_id", ""), int(asked["start_time"]), tags, asked["run_name"]
                )
                return CreateRun.Response(run=made.to_proto())
            case "runs/get":
                return GetRun.Response(run=store.get_run(asked["run_id"]).to_proto())
            case "runs/update":
                status = RunStatus.from_string(asked["status"])
                ended = int(asked["end_time"]) if "end_time" in asked else None
                return UpdateRun.Response(
                    run_info=store.update_run_info(asked["run_id"], status, ended, None).to_proto()
                )
            case "runs/log-batch":
                metrics = [Metric(m["key"], m["value"], int(m["timestamp"]), int(m["step"]))
                           for m in asked.get("metrics", [])]  # fmt: skip
                params = [Param(param["key"], param["value"]) for param in asked.get("params", [])]
                store.log_batch(asked["run_id"], metrics, params, [])
                return LogBatch.Response()
            case "metrics/get-history":
                history = store.get_metric_history(asked["run_id"], asked["metric_key"])
                return GetMetricHistory.Response(metrics=[metric.to_proto() for metric in history])
        raise AssertionError(f"the server knows no {call}")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            pass

        def _serve(self) -> None:
            mode = behaviour.mode
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if mode == "hangs":
                behaviour.ended.wait()
            elif mode == "fails":
                self._send(500, "{}")
            elif self.command == "PUT":
                behaviour.files[url.path.rpartition("/artifacts/")[2]] = body
                self._send(200, "{}")
            else:
                asked = json.loads(body) if body else dict(parse_qsl(url.query))
                with one_at_a_time:
                    message = answer(url.path.partition("/mlflow/")[2], asked)
                if mode == "loses":
                    self.close_connection = True
                elif message is None:
                    self._send(404, json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not here"}))
                else:
                    self._send(200, message_to_json(message))

        do_GET = do_POST = do_PUT = _serve

        def _send(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        behaviour.ended.set()
        server.shutdown()
        server.server_close()
