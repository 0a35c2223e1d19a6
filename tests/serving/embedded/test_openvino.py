"""Entries of Triton's openvino backend: answered as ONNX Runtime's are, stopped in time, refused in one line."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.engine.runtimes import RUNTIMES
from nanocv_cli.serving.embedded.backends import SERVED, parameters
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.limits import DEFAULT_LIMITS, ModelLimits
from nanocv_cli.serving.embedded.openvino_copies import lay_out
from nanocv_cli.serving.embedded.watchdog import Watchdog
from nanocv_cli.serving.repository.backends import BACKENDS
from tests.serving.embedded.libraries import X, ask, opened, refusal
from tests.serving.models import doubling, entry_config, write_model

Change = Callable[[pb.ModelConfig], object]

ATTEMPTS = 50


def openvino_config(name: str = "doubling", graph: str = "doubling", **told: str) -> pb.ModelConfig:
    """A config as Triton's openvino backend takes it for a graph of ONNX, with these parameters."""
    config = entry_config(name, graph, backend="openvino")
    config.default_model_filename = "model.onnx"
    for key, text in told.items():
        config.parameters[key].string_value = text
    return config


def test_it_batches_warms_up_names_classes_and_is_loaded_again(tmp_path: Path) -> None:
    config = openvino_config(NUM_STREAMS="2", PERFORMANCE_HINT="latency", ENABLE_BATCH_PADDING="YES")
    config.instance_group[0].count, config.output[0].label_filename = 2, "labels.txt"
    sample = config.model_warmup.add(name="full", batch_size=4)
    sample.inputs["x"].data_type, sample.inputs["x"].random_data = pb.TYPE_UINT8, True
    sample.inputs["x"].dims.append(4)
    write_model(tmp_path, config, "doubling")

    async def run() -> None:
        async with opened(tmp_path) as library:
            for _ in range(2):
                await library.load("doubling")
                assert library.ready
                rows = [np.array([[number, 1, 2, 3]], np.uint8) for number in range(20)]
                answers = await asyncio.gather(*(ask(library, "doubling", row) for row in rows))
                for row, answer in zip(rows, answers, strict=True):
                    np.testing.assert_array_equal(answer[0], 2.0 * row)
                best = await ask(library, "doubling", X, classes=1)
                assert best[0].tolist() == [[b"8.000000:3:west"]]
                await library.unload("doubling")
                with pytest.raises(Fault, match="is not found"):
                    await ask(library, "doubling")

    asyncio.run(run())


def test_a_run_that_takes_too_long_is_stopped_and_the_instance_goes_on(tmp_path: Path) -> None:
    config = openvino_config("slow", "slow", INFERENCE_NUM_THREADS="1")
    config.max_batch_size = 4096
    write_model(tmp_path, config, "slow")

    async def run() -> None:
        async with opened(tmp_path, ModelLimits(run_seconds=0.2)) as library:
            await library.load("slow")
            with pytest.raises(Fault, match=r"a run may take 0\.2 s") as stopped:
                await ask(library, "slow", np.ones((4096, 4), np.uint8))
            assert stopped.value.status is Status.TIMED_OUT
            for _ in range(ATTEMPTS):  # on a busy machine a short run may take too long as well
                with contextlib.suppress(Fault):
                    assert (await ask(library, "slow", X))[0].shape == (1, 4)
                    break
            else:
                pytest.fail("the instance answers no more")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("count", "told", "threads", "streams"),
    [
        (1, {"INFERENCE_NUM_THREADS": "1"}, 1, 1),
        (2, {"INFERENCE_NUM_THREADS": "2"}, 2, 2),
        (2, {"INFERENCE_NUM_THREADS": "2", "NUM_STREAMS": "1"}, 2, 1),
    ],
)
def test_copies_share_one_compiled_graph_and_divide_its_threads(
    count: int, told: dict[str, str], threads: int, streams: int
) -> None:
    config = openvino_config(**told)
    config.instance_group[0].count = count
    watchdog = Watchdog()
    copies = lay_out(
        doubling().SerializeToString(),
        config,
        parameters(config, DEFAULT_LIMITS),
        lambda stop: watchdog.watch(float("inf"), stop),
    )
    watchdog.close()
    models = [copy.compiled.graph.compiled_for(1)[1] for copy in copies]
    assert len(models) == count
    assert {model.get_property("INFERENCE_NUM_THREADS") for model in models} == {threads}
    assert {model.get_property("NUM_STREAMS") for model in models} == {streams}
    assert SERVED["openvino"].threads(parameters(config, DEFAULT_LIMITS), count) == threads


