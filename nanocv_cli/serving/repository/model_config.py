"""The `ModelConfig` of a graph: what Triton is told of its tensors, and how it shall batch and run it."""

import json
from collections.abc import Iterable
from typing import Any

from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.config.schema import ServeConfig
from nanocv_cli.engine.card import METADATA_KEY, ModelCard
from nanocv_cli.engine.signature import GraphSignature, TensorSignature
from nanocv_cli.errors import ModelError
from nanocv_cli.rooms import is_task, room
from nanocv_cli.serving.repository.backends import BACKENDS, DEFAULT, PYTHON_MODEL
from nanocv_cli.serving.repository.encoded_images import BOXES, WARMUP_IMAGE, box_outputs, with_files
from nanocv_cli.serving.repository.versions import GRAPH

LABELS = "labels.txt"
SETTINGS_KEY = "nanocv.settings"  # among parameters: what numbers requests may name, as JSON
LONGEST_CARD = 512 << 10  # characters: a config.pbtxt of more than 1 MiB is not read
TYPES = {
    "tensor(bool)": pb.TYPE_BOOL,
    "tensor(uint8)": pb.TYPE_UINT8,
    "tensor(uint16)": pb.TYPE_UINT16,
    "tensor(uint32)": pb.TYPE_UINT32,
    "tensor(uint64)": pb.TYPE_UINT64,
    "tensor(int8)": pb.TYPE_INT8,
    "tensor(int16)": pb.TYPE_INT16,
    "tensor(int32)": pb.TYPE_INT32,
    "tensor(int64)": pb.TYPE_INT64,
    "tensor(float16)": pb.TYPE_FP16,
    "tensor(float)": pb.TYPE_FP32,
    "tensor(double)": pb.TYPE_FP64,
    "tensor(string)": pb.TYPE_STRING,
    "tensor(bfloat16)": pb.TYPE_BF16,
}


def build_config(
    signature: GraphSignature,
    settings: ServeConfig,
    name: str,
    classes: tuple[str, ...] = (),
    open_size: int = 1,
    card: ModelCard | None = None,
) -> pb.ModelConfig:
    """Describes a graph to Triton.

    Args:
        signature: the graph's inputs and outputs, batch first.
        settings: how to serve it.
        name: the entry's folder name.
        classes: in label order; an output that holds one value per class names them from `labels.txt`.
        open_size: what a dimension of any size is in warm-up images.
        card: travels with the entry, so that clients can name the answers; one that is too long stays behind.

    Raises:
        ModelError: a tensor of a type that Triton does not know, or without rows.
    """
    if settings.encoded:
        signature = with_files(signature)
    config = pb.ModelConfig(name=name, backend=settings.backend, max_batch_size=settings.max_batch)
    for tensor in signature.inputs:
        config.input.append(_described(pb.ModelInput, tensor))
    for tensor in signature.outputs:
        output = _described(pb.ModelOutput, tensor)
        if classes and list(output.dims) == [len(classes)] and not output.HasField("reshape"):
            output.label_filename = LABELS
        config.output.append(output)
    config.version_policy.CopyFrom(version_policy(settings))
    config.dynamic_batching.CopyFrom(_batching(settings))
    config.instance_group.append(
        pb.ModelInstanceGroup(
            count=settings.instances,
            kind=pb.ModelInstanceGroup.Kind.Value(f"KIND_{settings.kind.upper()}"),
            gpus=settings.gpus,
        )
    )
    backend = BACKENDS[settings.backend]
    if backend.file not in (GRAPH, PYTHON_MODEL):
        config.default_model_filename = GRAPH
    for key, value in backend.parameters(settings).items():
        config.parameters[key].string_value = value
    text = card.to_metadata()[METADATA_KEY] if card else ""
    if 0 < len(text) <= LONGEST_CARD:
        config.parameters[METADATA_KEY].string_value = text
    elif settings.encoded:
        raise ModelError(
            f"the model card has {len(text):,} characters, {LONGEST_CARD:,} is the most that travels with an entry, "
            "and a server that is sent image files needs it",
            "leave out --encoded",
        )
    if settings.encoded and card and (boxes := box_outputs(card)):
        config.parameters[BOXES].string_value = boxes
    # OpenVINO keeps no value of an input that is left out.
    if card and is_task(card.task) and backend.runtime == BACKENDS[DEFAULT].runtime:
        own = {tensor.name for tensor in signature.settings}
        if bounds := {name: limits for name, limits in room(card.task).settings.items() if name in own}:
            config.parameters[SETTINGS_KEY].string_value = json.dumps(bounds)
    config.model_warmup.extend(_warmup(config, settings, open_size))
    return config


