"""Small ONNX graphs with model cards: the class is the image's strongest colour channel, so answers are known."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nanocv_cli.engine.card import ModelCard

COLOURS = ("red", "green", "blue")
SIDE = 8


def colour_card(**changes: object) -> ModelCard:
    """The card of the colour graph, with some fields changed."""
    values: dict[str, object] = {
        "name": "colours",
        "task": "classification",
        "classes": COLOURS,
        "input_size": SIDE,
        "resize": "crop",
        "data": "squares",
        "config": {},
        "config_hash": "0",
    }
    return ModelCard(**{**values, **changes})  # type: ignore[arg-type]


def write_graph(
    path: Path,
    card: ModelCard | None = None,
    metadata: dict[str, str] | None = None,
    input_type: int = TensorProto.UINT8,
    shape: tuple[int | str, ...] = ("batch", SIDE, SIDE, 3),
    strength: float = 0.05,
) -> Path:
    """Writes mean colour -> scaled -> softmax as `path`.

    Args:
        path: `.onnx` to write.
        card: goes into the metadata; None writes `colour_card()`.
        metadata: written in place of the card.
        input_type: of `images`.
        shape: of `images`.
        strength: logit per grey level; NaN makes every answer NaN.
    """
    weights = np.eye(3, dtype=np.float32) * strength
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
            helper.make_node("Gemm", ["means", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "colours",
        [helper.make_tensor_value_info("images", input_type, shape)],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, (shape[0], 3))],
        [numpy_helper.from_array(np.array([1, 2]), "axes"), numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, (card or colour_card()).to_metadata() if metadata is None else metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path
