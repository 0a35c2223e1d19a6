"""An entry's files, opened as what they are: data that others wrote.

The law: who owns a repository lays it out. The repository, an entry, a version's folder and the files that have their
usual names (`config.pbtxt`, `model.onnx`, `model.py`) may be links to anywhere, as DVC and shared storage make them.
A name that a config chooses is one plain name, and what it names lies inside the entry, links followed. All are regular
files of bounded size. What a client gets to read of a failure names no path, and is the same whether or not there is
something at the place in question.

A graph is known to refer to no other file before anything follows that: a tensor may keep its values in a file of any
name, and some versions of ONNX Runtime read whatever is named, outside the entry too. nanocv's graphs are one file.
"""

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.errors import ModelError
from nanocv_cli.serving.repository.backends import BACKENDS, DEFAULT, PYTHON_MODEL, backend_of
from nanocv_cli.serving.repository.encoded_images import WARMUP_FOLDER
from nanocv_cli.serving.repository.entry import CONFIG
from nanocv_cli.serving.repository.pbtxt import LARGEST_FILE, parse_config
from nanocv_cli.serving.repository.python_backend import SHIPPED_MODEL_PY
from nanocv_cli.serving.repository.versions import GRAPH, LARGEST_GRAPH
from nanocv_cli.untrusted import holds, printable, read_regular

