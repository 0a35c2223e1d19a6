"""`nanocv infer --engine ray`: the answers of one process, whoever is killed meanwhile; what is refused."""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import psutil
import pytest

from nanocv_cli import display
from nanocv_cli.cluster import answering, ray_cluster
from nanocv_cli.cluster.parts import Asked, Part, WholePart, answer_part
from nanocv_cli.errors import ClusterError
from tests.cluster.conftest import BROKEN, COUNT, RunningCluster
from tests.conftest import REPOSITORY, Command, Outcome

BATCH, PART, PARTS = 2, 4, 6
BROKEN_PHOTO = "photos/05.png"
# `nanocv`, whose second part takes until its worker is killed.
ENDLESS = """
import signal
from nanocv_cli import app
from nanocv_cli.cluster import ray_cluster
from nanocv_cli.cluster.parts import answer_part
def answer(asked, part, folder, threads):
    while part.name == "part-00000001.jsonl":
        signal.pause()
    return answer_part(asked, part, folder, threads)
ray_cluster.answer_part = answer
app.main()
"""

Infer = Callable[..., Outcome]


@pytest.fixture
def infer(pictured: Path, nanocv: Command, monkeypatch: pytest.MonkeyPatch) -> Infer:
    """Runs `nanocv infer photos` with small batches, where the photographs are."""
    monkeypatch.chdir(pictured)

    def run(*arguments: str | Path, images: str | Path = "photos") -> Outcome:
        return nanocv("infer", images, "--model", "model.onnx", "--batch-size", str(BATCH), *arguments, "--json")

    return run


def by_ray(cluster: RunningCluster | str, out: Path) -> list[str | Path]:
    address = cluster if isinstance(cluster, str) else cluster.address
    return ["--engine", "ray", "--ray-address", address, "--part-images", str(PART), "--out", out]


def merged(out: Path) -> str:
    return "".join(part.read_text() for part in sorted(out.glob("part-*.jsonl")))


def files(out: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.glob("part-*.jsonl")}


