"""From start to end: what a server refuses to load, how it follows its repository, how it stops."""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.serving.key_file import add_key
from nanocv_cli.serving.ports import Addresses
from tests.conftest import Command
from tests.serving.models import FOR_EVER, entry_config, write_model

pytestmark = pytest.mark.slow(24)

ASK = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "UINT8", "data": [1, 2, 3, 4]}]}


class Running:
    """A server started by hand; `before` is code that its process runs first."""

    def __init__(self, repository: Path, *options: str, before: str = "") -> None:
        ports = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0", "--json"]
        main = f"{before}\nfrom nanocv_cli.app import main\nmain()"
        command = [sys.executable, "-c", main, "serve", "run", "--repository", str(repository)]
        self.process = subprocess.Popen(
            [*command, *ports, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        told = json.loads(self.process.stdout.readline())
        addresses = Addresses(**told)
        self.http, self.grpc, self.metrics = addresses.http, addresses.grpc, addresses.metrics

    def ask(self, model: str, document: dict[str, Any] = ASK) -> Any:
        request = urllib.request.Request(f"http://{self.http}/v2/models/{model}/infer", json.dumps(document).encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())["outputs"][0]["data"]

    def waiting(self) -> float:
        """Requests in its queues."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("nv_inference_pending_request_count{"))


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def one(repository: Path, *options: str, before: str = "") -> Running:
        running.append(Running(repository, *options, before=before))
        return running[-1]

    yield one
    for server in running:
        server.process.kill()
        server.process.communicate()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answers(server: Running, model: str) -> bool:
    try:
        return bool(server.ask(model) == [2.0, 4.0, 6.0, 8.0])
    except urllib.error.HTTPError:
        return False


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.sequence_batching.SetInParent(), "sequence_batching"),
        (lambda c: c.ensemble_scheduling.SetInParent(), "ensemble_scheduling"),
        (lambda c: c.response_cache.__setattr__("enable", True), "response_cache"),
        (lambda c: c.dynamic_batching.__setattr__("priority_levels", 3), "dynamic_batching.priority_levels"),
        (lambda c: c.input[0].__setattr__("allow_ragged_batch", True), "input.allow_ragged_batch"),
        (lambda c: c.input[0].__setattr__("format", pb.ModelInput.FORMAT_NHWC), "input.format"),
        (lambda c: c.parameters["omp"].__setattr__("string_value", "1"), 'parameters["omp"]'),
        (lambda c: c.optimization.cuda.__setattr__("graphs", True), "optimization.cuda"),
        (lambda c: c.instance_group[0].__setattr__("kind", pb.ModelInstanceGroup.KIND_MODEL), "KIND_MODEL"),
        (lambda c: c.instance_group[0].rate_limiter.SetInParent(), "instance_group.rate_limiter"),
        (lambda c: c.__setattr__("backend", "tensorrt"), "no backend 'tensorrt'"),
        (lambda c: c.input[0].dims.append(9), "uint8"),
        (lambda c: c.input[0].__setattr__("name", "z"), "no input 'z'"),
        (lambda c: c.output[0].__setattr__("data_type", pb.TYPE_INT8), "output 'y'"),
        (lambda c: c.dynamic_batching.preferred_batch_size.append(9), "preferred size"),
        (lambda c: c.parameters["intra_op_thread_count"].__setattr__("string_value", "two"), "not a number from 0"),
        (lambda c: c.__setattr__("default_model_filename", "../1/model.onnx"), "no plain file name"),
        (lambda c: c.version_policy.specific.versions.append(7), "version 7 is missing"),
        (lambda c: c.__setattr__("name", "somebody"), "names the model 'somebody'"),
    ],
)
def test_what_is_not_supported_or_does_not_fit_is_refused_at_load(
    nanocv: Command, tmp_path: Path, change: Callable[[pb.ModelConfig], Any], words: str
) -> None:
    config = entry_config("doubling", "doubling", backend="onnxruntime")
    entry = write_model(tmp_path, config, "doubling")
    change(config)
    from nanocv_cli.serving.repository.pbtxt import write

    write(entry / "config.pbtxt", config)
    outcome = nanocv("serve", "run", "--repository", tmp_path, "--http-port", "0", "--grpc-port", "0")
    assert outcome.code == 1
    assert words in outcome.err
    assert "Traceback" not in outcome.err


def test_foreign_python_is_never_run(nanocv: Command, tmp_path: Path) -> None:
    entry = write_model(tmp_path, entry_config("doubling", "doubling"), "doubling")
    (entry / "1" / "model.py").write_text("raise SystemExit('this ran')\n", encoding="utf-8")
    outcome = nanocv("serve", "run", "--repository", tmp_path)
    assert outcome.code == 1
    assert "runs no Python but nanocv's own" in outcome.err
    assert "this ran" not in outcome.err


@pytest.mark.parametrize("what", ["missing", "empty", "file"])
def test_no_repository(nanocv: Command, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "repository"
    if what == "empty":
        folder.mkdir()
    elif what == "file":
        folder.write_text("", encoding="utf-8")
    outcome = nanocv("serve", "run", "--repository", folder)
    assert outcome.code == (1 if what == "empty" else 2)
    assert "nanocv serve config" in outcome.err


def test_a_taken_port(nanocv: Command, tmp_path: Path, start: Callable[..., Running]) -> None:
    write_model(tmp_path, entry_config("doubling", "doubling"), "doubling")
    port = start(tmp_path).http.split(":")[1]
    outcome = nanocv("serve", "run", "--repository", tmp_path, "--http-port", port)
    assert outcome.code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in outcome.err
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # a server that ends answers no signal any more


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
def test_an_address_of_another_machine(nanocv: Command, tmp_path: Path, host: str) -> None:
    write_model(tmp_path, entry_config("doubling", "doubling"), "doubling")
    outcome = nanocv("serve", "run", "--repository", tmp_path, "--host", host, "--insecure", "--http-port", "0")
    assert outcome.code == 1
    assert f"{host} is no address of this machine" in outcome.err
    assert "--host" in outcome.err and "port is taken" not in outcome.err


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
def test_an_ipv6_address_serves_all_three_sides_and_can_be_benched(
    nanocv: Command, tmp_path: Path, start: Callable[..., Running]
) -> None:
    write_model(tmp_path, entry_config("doubling", "doubling"), "doubling")
    server = start(tmp_path, "--host", "::1")
    assert server.http.startswith("[::1]:")
    assert answers(server, "doubling")
    assert server.waiting() == 0
    brief = ("--model", "doubling", "--windows", "3", "--window-s", "0.2", "--warmup-s", "0", "--json")
    for protocol in ((), ("--protocol", "grpc", "--grpc-url", server.grpc)):
        outcome = nanocv("bench", "server", "--url", server.http, *protocol, *brief)
        assert outcome.code == 0, outcome.err
        assert json.loads(outcome.out)["rows"][0]["errors"] == 0


def test_unknown_engine(nanocv: Command) -> None:
    assert nanocv("serve", "run", "--engine", "torchserve").code == 2


def test_no_triton(nanocv: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("NANOCV_TRITON", str(tmp_path / "nowhere"))
    outcome = nanocv("serve", "run", "--engine", "triton", "--repository", tmp_path)
    assert outcome.code == 1
    assert "make triton" in outcome.err


def test_a_polled_repository_is_followed(tmp_path: Path, start: Callable[..., Running]) -> None:
    write_model(tmp_path, entry_config("first", "doubling"), "doubling")
    server = start(tmp_path, "--poll-s", "0.1")
    entry = write_model(tmp_path, entry_config("second", "doubling"), "doubling")
    wait_until(lambda: answers(server, "second"))
    (entry / "1" / "model.onnx").write_bytes(b"rubbish")
    time.sleep(0.5)
    assert answers(server, "second")
    entry.rename(tmp_path.parent / "away")
    wait_until(lambda: not answers(server, "second"))
    assert answers(server, "first")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_stopping_answers_what_is_in_flight(
    tmp_path: Path, start: Callable[..., Running], stop: signal.Signals
) -> None:
    config = entry_config("slow", "slow", max_batch=1)
    write_model(tmp_path, config, "slow")
    server = start(tmp_path)
    server.ask("slow")
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(server.ask("slow"))) for _ in range(12)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    server.process.send_signal(stop)
    for thread in threads:
        thread.join()
    assert len(found) == 12
    np.testing.assert_allclose(found[0], found[-1])
    assert server.process.wait(20) == 0


def test_several_instances_and_versions(tmp_path: Path, start: Callable[..., Running]) -> None:
    config = entry_config("doubling", "doubling")
    config.instance_group[0].count = 3
    config.version_policy.latest.num_versions = 2
    for version in (1, 2, 10):
        write_model(tmp_path, config, "doubling", version)
    server = start(tmp_path)
    with urllib.request.urlopen(f"http://{server.http}/v2/models/doubling", timeout=10) as answer:
        assert json.loads(answer.read())["versions"] == ["2", "10"]


def test_a_hangup_while_the_server_starts_has_the_keys_read_again(
    tmp_path: Path, start: Callable[..., Running]
) -> None:
    """One while they are read, and one while a model is loaded."""
    repository, file = tmp_path / "repository", tmp_path / "keys.txt"
    write_model(repository, entry_config("doubling", "doubling"), "doubling")
    kept = add_key(file, "first", ["infer"], None)
    late = add_key(file, "late", ["infer"], None)
    both = file.read_text()
    file.write_text("".join(both.splitlines(keepends=True)[:-1]))
    before = f"""
import os, pathlib, signal
from nanocv_cli.serving.embedded import credentials, library
read_keys, load = credentials.read_keys, library.Library.load
def reading(path):
    credentials.read_keys = read_keys
    found = read_keys(path)
    os.kill(os.getpid(), signal.SIGHUP)
    return found
async def loading(self, name):
    await load(self, name)
    pathlib.Path({str(file)!r}).write_text({both!r})
    os.kill(os.getpid(), signal.SIGHUP)
credentials.read_keys, library.Library.load = reading, loading
"""
    server = start(repository, "--key-file", str(file), before=before)
    for key in (kept, late):
        shown = {"Authorization": f"Bearer {key}"}
        wait_until(lambda shown=shown: status(server, shown) == 200)  # type: ignore[misc]
    server.process.send_signal(signal.SIGTERM)
    assert server.process.communicate(timeout=30)[1].count("was read again") == 2
    assert server.process.returncode == 0


def status(server: Running, headers: dict[str, str]) -> int:
    with contextlib.closing(http.client.HTTPConnection(server.http, timeout=20)) as connection:
        connection.request("GET", "/v2", headers=headers)
        return connection.getresponse().status


IMPATIENT = """
from nanocv_cli.serving.embedded import library, server, session
server.DRAIN_SECONDS = session.GRACE_SECONDS = 0.5
library.PATIENCE_SECONDS = 1.5
"""
# As if one operator took for ever: nothing looks whether it shall stop.
DEAF = """
import onnxruntime
class Deaf(onnxruntime.RunOptions):
    terminate = property(lambda self: False, lambda self, value: None)
onnxruntime.RunOptions = Deaf
"""
TURN = {"inputs": [{"name": "turns", "shape": [1, 1], "datatype": "INT64", "data": [FOR_EVER]}]}


def refused(server: Running, model: str, document: dict[str, Any]) -> tuple[int, str]:
    with pytest.raises(urllib.error.HTTPError) as error:
        server.ask(model, document)
    return error.value.code, json.loads(error.value.read())["error"]


def test_a_run_is_no_longer_than_allowed(tmp_path: Path, start: Callable[..., Running]) -> None:
    write_model(tmp_path, entry_config("turning", "turning"), "turning")
    server = start(tmp_path, "--max-run-s", "1")
    assert refused(server, "turning", TURN) == (
        504,
        "[request id: <id_unknown>] the graph was stopped: a run may take 1 s",
    )
    assert server.ask("turning", {"inputs": [{**TURN["inputs"][0], "data": [2]}]}) == [2.0]


@pytest.mark.parametrize("before", [IMPATIENT, IMPATIENT + DEAF], ids=["stops", "does not stop"])
def test_a_run_that_never_ends_does_not_keep_a_server_from_ending(
    tmp_path: Path, start: Callable[..., Running], before: str
) -> None:
    write_model(tmp_path, entry_config("turning", "turning", max_batch=1), "turning")
    server = start(tmp_path, before=before)
    # On connections that the server has taken, for a server that ends takes no new ones.
    asking = [http.client.HTTPConnection(server.http, timeout=60) for _ in range(2)]
    for one in asking:
        one.request("GET", "/v2/health/live")
        one.getresponse().read()
    for one in asking:
        one.request("POST", "/v2/models/turning/infer", json.dumps(TURN))
    wait_until(lambda: server.waiting() == 1)  # so the other one runs
    server.process.send_signal(signal.SIGTERM)
    assert [one.getresponse().status for one in asking] == [503, 503]
    assert server.process.wait(30) == 0
    said = server.process.communicate()[1]
    assert "Traceback" not in said
    assert ("given up" in said) == (DEAF in before)


@pytest.mark.parametrize("deaf", ["", DEAF], ids=["stops", "does not stop"])
def test_a_warm_up_that_never_ends_is_a_start_that_fails(tmp_path: Path, deaf: str) -> None:
    config = entry_config("turning", "turning")
    sample = config.model_warmup.add(name="first", batch_size=1)
    sample.inputs["turns"].data_type, sample.inputs["turns"].random_data = pb.TYPE_INT64, True
    sample.inputs["turns"].dims.append(1)
    write_model(tmp_path, config, "turning")
    # Drawn numbers are small: this one is not.
    before = (
        f"{IMPATIENT}{deaf}\nimport numpy\nclass Most:\n    def integers(self, low, high, shape, kind):\n"
        f"        return numpy.full(shape, {FOR_EVER})\nnumpy.random.default_rng = lambda seed: Most()\n"
    )
    main = f"{before}\nfrom nanocv_cli.app import main\nmain()"
    outcome = subprocess.run(
        [sys.executable, "-c", main, "serve", "run", "--repository", str(tmp_path), "--max-load-s", "1"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert outcome.returncode == 1
    assert "failed to load 'turning'" in outcome.stderr
    assert ("it takes longer than 1 s" if deaf else "loading a model 1 s in all") in outcome.stderr
    assert "Traceback" not in outcome.stderr


# From the first session on it is ONNX Runtime's turn again and again, and Python's between.
LOADING = """
import contextlib, itertools, onnxruntime, os
session = onnxruntime.InferenceSession
def sessions(*arguments, **options):
    os.kill(os.getpid(), {number})
    for _ in itertools.count():
        with contextlib.suppress({suppressed}):
            session(*arguments, **options)
onnxruntime.InferenceSession = sessions
"""


@pytest.mark.parametrize(
    ("stop", "suppressed"),
    [(signal.SIGTERM, ""), (signal.SIGTERM, "Exception"), (signal.SIGINT, "Exception")],
    ids=["stops", "does not stop", "does not stop by Ctrl-C"],
)
def test_a_signal_while_a_model_is_loaded_ends_the_process(
    tmp_path: Path, stop: signal.Signals, suppressed: str
) -> None:
    write_model(tmp_path, entry_config("doubling", "doubling"), "doubling")
    before = IMPATIENT + LOADING.format(number=int(stop), suppressed=suppressed)
    main = f"{before}\nfrom nanocv_cli.app import main\nmain()"
    command = [sys.executable, "-c", main, "serve", "run", "--repository", str(tmp_path)]
    ports = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    outcome = subprocess.run([*command, *ports], capture_output=True, text=True, timeout=60)
    assert (outcome.returncode, outcome.stdout) == (130, ""), outcome.stderr
    assert outcome.stderr.count("\n") == bool(suppressed), outcome.stderr
    assert ("given up" in outcome.stderr) == bool(suppressed)
