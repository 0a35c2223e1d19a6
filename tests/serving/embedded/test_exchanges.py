"""What a client and the log are told of requests, and what becomes of those whose client does not wait any more."""

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from tritonclient.grpc import service_pb2 as pb

from nanocv_cli.serving.launch import stop
from nanocv_cli.serving.ports import Addresses
from tests.serving.embedded.grpc.raw_http2 import METHOD
from tests.serving.models import entry_config, write_model

pytestmark = pytest.mark.slow(5)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENT = {"x-request-id": "mine-7", "traceparent": f"00-{TRACE}-{SPAN}-01"}
PATIENT = 4  # rows of a full batch of the model that waits for one


class Collector(ThreadingHTTPServer):
    """Takes spans by OTLP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Door)
        self.spans: list[Span] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def of(self, trace: str, count: int) -> list[Span]:
        """The spans of a trace, once there are so many."""
        deadline = time.monotonic() + 20
        while len(found := [span for span in self.spans if span.trace_id.hex() == trace]) < count:
            assert time.monotonic() < deadline, self.spans
            time.sleep(0.02)
        return found


class Door(BaseHTTPRequestHandler):
    """Where they are taken."""

    server: Collector

    def do_POST(self) -> None:
        taken = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in taken.resource_spans:
            assert self.path == "/v1/traces"
            self.server.spans += [span for scope in resource.scope_spans for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Logging:
    """A server whose log is read when it is asked for."""

    def __init__(self, repository: Path, collector: Collector) -> None:
        ports = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0", "--json", "--access-log", "json"]
        ports += ["--otlp", f"http://127.0.0.1:{collector.server_port}/v1/traces"]
        command = [sys.executable, "-m", "nanocv_cli.app", "serve", "run", "--repository", str(repository), *ports]
        environment = os.environ | {"OTEL_BSP_SCHEDULE_DELAY": "100"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        assert self.process.stdout is not None
        addresses = Addresses(**json.loads(self.process.stdout.readline()))
        self.http, self.grpc, self.metrics = addresses.http, addresses.grpc, addresses.metrics
        self._content = b""

    def lines(self, wanted: Callable[[dict[str, Any]], bool], count: int = 1) -> list[dict[str, Any]]:
        """The lines of the log that are wanted, once there are so many."""
        assert self.process.stderr is not None
        deadline = time.monotonic() + 20
        while True:
            found = [one for one in map(json.loads, self._content.split(b"\n")[:-1]) if wanted(one)]
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, self._content[-2000:]
            self._content += os.read(self.process.stderr.fileno(), 1 << 16)

    def counted(self, name: str) -> float:
        """A metric of the model that waits."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        lines = [line for line in lines if line.startswith(f"{name}{{") and 'model="patient"' in line]
        (line,) = [line for line in lines if "reason=" not in line or 'reason="CANCELED"' in line]
        return float(line.split()[-1])

    def wait_until(self, name: str, value: float) -> None:
        deadline = time.monotonic() + 20
        while self.counted(name) != value:
            assert time.monotonic() < deadline, self.counted(name)
            time.sleep(0.02)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running
        running.shutdown()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Logging]:
    repository = tmp_path_factory.mktemp("repository")
    write_model(repository, entry_config("doubling", "doubling"), "doubling")
    patient = entry_config("patient", "doubling", max_batch=PATIENT)
    patient.dynamic_batching.max_queue_delay_microseconds = 60_000_000
    write_model(repository, patient, "doubling")
    running = Logging(repository, collector)
    yield running
    assert running.process.stderr is not None
    os.set_blocking(running.process.stderr.fileno(), False)
    stop(running.process)
    running.process.stderr.close()


def document(rows: int = 1) -> bytes:
    data = [1, 2, 3, 4] * rows
    return json.dumps({"inputs": [{"name": "x", "shape": [rows, 4], "datatype": "UINT8", "data": data}]}).encode()


def request(model: str, rows: int = 1) -> bytes:
    x = np.ones((rows, 4), np.uint8)
    asked = pb.ModelInferRequest(model_name=model, raw_input_contents=[x.tobytes()])
    asked.inputs.add(name="x", datatype="UINT8", shape=x.shape)
    return bytes(asked.SerializeToString())


def post(server: Logging, path: str, body: bytes, **headers: str) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer."""
    connection = HTTPConnection(server.http, timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}


def of(request_id: str) -> Callable[[dict[str, Any]], bool]:
    return lambda line: line.get("request_id") == request_id


def test_an_answer_by_http_has_the_ids_that_the_log_has(server: Logging) -> None:
    body = document()
    status, headers = post(server, "/v2/models/doubling/infer?key=secret", body, **SENT)
    assert (status, headers["x-request-id"]) == (200, "mine-7")
    (line,) = server.lines(lambda line: of("mine-7")(line) and line["protocol"] == "http")
    assert headers["traceresponse"] == f"00-{TRACE}-{line['span_id']}-01"
    assert (line["trace_id"], line["parent_id"]) == (TRACE, SPAN)
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v2/models/doubling/infer", 200)
    assert (line["model"], line["version"]) == ("doubling", "1")
    assert (line["bytes_in"], line["bytes_out"]) == (len(body), int(headers["content-length"]))
    assert 0 < line["compute_ms"] <= line["total_ms"]
    assert 0 <= line["queue_ms"] <= line["total_ms"]
    assert line["client"].startswith("127.0.0.1:")


def test_an_answer_by_grpc_has_the_ids_that_the_log_has(server: Logging) -> None:
    content = request("doubling")
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary(METHOD + "ModelInfer")
        answer, call = infer.with_call(content, metadata=list(SENT.items()), timeout=20)
        with pytest.raises(grpc.RpcError) as refused:
            infer(request("nobody\x1b[31m\n"), metadata=[("x-request-id", "not known")], timeout=20)
    told = dict(call.trailing_metadata())
    (line,) = server.lines(lambda line: of("mine-7")(line) and line["protocol"] == "grpc")
    assert told == {"x-request-id": "mine-7", "traceresponse": f"00-{TRACE}-{line['span_id']}-01"}
    assert (line["method"], line["path"], line["status"]) == ("ModelInfer", None, "OK")
    assert (line["model"], line["version"]) == ("doubling", "1")
    assert (line["bytes_in"], line["bytes_out"]) == (len(content), len(answer))
    assert 0 < line["compute_ms"] <= line["total_ms"]
    made = dict(refused.value.trailing_metadata())["x-request-id"]  # one of the server's
    (line,) = server.lines(of(made))
    assert (line["status"], line["model"]) == (refused.value.code().name, "nobody\x1b[31m\n")
    assert (line["queue_ms"], line["compute_ms"], line["parent_id"]) == (None, None, None)


@pytest.mark.parametrize(
    ("method", "content", "model", "version"),
    [
        ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="one"), "one", None),
        ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="one"), "one", None),
        ("ModelReady", pb.ModelReadyRequest(name="doubling", version="1"), "doubling", "1"),
        ("ModelConfig", pb.ModelConfigRequest(name="doubling", version="7"), "doubling", "7"),
        ("ModelMetadata", pb.ModelMetadataRequest(name="nobody"), "nobody", None),
        ("ModelStatistics", pb.ModelStatisticsRequest(name="doubling"), "doubling", None),
        ("ServerReady", pb.ServerReadyRequest(), None, None),
        ("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest(name="a region"), None, None),
    ],
)
def test_the_log_says_which_model_any_method_of_grpc_names(
    server: Logging, method: str, content: Any, model: str | None, version: str | None
) -> None:
    name = f"names-{method}"
    with grpc.insecure_channel(server.grpc) as channel, contextlib.suppress(grpc.RpcError):
        channel.unary_unary(METHOD + method)(content.SerializeToString(), metadata=[("x-request-id", name)], timeout=20)
    (line,) = server.lines(of(name))
    assert (line["method"], line["model"], line["version"]) == (method, model, version)


def test_a_request_is_a_span_with_its_wait_and_its_run_below_it(server: Logging, collector: Collector) -> None:
    trace = "c0ffee00c0ffee00c0ffee00c0ffee00"
    sent = {"x-request-id": "spanned", "traceparent": f"00-{trace}-{SPAN}-01"}
    assert post(server, "/v2/models/doubling/infer", document(), **sent)[0] == 200
    (line,) = server.lines(of("spanned"))
    whole, queue, compute = collector.of(trace, 3)
    assert (whole.name, whole.span_id.hex(), whole.parent_span_id.hex()) == ("POST", line["span_id"], SPAN)
    assert [(one.name, one.parent_span_id) for one in (queue, compute)] == [
        ("queue", whole.span_id),
        ("compute", whole.span_id),
    ]
    assert whole.start_time_unix_nano <= queue.start_time_unix_nano <= queue.end_time_unix_nano
    assert queue.end_time_unix_nano == compute.start_time_unix_nano
    assert compute.end_time_unix_nano - compute.start_time_unix_nano == pytest.approx(1e6 * line["compute_ms"], abs=1e3)
    assert compute.end_time_unix_nano <= whole.end_time_unix_nano
    told = {one.key: one.value for one in whole.attributes}
    assert told["http.response.status_code"].int_value == 200
    assert (told["nanocv.model"].string_value, told["nanocv.request_id"].string_value) == ("doubling", "spanned")


def test_what_nobody_traces_begins_a_trace_and_what_is_not_sampled_is_not_sent(
    server: Logging, collector: Collector
) -> None:
    sent = {"x-request-id": "unsampled", "traceparent": f"00-{'d' * 32}-{SPAN}-00"}
    post(server, "/v2/models/doubling/infer", document(), **sent)
    post(server, "/v2/models/doubling/infer", document(), **{"x-request-id": "untraced"})
    (line,) = server.lines(of("untraced"))
    assert collector.of(line["trace_id"], 3)[0].parent_span_id == b""
    assert collector.of("d" * 32, 0) == []  # it came first


def test_each_message_of_a_stream_has_a_line(server: Logging) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        messages = [request("doubling"), request("nobody"), request("doubling", rows=2)]
        stream = channel.stream_stream(METHOD + "ModelStreamInfer")
        answers = list(stream(iter(messages), metadata=[("x-request-id", "of-a-stream")], timeout=20))
    lines = server.lines(of("of-a-stream"), 3)
    assert [line["status"] for line in lines] == ["OK", "NOT_FOUND", "OK"]
    assert [line["bytes_in"] for line in lines] == [len(message) for message in messages]
    assert [line["bytes_out"] for line in lines] == [len(answer) for answer in answers]


def test_the_time_of_a_streams_message_is_without_its_clients_silence(server: Logging) -> None:
    took = list[float]()
    name, silence = "of-a-silent-stream", 0.3

    def messages() -> Iterator[bytes]:
        for number in (1, 2):
            time.sleep(silence)
            start = time.monotonic()
            yield request("doubling")
            server.lines(of(name), number)
            took.append(1000 * (time.monotonic() - start))

    with grpc.insecure_channel(server.grpc) as channel:
        stream = channel.stream_stream(METHOD + "ModelStreamInfer")
        assert len(list(stream(messages(), metadata=[("x-request-id", name)], timeout=20))) == 2
    for line, most in zip(server.lines(of(name), 2), took, strict=True):
        assert line["total_ms"] <= most


def test_what_is_refused_before_it_is_whole_has_a_line_too(server: Logging) -> None:
    status, headers = post(server, "/v2/models/doubling/infer", document(), Host="evil.example")
    assert status == 421
    (line,) = server.lines(of(headers["x-request-id"]))
    assert (line["status"], line["model"]) == (421, None)


@contextlib.contextmanager
def waiting(server: Logging) -> Iterator[socket.socket]:
    """The connection of an HTTP client whose request waits for others to share its batch."""
    host, port = server.http.split(":")
    body = document()
    head = f"POST /v2/models/patient/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as one:
        one.sendall(head.encode() + body)
        server.wait_until("nv_inference_pending_request_count", 1)
        yield one


def resets(server: Logging) -> None:
    with waiting(server) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def closes(server: Logging) -> None:
    with waiting(server):
        pass


def cancels(server: Logging) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(METHOD + "ModelInfer").future(request("patient"))
        server.wait_until("nv_inference_pending_request_count", 1)
        call.cancel()


def cancels_a_stream(server: Logging) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.stream_stream(METHOD + "ModelStreamInfer")(iter([request("patient")]))
        server.wait_until("nv_inference_pending_request_count", 1)
        call.cancel()


def waits_no_longer(server: Logging) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        grpc.channel_ready_future(channel).result(timeout=20)
        call = channel.unary_unary(METHOD + "ModelInfer").future(request("patient"), timeout=2)
        server.wait_until("nv_inference_pending_request_count", 1)
        assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize(
    ("leaves", "status"),
    [
        (resets, 499),
        (closes, 499),
        (cancels, "CANCELLED"),
        (cancels_a_stream, "CANCELLED"),
        (waits_no_longer, "CANCELLED"),
    ],
)
def test_a_cancelled_request_leaves_the_batch_before_it_runs(
    server: Logging, leaves: Callable[[Logging], None], status: int | str
) -> None:
    cancelled = server.counted("nv_inference_request_failure")
    answered, runs = server.counted("nv_inference_count"), server.counted("nv_inference_exec_count")
    leaves(server)
    server.wait_until("nv_inference_pending_request_count", 0)
    assert server.counted("nv_inference_request_failure") == cancelled + 1
    # A full batch goes at once; had the other stayed, it would have gone before it.
    assert post(server, "/v2/models/patient/infer", document(PATIENT))[0] == 200
    assert server.counted("nv_inference_count") == answered + PATIENT
    assert server.counted("nv_inference_exec_count") == runs + 1
    unanswered = server.lines(
        lambda line: line.get("model") == "patient" and line["status"] not in (200, "OK"), int(cancelled) + 1
    )
    assert (unanswered[-1]["status"], unanswered[-1]["bytes_out"]) == (status, 0)


def test_a_client_that_has_said_all_and_stays_is_answered(server: Logging) -> None:
    with waiting(server) as one:
        one.shutdown(socket.SHUT_WR)
        assert one.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"  # it is asked whether it is there
        filling = threading.Thread(target=post, args=(server, "/v2/models/patient/infer", document(PATIENT - 1)))
        filling.start()
        received = b""
        while part := one.recv(1 << 16):
            received += part
        filling.join()
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert json.loads(received.partition(b"\r\n\r\n")[2])["outputs"][0]["data"] == [2.0, 4.0, 6.0, 8.0]