LARGEST_LABELS = 1 << 20  # bytes of a label file
LONGEST_LABEL = 1024  # characters
LARGEST_WARM_UP = 256 << 20  # bytes of one sample: more than a full batch of any small vision model
LONGEST_NAME = 255  # bytes: what file systems allow
WRITE_ENTRY = "nanocv serve config writes one"
# Of onnx.proto, what leads to tensors, and the two fields of a tensor that say its values are elsewhere. Every field is
# repeated: one that is given twice, where ONNX has one, is then seen twice.
ONNX_FIELDS: dict[str, dict[int, str]] = {
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


def is_plain(name: str) -> bool:
    """Whether a text can only be the name of something in the folder at hand."""
    return (
        name not in ("", ".", "..")
        and name.isprintable()  # which lone surrogates are not either
        and not set(name) & set("/\\")
        and len(name.encode()) <= LONGEST_NAME
    )


def entry_names(repository: Path) -> list[str]:
    """The names of all entries of a repository, sorted.

    Raises:
        OSError: it cannot be read.
    """
    return sorted(path.name for path in repository.iterdir() if is_entry(repository, path.name))


def is_entry(repository: Path, name: str) -> bool:
    """Whether there is an entry of this name: a folder with a `config.pbtxt`."""
    try:
        return is_plain(name) and (repository / name / CONFIG).is_file()
    except OSError:
        return False


def read_entry_config(entry: Path) -> pb.ModelConfig:
    """An entry's config, as written.

    Raises:
        ModelError: it cannot be read, or is no `ModelConfig`.
    """
    try:
        content = read_regular(entry / CONFIG, LARGEST_FILE)
    except OSError as error:
        raise ModelError(
            f"{CONFIG} cannot be read: expected a regular file of at most {LARGEST_FILE:,} bytes", WRITE_ENTRY
        ) from error
    try:
        return parse_config(content, CONFIG)
    except ModelError as error:
        if _lies_in(entry / CONFIG, entry):
            raise
        # The words of a parser hold what it stumbled over, and that is not the repository's.
        raise ModelError(f"{CONFIG} is a link to something that is no ModelConfig", WRITE_ENTRY) from error


def check_names(config: pb.ModelConfig) -> None:
    """Checks that the names of files in a config can only be those of files of the entry.

    Raises:
        ModelError: one cannot.
    """
    names = [("default_model_filename", config.default_model_filename)]
    names += [("label_filename", output.label_filename) for output in config.output]
    names += [("input_data_file", name) for name in _warmup_files(config)]
    for place, name in names:
        if name and not is_plain(name):
            raise ModelError(f"{config.name}: {place} '{printable(name)}' is no plain file name", f"mend {CONFIG}")


def read_labels(entry: Path, name: str, model: str) -> list[str]:
    """The class names in a label file, one a line.

    Raises:
        ModelError: it is not one.
    """
    try:
        labels = read_regular(place_in(entry, entry, name), LARGEST_LABELS).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _no_labels(model, name) from error
    if any(len(label) > LONGEST_LABEL for label in labels):
        raise _no_labels(model, name)
    return labels


def read_warmup(entry: Path, name: str, model: str) -> bytes:
    """A tensor for warm-up, as raw bytes, from the entry's folder of such.

    Raises:
        ModelError: there is none that may be read.
    """
    try:
        path = entry / WARMUP_FOLDER / name
        if not (is_plain(name) and _lies_in(path, entry)):
            raise OSError("leads out of the entry, or nowhere")
        return read_regular(path, LARGEST_WARM_UP)
    except OSError as error:
        raise ModelError(
            f"{model}: input_data_file '{printable(name)}' cannot be used: expected a regular file in the entry's "
            f"folder {WARMUP_FOLDER}, of at most {LARGEST_WARM_UP:,} bytes",
            "nanocv serve config writes it again",
        ) from error


def check_override(config: pb.ModelConfig, entry: Path) -> None:
    """Checks that a config which a client sent names no files but those that the entry's own config names.

    Raises:
        ModelError: it does.
    """
    try:
        own = read_entry_config(entry)
    except ModelError:
        own = pb.ModelConfig()
    labels = {output.name: output.label_filename for output in own.output}
    usual = BACKENDS.get(own.backend, BACKENDS[DEFAULT]).file
    fits = config.default_model_filename in ("", own.default_model_filename or usual)
    labelled = all(o.label_filename in ("", labels.get(o.name, "")) for o in config.output)
    if not (fits and labelled and set(_warmup_files(config)) <= set(_warmup_files(own))):
        raise ModelError(
            "a config sent with a load request may name no file that the entry's config.pbtxt does not name",
            "leave out default_model_filename, label_filename and input_data_file",
        )


def place_in(entry: Path, folder: Path, name: str, usual: str = "") -> Path:
    """Where a name in a config leads, which is inside the entry unless it is the usual one.

    Raises:
        OSError: nowhere that may be opened.
    """
    if not is_plain(name):
        raise OSError("not a plain name")
    if name == usual:
        return folder / name
    if not _lies_in(folder / name, entry, folder):
        raise OSError("leads out of the entry, or nowhere")
    return (folder / name).resolve()


def read_graph(entry: Path, version: int, config: pb.ModelConfig) -> bytes:
    """The ONNX file of a version; a Python entry has one if its script is nanocv's own, and no script is ever run.

    Raises:
        ModelError: there is none that this server may run.
    """
    folder, name = entry / str(version), config.default_model_filename or backend_of(config).file
    if config.backend == "python":
        if not _is_shipped(entry, folder, name):
            raise ModelError(
                f"{config.name}: the embedded server runs no Python but nanocv's own model.py",
                "serve this entry with --engine triton",
            )
        name = GRAPH
    try:
        return read_regular(place_in(entry, folder, name, GRAPH), LARGEST_GRAPH)
    except OSError as error:
        raise ModelError(
            f"{config.name}: version {version} has no graph that can be read: expected a regular file "
            f"'{printable(name)}' in the entry, of at most {LARGEST_GRAPH:,} bytes",
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
        messages = [_ONNX_MODEL.FromString(content)]
    except DecodeError as error:
        raise ModelError(f"{model}: the graph cannot be loaded: it is no ONNX file", EXPORT_AGAIN) from error
    while messages:
        for field, values in messages.pop().ListFields():
            if field.message_type is not None:
                messages.extend(values)
            elif field.number == 13 or any(values):  # location 0 is the tensor itself
                raise ModelError(f"{model}: the graph keeps tensors in other files (external data)", EXPORT_AGAIN)


def _warmup_files(config: pb.ModelConfig) -> list[str]:
    tensors = (tensor for sample in config.model_warmup for tensor in sample.inputs.values())
    return [tensor.input_data_file for tensor in tensors if tensor.HasField("input_data_file")]


def _lies_in(path: Path, *folders: Path) -> bool:
    """Whether something is there and, links followed, inside one of the folders."""
    try:
        place = path.resolve(strict=True)
        return any(place.is_relative_to(folder.resolve(strict=True)) for folder in folders)
    except (OSError, RuntimeError):  # the latter is a loop of links, before Python 3.13
        return False


def _no_labels(model: str, name: str) -> ModelError:
    return ModelError(
        f"{model}: label_filename '{printable(name)}' cannot be used: expected a plain name of a regular file in the "
        f"entry, UTF-8, of at most {LARGEST_LABELS:,} bytes and {LONGEST_LABEL:,} characters a line",
        "nanocv serve config writes it again",
    )


def _is_shipped(entry: Path, folder: Path, name: str) -> bool:
    try:
        return holds(place_in(entry, folder, name, PYTHON_MODEL), SHIPPED_MODEL_PY.read_bytes())
    except OSError:
        return False


def _onnx_message_class() -> Any:
    """The class of a message that holds ONNX_FIELDS and passes over all else."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="nanocv/onnx_graph.proto", package="nanocv", syntax="proto2")
    for name, fields in ONNX_FIELDS.items():
        message = file.message_type.add(name=name)
        for number, kind in fields.items():
            field = message.field.add(name=f"f{number}", number=number, label=kinds.LABEL_REPEATED)
            if kind in ONNX_FIELDS:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".nanocv.{kind}"
            else:
                field.type = {"bytes": kinds.TYPE_BYTES, "int": kinds.TYPE_INT32}[kind]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("nanocv.Model"))


_ONNX_MODEL = _onnx_message_class()
