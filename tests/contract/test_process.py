"""What only shows from outside: signals, streams that are full, closed or unread, and locales that are not UTF-8."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nanocv_cli.files import PREFIX
from tests.conftest import Command
from tests.engine.graphs import SIDE, colour_card, write_graph
from tests.images.image_bytes import write_image

pytestmark = pytest.mark.slow(27)

ROOT = Path(__file__).parents[2]
NANOCV = [sys.executable, "-m", "nanocv_cli.app"]
PATIENCE = 60.0
FLOWERS = [word for pair in ("train=4", "val=4", "test=4", "size=64") for word in ("--set", f"data.flowers.{pair}")]


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **changes}


def run(folder: Path, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[bytes]":
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment(), **options}
    return subprocess.run([*NANOCV, *arguments], cwd=folder, timeout=PATIENCE, check=False, **options)


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [*NANOCV, *arguments], cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(what: Any, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert process.poll() is None and time.monotonic() < deadline, process.stderr and process.stderr.read()
        time.sleep(0.02)


def write_loop(path: Path, turns: int = 2**62) -> Path:
    """The colour graph, but for a loop in it that runs for longer than anybody waits."""
    state = helper.make_tensor_value_info("state", TensorProto.FLOAT, None)
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["state"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            state,
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
            helper.make_node("Loop", ["turns", "yes", "means"], ["logits"], body=body),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "loop",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(np.array([1, 2]), "axes"),
            numpy_helper.from_array(np.array(turns), "turns"),
            numpy_helper.from_array(np.array(True), "yes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, colour_card().to_metadata())
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "command", [["infer", "a.png", "a.png", "--batch-size", "1"], ["bench", "model"]], ids=" ".join
)
def test_a_graph_that_never_ends_is_ended_by_a_signal(tmp_path: Path, number: int, command: list[str]) -> None:
    write_image(tmp_path / "a.png", "red", (20, 20))
    write_loop(tmp_path / "loop.onnx")
    with started(tmp_path, *command, "--model", "loop.onnx") as process:
        # There is nothing to see of a run that goes on; it has begun when this process has used some time.
        wait_for(lambda: _cpu_seconds(process.pid) > 1.0, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err


def _cpu_seconds(process: int) -> float:
    import psutil

    times = psutil.Process(process).cpu_times()
    return float(times.user + times.system)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_drawing_that_is_ended_leaves_nothing(tmp_path: Path, number: int) -> None:
    with started(tmp_path, "data", "make") as process:
        wait_for(lambda: list(tmp_path.glob(f"data/{PREFIX}*/train/*/*.jpg")), process)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, "Traceback" in err) == (130, "", False)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_drawing_leaves_is_swept_by_the_next(tmp_path: Path) -> None:
    with started(tmp_path, "data", "make") as process:
        wait_for(lambda: list(tmp_path.glob(f"data/{PREFIX}*/train/*/*.jpg")), process)
        process.kill()
        process.wait(PATIENCE)
    assert list(tmp_path.glob(f"data/{PREFIX}*"))
    assert run(tmp_path, "data", "make", *FLOWERS).returncode == 0
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["flowers", "flowers.tar"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_graph(tmp_path / "model.onnx", colour_card(classes=("röt", "花", "a\u202eb")))
    write_image(tmp_path / "ä.png", "red", (20, 20))
    return tmp_path


PRINTING = [
    ["infer", "ä.png", "--model", "model.onnx"],
    ["config", "show"],
    ["data", "list", "--json"],
    ["--help"],
    ["train", "--help"],
    ["--version"],
]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full device")
@pytest.mark.parametrize("command", PRINTING, ids=" ".join)
def test_a_full_stdout_is_one_line(folder: Path, command: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = run(folder, *command, stdout=full)
        assert done.returncode == 1
        what, advice = done.stderr.decode().splitlines()
        assert what.startswith("error: ") and "No space left on device" in what
        assert advice.startswith("  try: ")
        # And where nobody can be told, nothing else goes wrong.
        assert run(folder, *command, stdout=full, stderr=full).returncode == 1


@pytest.mark.parametrize("command", PRINTING, ids=" ".join)
def test_a_reader_that_has_gone_is_no_failure(folder: Path, command: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run(folder, *command, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["config show", "config show nothing", "infer - --model model.onnx"])
def test_closed_streams_are_no_traceback(folder: Path, command: str, closed: str) -> None:
    line = f"{sys.executable} -m nanocv_cli.app {command} {closed}"
    done = subprocess.run(
        ["sh", "-c", line], cwd=folder, env=environment(), capture_output=True, input=b"", check=False
    )
    assert done.returncode in (0, 1, 2)
    assert b"Traceback" not in done.stderr + done.stdout
    assert b"Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    "locale", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "latin-1"}]
)
def test_any_text_is_printed_in_any_locale(folder: Path, locale: dict[str, str]) -> None:
    work = ["infer", "ä.png", "--model", "model.onnx"]
    for command in (["infer", "ä.png", "missing-花.png"], work, [*work, "--json"]):
        done = run(folder, *command, env=environment(**locale))
        assert done.returncode in (0, 2), done.stderr
        assert b"Traceback" not in done.stderr
        if "--json" in command:
            labels = {found["label"] for found in json.loads(done.stdout)["predictions"]}
            assert labels == {"röt", "花", "a\u202eb"}
        else:
            assert "\u202e".encode() not in done.stdout


def test_a_defect_is_one_line_and_one_document(tmp_path: Path) -> None:
    script = (
        "import sys; from nanocv_cli.commands import config; from nanocv_cli import config as c\n"
        "import nanocv_cli.config.loader as loader\n"
        "def broken(*a, **k): raise ZeroDivisionError('by\\nzero')\n"
        "loader.resolve = broken\n"
        "from nanocv_cli.app import main; main()"
    )
    for more in ([], ["--debug"]):
        done = subprocess.run(
            [sys.executable, "-c", script, "config", "show", "--json", *more],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        error = json.loads(done.stdout)["error"]
        assert error["kind"] == "internal" and "ZeroDivisionError" in error["message"] and "--debug" in error["hint"]
        *before, what, advice = done.stderr.splitlines()
        assert what.startswith("error: this is a defect of nanocv") and advice.startswith("  try: ")
        assert bool(before) == bool(more)


def test_bare_commands_and_groups_print_their_help(nanocv: Command) -> None:
    for group in ([], ["data"], ["export"], ["serve"], ["bench"], ["analyze"], ["config"]):
        bare, asked = nanocv(*group), nanocv(*group, "--help")
        assert (bare.code, bare.out, bare.err) == (0, asked.out, "")
        assert "Commands:" in bare.out