def expect_whole(infer: Infer, out: Path) -> None:
    """The parts hold the lines of one process, each once, in their order, and the manifest says so."""
    assert merged(out) == infer().out
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["whole"], manifest["images"], manifest["skipped"]) == (True, COUNT, 1)
    assert [part["name"] for part in manifest["parts"]] == [f"part-{number:08d}.jsonl" for number in range(PARTS)]
    for part in manifest["parts"]:
        content = (out / part["name"]).read_bytes()
        assert part["images"] == content.count(b"\n")
        assert (part["bytes"], part["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert {path.name for path in out.iterdir()} == {
        *("job.json", "inputs.jsonl", "manifest.json"),
        *(part["name"] for part in manifest["parts"]),
    }


@pytest.mark.slow(25)
class TestOnACluster:
    def test_answers_and_failures_are_those_of_one_process(
        self, infer: Infer, cluster: RunningCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(display, "SECONDS_BETWEEN_LINES", math.inf)  # workers may take long to start
        outcome = infer(*by_ray(cluster, tmp_path / "out"))
        expect_whole(infer, tmp_path / "out")
        assert (outcome.code, outcome.err) == (1, infer().err)
        told = outcome.document
        assert told["images_per_second"] == pytest.approx(COUNT / told["seconds"])
        del told["images_per_second"], told["seconds"]
        assert told == {
            **{"out": str(tmp_path / "out"), "model": "colours", "task": "classification"},
            **{"images": COUNT, "skipped": 1, "parts": PARTS, "answered": COUNT, "workers": 2},
        }
        self.expect_that_what_is_whole_is_not_done_again(infer, cluster, tmp_path / "out")

    def expect_that_what_is_whole_is_not_done_again(
        self, infer: Infer, cluster: RunningCluster, answered: Path
    ) -> None:
        before = files(answered)
        outcome = infer(*by_ray(cluster, answered))
        assert (outcome.code, outcome.document["answered"], outcome.document["workers"]) == (1, 0, 0)
        assert outcome.document["images_per_second"] is None
        assert files(answered) == before
        (answered / "part-00000001.jsonl").unlink()
        cut = (answered / "part-00000004.jsonl").read_bytes()[:-20]
        (answered / "part-00000004.jsonl").write_bytes(cut)
        assert infer(*by_ray(cluster, answered)).document["answered"] == 2 * PART
        expect_whole(infer, answered)
        kept = set(before) - {"part-00000001.jsonl", "part-00000004.jsonl"}
        assert {name: files(answered)[name] for name in kept} == {name: before[name] for name in kept}

    def test_a_worker_that_is_killed_loses_and_doubles_nothing(
        self, infer: Infer, cluster: RunningCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out, marker = tmp_path / "out", tmp_path / "killed"

        def die_once(asked: Asked, part: Part, folder: str, threads: int) -> WholePart:
            with contextlib.suppress(FileExistsError):
                marker.touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
            return answer_part(asked, part, folder, threads)

        monkeypatch.setattr(ray_cluster, "answer_part", die_once)
        outcome = infer(*by_ray(cluster, out))
        assert marker.exists()
        assert outcome.document["answered"] == COUNT
        expect_whole(infer, out)

    def test_a_job_that_is_killed_goes_on_where_it_was(
        self, infer: Infer, cluster: RunningCluster, pictured: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        arguments = ["infer", "photos", "--model", "model.onnx", "--batch-size", str(BATCH)]
        with subprocess.Popen(
            [sys.executable, "-c", ENDLESS, *arguments, *map(str, by_ray(cluster, out))],
            cwd=pictured,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        ) as job:
            while job.poll() is None and len(files(out)) < PARTS - 1:
                time.sleep(0.01)
            job.kill()
        assert job.returncode == -signal.SIGKILL
        before = files(out)
        assert {f"part-{number:08d}.jsonl" for number in range(PARTS)} - set(before) == {"part-00000001.jsonl"}
        assert not (out / "manifest.json").exists()
        assert infer(*by_ray(cluster, out)).document["answered"] == PART
        expect_whole(infer, out)
        assert before.items() <= files(out).items()

    def test_more_processors_than_a_machine_has(self, infer: Infer, cluster: RunningCluster, tmp_path: Path) -> None:
        outcome = infer(*by_ray(cluster, tmp_path / "out"), "--threads", "64")
        assert (outcome.code, outcome.document["error"]["kind"]) == (2, "request")
        assert "no machine of the cluster has 64 processors for a worker, the largest has 2" in outcome.err

    def test_a_worker_says_what_it_cannot_do(
        self, infer: Infer, cluster: RunningCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(answering, "model_hash", lambda path: "0")
        outcome = infer(*by_ray(cluster, tmp_path / "out"))
        assert (outcome.code, outcome.document["error"]["kind"]) == (1, "cluster")
        assert "model.onnx is another model on" in outcome.document["error"]["message"]
        assert "Traceback" not in outcome.err

    def test_images_that_kill_their_workers_are_named(
        self, infer: Infer, cluster: RunningCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def die(*arguments: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(ray_cluster, "answer_part", die)
        monkeypatch.setattr(ray_cluster, "DEATHS", 0)
        outcome = infer(*by_ray(cluster, tmp_path / "out"))
        assert (outcome.code, outcome.document["error"]["kind"]) == (1, "cluster")
        assert "workers died on part-0000000" in outcome.document["error"]["message"]
        assert "leave out the image that kills them" in outcome.document["error"]["hint"]

    def test_it_listens_on_loopback_alone(self, cluster: RunningCluster) -> None:
        listening = {
            connection.laddr.ip.removeprefix("::ffff:")
            for process in cluster.processes()
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.1"}

    def test_it_asks_for_a_token_whatever_the_environment_says(self, cluster: RunningCluster) -> None:
        modes = {process.environ()["RAY_AUTH_MODE"] for process in cluster.holder.children()}
        assert modes == {"token"}


@pytest.mark.parametrize(
    ("address", "status", "message"),
    [
        ("nowhere", 2, "expected HOST:PORT"),
        ("127.0.0.1:0", 2, "expected HOST:PORT"),
        ("127.0.0.1:70000", 2, "expected HOST:PORT"),
        ("ray://127.0.0.1:10001", 2, "expected HOST:PORT"),
        ("nobody.invalid:6379", 1, "nothing that is a cluster answers"),
        ("127.0.0.1:1", 1, "nothing that is a cluster answers"),
    ],
)
def test_an_address_where_no_cluster_is(infer: Infer, tmp_path: Path, address: str, status: int, message: str) -> None:
    outcome = infer(*by_ray(address, tmp_path / "out"))
    assert outcome.code == status
    assert message in outcome.document["error"]["message"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("answer", "message"), [(b"", "within 0.2 s"), (b"HTTP/1.1 400 Bad", "no Ray cluster")])
def test_a_server_that_is_silent_or_another(
    infer: Infer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, message: str
) -> None:
    monkeypatch.setattr(ray_cluster, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            connection.sendall(answer)
            connection.recv(100)  # its preface
            with contextlib.suppress(ConnectionError):
                connection.recv(1)  # until it goes
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        outcome = infer(*by_ray(f"127.0.0.1:{server.getsockname()[1]}", tmp_path / "out"))
        thread.join()
    assert outcome.code == 1
    assert message in outcome.document["error"]["message"]


def test_without_ray(infer: Infer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: None)
    outcome = infer(*by_ray("127.0.0.1:1", tmp_path / "out"))
    assert outcome.document["error"] == {
        **{"message": "--engine ray needs ray", "hint": "pip install 'nanocv[ray]'", "kind": "missing_extra"}
    }
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "ray"], "writes its answers to files"),
        (["--engine", "ray:auto", "--out", "x"], "another engine on each machine"),
        (["--engine", "ray:nothing", "--out", "x"], "unknown engine 'nothing'"),
        (["--engine", "ray", "--out", "x", "--device", "cuda"], "run on processors"),
        (["--engine", "ray", "--out", "model.onnx"], "a folder to write into is needed"),
        (["--engine", "ray", "--out", "photos"], "holds files that belong to no such job"),
        (["--ray-address", "127.0.0.1:1"], "--ray-address is of a cluster"),
        (["--part-images", "3"], "--part-images is of a cluster"),
    ],
)
def test_requests_that_cannot_be_met(infer: Infer, arguments: list[str], message: str) -> None:
    outcome = infer(*arguments)
    assert outcome.code == 2
    assert message in outcome.document["error"]["message"]


def test_standard_input_is_of_this_process(infer: Infer, tmp_path: Path) -> None:
    outcome = infer("--engine", "ray", "--out", tmp_path / "out", images="-")
    assert (outcome.code, outcome.document["error"]["kind"]) == (2, "request")


def test_a_list_that_names_a_file_twice(infer: Infer, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("photos/00.png\n\nphotos/01.png\nphotos/00.png\n")
    outcome = infer("--engine", "ray", "--out", tmp_path / "out", images=tmp_path / "list.txt")
    assert outcome.code == 2
    assert outcome.document["error"]["message"].endswith("list.txt:4: photos/00.png stands in line 1 already")


def test_the_folder_of_another_job_or_of_one_at_work(
    infer: Infer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that was listed, and then its cluster went away."""

    def gone(address: str) -> NoReturn:
        raise ClusterError("it went away")

    monkeypatch.setattr(answering, "expect_answer", lambda address: None)
    monkeypatch.setattr(answering, "connected", gone)
    out = tmp_path / "out"
    calls = by_ray("127.0.0.1:1", out)
    assert infer(*calls).document["error"]["message"] == "it went away"
    assert "another job (top: None there, 2 here)" in infer(*calls, "--top", "2").document["error"]["message"]
    assert "(arguments: ('photos',) there, " in infer(*calls, images=BROKEN_PHOTO).document["error"]["message"]
    held = os.open(out, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    outcome = infer(*calls)
    os.close(held)
    assert (outcome.code, "another process is at work" in outcome.err) == (2, True)
    (out / "inputs.jsonl").write_text(json.dumps("photos/00.png") + "\n")
    assert "is not what this job has listed" in infer(*calls).document["error"]["message"]


def test_the_broken_photo_is_the_one_that_tests_name(pictured: Path) -> None:
    assert (pictured / BROKEN_PHOTO).name == f"{BROKEN:02d}.png"
