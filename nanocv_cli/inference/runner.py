"""Runs an exported graph by ONNX Runtime: raw pictures in, named outputs back."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from nanocv_cli.errors import ModelError
from nanocv_cli.inference.card import ModelCard
from nanocv_cli.inference.signature import GraphSignature, TensorSignature

FATAL_ONLY = 4  # ONNX Runtime's log level
EXPORT_AGAIN = "export it again: nanocv export onnx --model RUN"


class Runner:
    """A loaded graph.

    Args:
        path: an `.onnx` file with a model card.
        threads: ONNX Runtime's intra-op threads; 0 lets it choose.

    Attributes:
        card: the model card.
        signature: names, types and shapes of the graph's inputs and outputs.

    Raises:
        ModelError: the file is missing, damaged or not ours, or its input is not uint8 [N,S,S,3] with any N, or any H
            and W as well.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        if not path.is_file():
            raise ModelError(f"no graph {path}", "nanocv export onnx writes one")
        if path.stat().st_size == 0:
            raise ModelError(f"{path} is empty", EXPORT_AGAIN)
        onnxruntime.disable_telemetry_events()
        onnxruntime.set_default_logger_severity(FATAL_ONLY)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = FATAL_ONLY
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise ModelError(f"{path} cannot be loaded as an ONNX graph: {first_line(error)}", EXPORT_AGAIN) from error
        self._path = path
        self.card = ModelCard.from_metadata(self._session.get_modelmeta().custom_metadata_map, str(path))
        self.signature = graph_signature(self._session)
        self._input = self._checked_input()
        self._outputs = [output.name for output in self._session.get_outputs()]

    def _checked_input(self) -> str:
        """The name of the graph's one input, if it is what the card promises."""
        inputs = self._session.get_inputs()
        side = self.card.input_size
        found = [(entry.type, list(entry.shape)) for entry in inputs]
        # A dimension that is no number may be any.
        fits = len(found) == 1 and found[0][0] == "tensor(uint8)" and len(found[0][1]) == 4 and all(
            size == wanted or not isinstance(size, int)
            for size, wanted in zip(found[0][1][1:], (side, side, 3), strict=True)
        )  # fmt: skip
        if not fits:
            described = ", ".join(f"{kind} {shape}" for kind, shape in found)
            raise ModelError(
                f"{self._path} takes {described}; its card promises uint8 [N,{side},{side},3]", EXPORT_AGAIN
            )
        batch = found[0][1][0]
        if isinstance(batch, int) and batch != 1:
            raise ModelError(f"{self._path} takes exactly {batch} pictures at a time, not any number", EXPORT_AGAIN)
        self._one_by_one = batch == 1
        name: str = inputs[0].name
        return name

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Answers a batch.

        Args:
            images: uint8 [N,S,S,3] RGB, any N from 1 on; S is the card's `input_size`, or any H and W where the graph
                reads them.

        Returns:
            the graph's outputs by name, one row per picture.

        Raises:
            ModelError: the graph fails on them.
        """
        try:
            if self._one_by_one and len(images) != 1:
                rows = [self._session.run(None, {self._input: image[None]}) for image in images]
                outputs = [np.concatenate(column) for column in zip(*rows, strict=True)]
            else:
                outputs = self._session.run(None, {self._input: images})
        except Exception as error:  # see above
            raise ModelError(
                f"{self._path} failed on {len(images)} pictures: {first_line(error)}", EXPORT_AGAIN
            ) from error
        return dict(zip(self._outputs, outputs, strict=True))


def graph_signature(session: Any) -> GraphSignature:
    """What a loaded `InferenceSession` takes and gives."""

    def told(argument: Any) -> TensorSignature:
        shape = tuple(size if isinstance(size, int) else None for size in argument.shape)
        return TensorSignature(argument.name, argument.type, shape)

    return GraphSignature(tuple(map(told, session.get_inputs())), tuple(map(told, session.get_outputs())))


def first_line(error: Exception) -> str:
    """The first line of a library's error, cut to what fits one of ours."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