def _described(kind: Any, tensor: TensorSignature) -> Any:
    """Name, type and dimensions without the batch's."""
    if tensor.type not in TYPES:
        raise ModelError(f"{tensor.name} is {tensor.type}, which Triton does not serve", "export another graph")
    if not tensor.shape or tensor.shape[0] is not None:
        raise ModelError(
            f"{tensor.name} has shape {_shown(tensor.shape)}: its first dimension is not any number of images",
            "torchvision's detectors export one image at a time: serve nanospot"
            if tensor.shape[:1] == (1,)
            else "export it again: nanocv export onnx --model RUN",
        )
    dims = [-1 if size is None else size for size in tensor.shape[1:]]
    described = kind(name=tensor.name, data_type=TYPES[tensor.type], dims=dims or [1])
    if not dims:  # Triton wants a dimension; its own ones and the graph's are then told apart
        described.reshape.SetInParent()
    return described


def _shown(shape: Iterable[int | None]) -> str:
    return f"[{','.join('?' if size is None else str(size) for size in shape)}]"


def version_policy(settings: ServeConfig) -> pb.ModelVersionPolicy:
    """Which versions a server of these settings serves."""
    if settings.version_policy == "all":
        return pb.ModelVersionPolicy(all=pb.ModelVersionPolicy.All())
    if settings.version_policy == "specific":
        return pb.ModelVersionPolicy(specific=pb.ModelVersionPolicy.Specific(versions=sorted(settings.versions)))
    return pb.ModelVersionPolicy(latest=pb.ModelVersionPolicy.Latest(num_versions=settings.latest))


def _batching(settings: ServeConfig) -> pb.ModelDynamicBatching:
    batching = pb.ModelDynamicBatching(
        preferred_batch_size=sorted(settings.preferred), max_queue_delay_microseconds=settings.queue_delay_us
    )
    if settings.max_queue_size or settings.timeout_us:
        batching.default_queue_policy.CopyFrom(
            pb.ModelQueuePolicy(
                max_queue_size=settings.max_queue_size,
                default_timeout_microseconds=settings.timeout_us,
                timeout_action=pb.ModelQueuePolicy.TimeoutAction.Value(settings.timeout_action.upper()),
            )
        )
    return batching


def _warmup(config: pb.ModelConfig, settings: ServeConfig, open_size: int) -> list[pb.ModelWarmup]:
    """One image, and a full batch: the first requests do not pay for what a session sets up at its first run."""
    if settings.warmup == "off":
        return []
    warmups = []
    for size in sorted({1, settings.max_batch}):
        warmup = pb.ModelWarmup(name=f"batch of {size}", batch_size=size)
        for tensor in config.input:
            sample = warmup.inputs[tensor.name]
            sample.data_type = tensor.data_type
            sample.dims.extend(open_size if size < 0 else size for size in tensor.dims)
            if settings.encoded:
                sample.input_data_file = WARMUP_IMAGE
                continue
            # Any number may be an image, but not a class: 0 is one.
            data = "zero" if tensor.data_type in (pb.TYPE_INT32, pb.TYPE_INT64) else settings.warmup
            setattr(sample, f"{data}_data", True)
        warmups.append(warmup)
    return warmups
