"""The files that an exported graph can be, one `.onnx` or OpenVINO's two: how each is written and put in its place."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import cast

import onnx
from google.protobuf.message import DecodeError

from nanocv_cli.engine.engine import graph_files
from nanocv_cli.engine.runtimes import ONNX_FILE, OPENVINO_FILE, RUNTIMES, find_runtime, readers
from nanocv_cli.errors import ExportError, RequestError
from nanocv_cli.exporting.channel_norm import with_channel_norms
from nanocv_cli.files import expect_file, folder_beside, fsync
from nanocv_cli.models.onnx_exporter import LARGEST_PROTOBUF, all_nodes
from nanocv_cli.untrusted import read_regular

# Writes a graph as a path, and whatever belongs to it beside that.
Writer = Callable[[onnx.ModelProto, Path], None]


@dataclass(frozen=True)
class GraphForm:
    """A row of the table.

    Attributes:
        suffix: of the file that a reference names.
        writer: dotted path of its `Writer`.
    """

    suffix: str
    writer: str

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Names of the runtimes that are installed and read it.

        Raises:
            RequestError: none is.
        """
        able = readers(Path(f"model{self.suffix}"))
        found = tuple(name for name in able if RUNTIMES[name].is_installed)
        if not found:
            find_runtime(able[0])  # which says how to install it
        return found

    def write(self, model: onnx.ModelProto, path: Path) -> None:
        """Writes a graph; its card, in the metadata, goes with it.

        Raises:
            ExportError: it has operators that this form cannot express.
            OSError: a file cannot be written.
        """
        cast(Writer, resolve_name(self.writer))(model, path)

    @contextmanager
    def replacing(self, target: Path) -> Iterator[Path]:
        """Yields a path of the same name to write to; on success its files replace those of `target`.

        The file that a reference names comes last, and knows its weights by their hash: a process that is killed just
        between leaves two that are refused as no pair, never answers of a mixture.

        Raises:
            RequestError: a file's name is one of a folder or the like.
            StorageError: the folder cannot be written, or the disk is full.
        """
        for file in graph_files(target):
            expect_file(file)
        with folder_beside(target) as folder:
            built = folder / target.name
            yield built
            for source in graph_files(built):
                fsync(source)
            for source, file in zip(graph_files(built), graph_files(target), strict=True):
                source.replace(file)
            fsync(target.parent)


FORMS = {
    "onnx": GraphForm(ONNX_FILE, "nanocv_cli.exporting.graph_forms:write_onnx"),
    "openvino": GraphForm(OPENVINO_FILE, "nanocv_cli.exporting.graph_forms:write_openvino"),
}


def find_form(target: str) -> GraphForm:
    """The form called so.

    Raises:
        RequestError: there is none, or what writes it is not installed.
    """
    if target not in FORMS:
        raise RequestError(f"unknown target {target!r}", f"use {' or '.join(FORMS)}")
    form = FORMS[target]
    _ = form.runtimes
    return form


def write_onnx(model: onnx.ModelProto, path: Path) -> None:
    """A `Writer`."""
    path.write_bytes(model.SerializeToString())


def holds_graph(path: Path, model: onnx.ModelProto) -> bool:
    """Whether a file is this very graph, whatever its nodes tell of the modules and lines that they came from."""
    try:
        former = onnx.load_from_string(read_regular(path, LARGEST_PROTOBUF))
    except (OSError, DecodeError):
        return False
    return _without_origins(former) == _without_origins(model)


def _without_origins(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in all_nodes(copy.graph):
        del node.metadata_props[:]
    return copy


def write_openvino(model: onnx.ModelProto, path: Path) -> None:
    """A `Writer`: an `.xml` with graph and card, a `.bin` with the weights as the graph has them."""
    import openvino

    from nanocv_cli.engine.openvino_graph import METADATA, WEIGHTS_HASH, core, reason, weights_hash

    try:
        converted = core().read_model(with_channel_norms(model).SerializeToString())
    except RuntimeError as error:
        raise ExportError(f"OpenVINO cannot run it: {reason(error)}", "nanocv export onnx") from error
    weights, _ = graph_files(path)
    openvino.serialize(converted, path, weights)
    converted.set_rt_info(weights_hash(weights.read_bytes()), [METADATA, WEIGHTS_HASH])
    openvino.serialize(converted, path, weights)
