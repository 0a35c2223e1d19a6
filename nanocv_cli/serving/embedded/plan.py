"""An entry's `ModelConfig`, checked against its graph and filled with Triton's defaults: what a model is run by."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.engine.signature import NUMPY_TYPES, TensorSignature
from nanocv_cli.errors import ModelError
from nanocv_cli.serving.repository.backends import DEFAULT, backend_of
from nanocv_cli.serving.repository.model_config import TYPES
from nanocv_cli.serving.repository.versions import MissingVersionError, served, versions


@dataclass(frozen=True)
class Rules:
    """How a queue is batched and bounded.

    Attributes:
        batching: False runs every request alone.
        max_batch: most rows of a batch.
        preferred: batch sizes worth running without waiting; empty means `max_batch`.
        delay_ns: longest wait for a better batch.
        max_queue: most requests that wait; 0 for any number.
        timeout_ns: of requests that name none; 0 for any.
        timeout_override: a request may name a shorter one.
        reject_late: late requests get an error; else they are served after all others.
    """

    batching: bool
    max_batch: int
    preferred: frozenset[int] = frozenset()
    delay_ns: int = 0
    max_queue: int = 0
    timeout_ns: int = 0
    timeout_override: bool = False
    reject_late: bool = True


def datatype(kind: int) -> str:
    """KServe's name of a config's type."""
    name: str = pb.DataType.Name(kind).removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name


def completed(
    config: pb.ModelConfig, inputs: Sequence[TensorSignature], outputs: Sequence[TensorSignature]
) -> pb.ModelConfig:
    """The config with what it leaves to the server filled in, as Triton reports it.

    Args:
        config: as read from the entry.
        inputs: of the graph.
        outputs: of the graph.

    Raises:
        ModelError: config and graph do not fit each other, or the config contradicts itself.
    """
    full = pb.ModelConfig()
    full.CopyFrom(config)
    full.backend = full.backend or DEFAULT
    full.default_model_filename = full.default_model_filename or backend_of(full).file
    if not full.HasField("version_policy"):
        full.version_policy.latest.num_versions = 1
    _match(full, "input", inputs)
    _match(full, "output", outputs)
    if full.HasField("dynamic_batching"):
        batching = full.dynamic_batching
        if full.max_batch_size == 0:
            raise ModelError(f"{full.name}: dynamic_batching needs a max_batch_size", "mend config.pbtxt")
        if any(not 1 <= size <= full.max_batch_size for size in batching.preferred_batch_size):
            raise ModelError(
                f"{full.name}: dynamic batching preferred size must be <= max batch size", "mend config.pbtxt"
            )
        if not batching.preferred_batch_size:
            batching.preferred_batch_size.append(full.max_batch_size)
        batching.default_queue_policy.SetInParent()
    if not full.instance_group:
        full.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU)
    for number, group in enumerate(full.instance_group):
        group.name = group.name or f"{full.name}_{number}"
        group.count = max(1, group.count)
    return full


def rules(config: pb.ModelConfig) -> Rules:
    """How the queue of a completed config is batched."""
    batching = config.dynamic_batching
    policy = batching.default_queue_policy
    return Rules(
        batching=config.HasField("dynamic_batching"),
        max_batch=max(1, config.max_batch_size),
        preferred=frozenset(batching.preferred_batch_size),
        delay_ns=1000 * batching.max_queue_delay_microseconds,
        max_queue=policy.max_queue_size,
        timeout_ns=1000 * policy.default_timeout_microseconds,
        timeout_override=policy.allow_timeout_override,
        reject_late=policy.timeout_action == pb.ModelQueuePolicy.REJECT,
    )


def served_versions(config: pb.ModelConfig, entry: Path) -> list[int]:
    """The versions of an entry's folder that its policy wants served.

    Raises:
        ModelError: there is none, or a version that is asked for is missing.
    """
    try:
        there = versions(entry)
    except OSError as error:
        raise ModelError(f"{config.name}: its folder cannot be read", "check the repository's permissions") from error
    try:
        chosen = served(there, config.version_policy)
    except MissingVersionError as error:
        raise ModelError(f"{config.name}: version {error.number} is missing", "mend version_policy") from error
    if not chosen:
        raise ModelError(
            f"at least one version must be available under the version policy of model '{config.name}'",
            "a version is a sub-folder named by a number, from 1 on",
        )
    return chosen


def graph_inputs(config: pb.ModelConfig, inputs: Sequence[TensorSignature]) -> list[pb.ModelInput]:
    """The inputs of a completed config as the graph takes them: images in place of files, all others as they are."""
    found = {tensor.name: tensor for tensor in inputs}
    return [
        pb.ModelInput(
            name=entry.name,
            data_type=pb.TYPE_UINT8,
            dims=_sizes(found[entry.name])[1 if config.max_batch_size else 0 :],
        )
        if takes_files(config, entry, found[entry.name])
        else entry
        for entry in config.input
    ]


def takes_files(config: pb.ModelConfig, entry: pb.ModelInput, tensor: TensorSignature) -> bool:
    """Whether an input of a config takes N files of images where its graph reads uint8 [N,H,W,3]."""
    declared = entry.data_type == pb.TYPE_STRING and tensor.type == "tensor(uint8)" and len(tensor.shape) == 4
    wanted = entry.reshape.shape if entry.HasField("reshape") else entry.dims
    return declared and list(wanted) in ([[], [1]] if config.max_batch_size else [[-1], [1]])


def _match(config: pb.ModelConfig, side: str, found: Sequence[TensorSignature]) -> None:
    """Checks one side of the config against the graph's, or takes it from there where the config leaves it out."""
    listed: Any = getattr(config, side)
    if not listed:
        for tensor in found:
            sizes = _sizes(tensor)[1:] if config.max_batch_size else _sizes(tensor)
            listed.add(name=tensor.name, data_type=TYPES.get(tensor.type, pb.TYPE_INVALID), dims=sizes)
    by_name = {tensor.name: tensor for tensor in found}
    for entry in listed:
        known = by_name.pop(entry.name, None)
        if known is None:
            raise ModelError(
                f"{config.name}: the graph has no {side} '{entry.name}'; it has {', '.join(t.name for t in found)}",
                "nanocv serve config writes an entry that fits",
            )
        if side == "input" and takes_files(config, entry, known):
            continue
        wanted = entry.reshape.shape if entry.HasField("reshape") else entry.dims
        full = [-1, *wanted] if config.max_batch_size else list(wanted)
        if TYPES.get(known.type) != entry.data_type or not _compatible(full, _sizes(known)):
            raise ModelError(
                f"{config.name}: {side} '{entry.name}' is {datatype(entry.data_type)} {_text(full)} in config.pbtxt, "
                f"but {known.type} {_text(_sizes(known))} in the graph",
                "nanocv serve config writes an entry that fits",
            )
        kind = datatype(entry.data_type)
        if kind not in NUMPY_TYPES:
            raise ModelError(
                f"{config.name}: {side} '{entry.name}' is {kind}, which the embedded server does not serve",
                "serve this entry with --engine triton",
            )
    if side == "input" and by_name:
        raise ModelError(
            f"{config.name}: config.pbtxt leaves out the graph's input '{next(iter(by_name))}'",
            "nanocv serve config writes an entry that fits",
        )


def _sizes(tensor: TensorSignature) -> list[int]:
    return [-1 if size is None else size for size in tensor.shape]


def _compatible(wanted: Sequence[int], found: Sequence[int]) -> bool:
    return len(wanted) == len(found) and all(-1 in (a, b) or a == b for a, b in zip(wanted, found, strict=True))


def _text(sizes: Iterable[int]) -> str:
    return f"[{','.join(map(str, sizes))}]"
