"""The config says of a graph what the graph says of itself, and of batching what was asked."""

from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.engine.signature import GraphSignature, TensorSignature
from nanocv_cli.errors import ModelError
from nanocv_cli.serving.repository.model_config import build_config
from tests.serving.repository.entries import settings

IMAGES = TensorSignature("images", "tensor(uint8)", (None, 8, 8, 3))
SCORES = TensorSignature("probabilities", "tensor(float)", (None, 3))
CLASSES = ("red", "green", "blue")


def config_of(*outputs: TensorSignature, classes: tuple[str, ...] = CLASSES, **changes: Any) -> Any:
    return build_config(GraphSignature((IMAGES,), outputs or (SCORES,)), settings(**changes), "colours", classes)


def test_tensors_are_those_of_the_graph_without_the_batch() -> None:
    config = config_of(SCORES, TensorSignature("boxes", "tensor(int64)", (None, None, 4)), max_batch=6)
    assert (config.name, config.backend, config.max_batch_size) == ("colours", "onnxruntime", 6)
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input] == [("images", pb.TYPE_UINT8, [8, 8, 3])]
    assert [(t.name, t.data_type, list(t.dims)) for t in config.output] == [
        ("probabilities", pb.TYPE_FP32, [3]),
        ("boxes", pb.TYPE_INT64, [-1, 4]),
    ]


@pytest.mark.parametrize(
    ("onnx", "triton"),
    [
        ("bool", "BOOL"), ("uint8", "UINT8"), ("uint16", "UINT16"), ("uint32", "UINT32"), ("uint64", "UINT64"),
        ("int8", "INT8"), ("int16", "INT16"), ("int32", "INT32"), ("int64", "INT64"), ("float16", "FP16"),
        ("float", "FP32"), ("double", "FP64"), ("string", "STRING"), ("bfloat16", "BF16"),
    ],
)  # fmt: skip
def test_every_type_has_its_triton_name(onnx: str, triton: str) -> None:
    config = config_of(TensorSignature("out", f"tensor({onnx})", (None, 2)))
    assert pb.DataType.Name(config.output[0].data_type) == f"TYPE_{triton}"


def test_a_type_that_triton_does_not_know_is_refused() -> None:
    with pytest.raises(ModelError, match=r"out is tensor\(complex64\)"):
        config_of(TensorSignature("out", "tensor(complex64)", (None, 2)))


@pytest.mark.parametrize("shape", [(), (1, 3)])
def test_an_output_without_rows_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="first dimension"):
        config_of(TensorSignature("out", "tensor(float)", shape))


def test_one_value_per_image_is_a_dimension_of_one_to_clients() -> None:
    output = config_of(TensorSignature("count", "tensor(int64)", (None,)), classes=("only",)).output[0]
    assert list(output.dims) == [1]
    assert output.HasField("reshape")
    assert list(output.reshape.shape) == []
    assert output.label_filename == ""


def test_labels_stand_at_the_output_with_one_value_per_class() -> None:
    boxes = TensorSignature("boxes", "tensor(float)", (None, 100, 3))
    config = config_of(boxes, SCORES)
    assert [output.label_filename for output in config.output] == ["", "labels.txt"]
    assert config_of(SCORES, classes=("a", "b")).output[0].label_filename == ""


def test_batching_queue_and_instances_are_what_was_asked() -> None:
    config = config_of(
        max_batch=8, queue_delay_us=4000, preferred=(8, 2), max_queue_size=9, timeout_us=70, timeout_action="delay",
        instances=3, kind="gpu", gpus=(1, 0),
    )  # fmt: skip
    batching = config.dynamic_batching
    assert (list(batching.preferred_batch_size), batching.max_queue_delay_microseconds) == ([2, 8], 4000)
    policy = batching.default_queue_policy
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (9, 70)
    assert policy.timeout_action == pb.ModelQueuePolicy.DELAY
    assert [(g.count, g.kind, list(g.gpus)) for g in config.instance_group] == [
        (3, pb.ModelInstanceGroup.KIND_GPU, [1, 0])
    ]


def test_threads_go_by_the_names_of_the_onnxruntime_backend() -> None:
    config = config_of(threads=2, inter_op_threads=3, execution_mode="parallel")
    assert {key: value.string_value for key, value in config.parameters.items()} == {
        "intra_op_thread_count": "2",
        "inter_op_thread_count": "3",
        "execution_mode": "1",
    }


@pytest.mark.parametrize(("max_batch", "sizes"), [(1, [1]), (4, [1, 4])])
def test_warmup_runs_one_image_and_a_full_batch(max_batch: int, sizes: list[int]) -> None:
    config = config_of(max_batch=max_batch, warmup="zero")
    assert [warmup.batch_size for warmup in config.model_warmup] == sizes
    sample = config.model_warmup[0].inputs["images"]
    assert (sample.data_type, list(sample.dims), sample.zero_data) == (pb.TYPE_UINT8, [8, 8, 3], True)
    assert config_of().model_warmup[0].inputs["images"].random_data
    assert not config_of(warmup="off").model_warmup


def test_version_policies() -> None:
    assert config_of(latest=3).version_policy.latest.num_versions == 3
    assert config_of(version_policy="all").version_policy.HasField("all")
    specific = config_of(version_policy="specific", versions=(4, 2)).version_policy.specific
    assert list(specific.versions) == [2, 4]
