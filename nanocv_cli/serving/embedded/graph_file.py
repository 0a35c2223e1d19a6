"""The ONNX file of a version: read from its entry, and known to refer to no other file before anything follows that.

A tensor may keep its values in a file of any name. Some versions of ONNX Runtime read whatever is named, outside the
entry too; nanocv's graphs are one file.
"""

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.errors import ModelError
from nanocv_cli.serving.embedded.entry_files import WRITE_ENTRY, place_in
from nanocv_cli.serving.repository.entry import PYTHON_MODEL
from nanocv_cli.serving.repository.python_backend import SHIPPED_MODEL_PY
from nanocv_cli.serving.repository.versions import GRAPH, LARGEST_GRAPH
from nanocv_cli.untrusted import holds, printable, read_regular

# Of onnx.proto, what leads to tensors, and the two fields of a tensor that say its values are elsewhere. Every field is
# repeated: one that is given twice, where ONNX has one, is then seen twice.
FIELDS: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Training": {1: "Graph", 2: "Graph"},
    "Tensor": {13: "bytes", 14: "int"},
}
EXPORT_AGAIN = "export it again, as one file: nanocv export onnx"


def read_graph(entry: Path, version: int, config: pb.ModelConfig) -> bytes:
    """The ONNX file of a version; a Python entry has one if its script is nanocv's own, and no script is ever run.

    Raises:
        ModelError: there is none that this server may run.
    """
    folder, name = entry / str(version), config.default_model_filename
    if config.backend == "python":
        if not _is_shipped(entry, folder, name or PYTHON_MODEL):
            raise ModelError(
                f"{config.name}: the embedded server runs no Python but nanocv's own model.py",
                "serve this entry with --engine triton",
            )
        name = GRAPH
    elif config.backend not in ("", "onnxruntime"):
        raise ModelError(
            f"{config.name}: the embedded server has no backend '{config.backend}'", "serve it with --engine triton"
        )
    try:
        return read_regular(place_in(entry, folder, name or GRAPH, GRAPH), LARGEST_GRAPH)
    except OSError as error:
        raise ModelError(
            f"{config.name}: version {version} has no graph that can be read: expected a regular file "
            f"'{printable(name or GRAPH)}' in the entry, of at most {LARGEST_GRAPH:,} bytes",
            WRITE_ENTRY,
        ) from error


def refuse_external_data(content: bytes, model: str) -> None:
    """Makes sure that a graph is whole by itself.

    Args:
        content: an ONNX file's.
        model: whose it is, for the message.

    Raises:
        ModelError: it refers to other files, or is no ONNX file.
    """
    try:
        messages = [_MODEL.FromString(content)]
    except DecodeError as error:
        raise ModelError(f"{model}: the graph cannot be loaded: it is no ONNX file", EXPORT_AGAIN) from error
    while messages:
        for field, values in messages.pop().ListFields():
            if field.message_type is not None:
                messages.extend(values)
            elif field.number == 13 or any(values):  # location 0 is the tensor itself
                raise ModelError(f"{model}: the graph keeps tensors in other files (external data)", EXPORT_AGAIN)


def _is_shipped(entry: Path, folder: Path, name: str) -> bool:
    try:
        return holds(place_in(entry, folder, name, PYTHON_MODEL), SHIPPED_MODEL_PY.read_bytes())
    except OSError:
        return False


def _build() -> Any:
    """The class of a message that holds FIELDS and passes over all else."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="nanocv/graph_file.proto", package="nanocv", syntax="proto2")
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for number, kind in fields.items():
            field = message.field.add(name=f"f{number}", number=number, label=kinds.LABEL_REPEATED)
            if kind in FIELDS:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".nanocv.{kind}"
            else:
                field.type = {"bytes": kinds.TYPE_BYTES, "int": kinds.TYPE_INT32}[kind]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("nanocv.Model"))


_MODEL = _build()
