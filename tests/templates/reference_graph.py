"""Runs an exported graph by onnx's reference evaluator: slow, and by the letter of the standard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.engine import Engine
from nanocv_cli.engine.runtimes import RunSettings
from nanocv_cli.engine.signature import GraphSignature, TensorSignature

TYPES = {onnx.TensorProto.UINT8: "tensor(uint8)", onnx.TensorProto.FLOAT: "tensor(float)"}


class ReferenceGraph(Engine):
    """A graph by the reference evaluator; see `Engine`."""

    def __init__(self, path: Path) -> None:
        model = onnx.load(str(path))
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        signature = GraphSignature(tuple(map(_told, model.graph.input)), tuple(map(_told, model.graph.output)))
        card = ModelCard.from_metadata(metadata, str(path))
        super().__init__(str(path), card, signature, None, "reference", "cpu")
        self._evaluator = ReferenceEvaluator(model)

    def _run(self, graph_inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        names = [output.name for output in self.signature.outputs]
        return dict(zip(names, self._evaluator.run(names, dict(graph_inputs)), strict=True))


def open_by_reference(path: Path, settings: RunSettings) -> Engine:
    """See `runtimes.Opener`."""
    return ReferenceGraph(path)


def _told(value: Any) -> TensorSignature:
    kind = value.type.tensor_type
    shape = tuple(size.dim_value or None for size in kind.shape.dim)
    return TensorSignature(value.name, TYPES[kind.elem_type], shape)
