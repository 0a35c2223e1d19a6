"""Sessions are set up in one place: a device is the one asked for or is refused; threads are those there may be."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from nanocv_cli.engine import graph as graph_module
from nanocv_cli.engine import sessions
from nanocv_cli.engine.graph import Graph
from nanocv_cli.engine.runtimes import RunSettings, open_in_process
from nanocv_cli.engine.sessions import CPU, Device, new_session, pick_session_device, session_options
from nanocv_cli.errors import RequestError
from tests.engine.graphs import SIDE, write_graph

CUDA, COREML = "CUDAExecutionProvider", "CoreMLExecutionProvider"


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The providers that this build of ONNX Runtime claims to have; tests add to them."""
    there = ["CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(there))
    return there


def test_auto_takes_a_gpu_where_there_is_one_and_core_ml_only_by_name(build: list[str]) -> None:
    assert pick_session_device("auto") == CPU
    build.insert(0, COREML)
    assert pick_session_device("auto") == CPU
    assert pick_session_device("coreml") == Device("coreml")
    build.insert(0, CUDA)
    assert pick_session_device("auto") == Device("cuda")
    assert pick_session_device("cuda:3") == Device("cuda", 3)


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "coreml"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(build: list[str], name: str) -> None:
    with pytest.raises(RequestError, match=f"no {name.split(':')[0]} device") as caught:
        pick_session_device(name)
    assert "cpu" in caught.value.hint


@pytest.mark.parametrize("name", ["", "gpu", "mps", "cpu:1", "cuda:", "cuda:-1", "cuda:99999", "CUDA"])
def test_an_unknown_device_is_refused(build: list[str], name: str) -> None:
    build.append(CUDA)
    with pytest.raises(RequestError, match="unknown device"):
        pick_session_device(name)


def test_a_provider_that_cannot_be_loaded_is_not_replaced_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime goes on without a provider whose libraries are missing, and says so only in its log."""
    graph = write_graph(tmp_path / "model.onnx")
    honest = onnxruntime.InferenceSession

    def without_gpu(source: object, options: object, providers: object, **more: object) -> object:
        return honest(source, options, providers=["CPUExecutionProvider"], **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", without_gpu)
    with pytest.raises(RequestError, match="no cuda device"):
        Graph(graph, device=Device("cuda"))
    images = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    assert Graph(graph).run(images)["probabilities"].shape == (2, 3)


def test_threads_are_those_asked_for_else_no_more_than_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "thread_limit", lambda: 3)
    assert session_options().intra_op_num_threads == 3
    assert session_options(threads=5).intra_op_num_threads == 5
    in_parallel = session_options(parallel=True)
    assert in_parallel.execution_mode == onnxruntime.ExecutionMode.ORT_PARALLEL
    assert (in_parallel.intra_op_num_threads, in_parallel.inter_op_num_threads) == (3, 3)
    monkeypatch.setattr(sessions, "thread_limit", lambda: 0)
    assert session_options().intra_op_num_threads == 0


def test_a_session_of_a_device_says_where_it_runs(tmp_path: Path) -> None:
    session = new_session(str(write_graph(tmp_path / "model.onnx")), session_options(), CPU)
    assert session.get_providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize("shares_processors", [True, False])
def test_threads_of_a_graph_that_shares_processors_do_not_spin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shares_processors: bool
) -> None:
    path = write_graph(tmp_path / "model.onnx")
    options = []
    monkeypatch.setattr(
        graph_module,
        "new_session",
        lambda source, given, device: options.append(given) or new_session(source, given, device),
    )
    open_in_process(path, RunSettings("onnxruntime", "cpu", shares_processors=shares_processors), tmp_path)
    try:
        spinning = options[0].get_session_config_entry("session.intra_op.allow_spinning")
    except RuntimeError:  # nothing was asked for
        spinning = "1"
    assert spinning == ("0" if shares_processors else "1")