def parameter(key: str, text: str) -> Change:
    return lambda config: setattr(config.parameters[key], "string_value", text)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (parameter("CPU_EXTENSION_PATH", "/lib/x.so"), 'does not support parameters["CPU_EXTENSION_PATH"]'),
        (parameter("RESHAPE_IO_LAYERS", "YES"), 'does not support parameters["RESHAPE_IO_LAYERS"]'),
        (parameter("intra_op_thread_count", "1"), 'does not support parameters["intra_op_thread_count"]'),
        (parameter("PERFORMANCE_HINT", "QUICK"), 'parameters["PERFORMANCE_HINT"] is "QUICK", not LATENCY or'),
        (lambda c: setattr(c, "platform", "onnxruntime_onnx"), "does not support platform"),
        (lambda c: setattr(c.optimization.graph, "level", 1), "does not support optimization.graph"),
        (lambda c: setattr(c.instance_group[0], "kind", pb.ModelInstanceGroup.KIND_GPU), "on a GPU"),
        (lambda c: c.ClearField("default_model_filename"), "expected a regular file 'model.xml'"),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(tmp_path: Path, change: Change, words: str) -> None:
    config = openvino_config()
    change(config)
    write_model(tmp_path, config, "doubling")

    async def run() -> None:
        async with opened(tmp_path) as library:
            assert words in await refusal(library, "doubling")

    asyncio.run(run())


def test_bf16_is_served_where_the_processor_has_it_and_refused_elsewhere(tmp_path: Path) -> None:
    write_model(tmp_path, openvino_config(HINT_BF16="yes"), "doubling")

    async def run() -> None:
        async with opened(tmp_path) as library:
            if said := await refusal(library, "doubling"):
                assert said.endswith("doubling: this processor does not compute in bf16")
            else:
                np.testing.assert_array_equal((await ask(library, "doubling"))[0], 2.0 * X)

    asyncio.run(run())


def test_an_operator_that_openvino_lacks_or_no_openvino_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = write_model(tmp_path, openvino_config(), "doubling")
    tensors = [helper.make_tensor_value_info(name, TensorProto.UINT8, ["N", 4]) for name in ("x", "y")]
    unknown = helper.make_graph([helper.make_node("Telepathy", ["x"], ["y"])], "mind", tensors[:1], tensors[1:])
    onnx.save(helper.make_model(unknown, opset_imports=[helper.make_opsetid("", 20)]), str(entry / "1" / "model.onnx"))

    async def run() -> None:
        async with opened(tmp_path) as library:
            said = await refusal(library, "doubling")
            assert "doubling: the graph cannot be loaded by OpenVINO" in said
            assert "Telepathy" in said
            monkeypatch.setitem(RUNTIMES, "openvino", replace(RUNTIMES["openvino"], package="no_such_package"))
            assert "doubling: no_such_package is not installed" in await refusal(library, "doubling")

    asyncio.run(run())


def test_each_backend_that_can_be_written_is_served_by_a_runtime_that_there_is() -> None:
    assert BACKENDS.keys() == SERVED.keys()
    assert {row.runtime for row in BACKENDS.values()} <= RUNTIMES.keys()
