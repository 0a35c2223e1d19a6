"""Runs an exported graph by ONNX Runtime: raw pictures in, named outputs back."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from nanocv_cli.errors import ModelError
from nanocv_cli.inference.card import ModelCard

QUIET = 4  # ONNX Runtime's level for fatal messages only


class Runner:
    """A loaded graph.

    Args:
        path: an `.onnx` file with a model card.
        threads: ONNX Runtime's intra-op threads; 0 lets it choose.

    Attributes:
        card: the model card.

    Raises:
        ModelError: the file is missing, damaged, not ours, or its input is not uint8 [N,S,S,3].
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        if not path.is_file():
            raise ModelError(f"no graph {path}", "nanocv export onnx writes one")
        onnxruntime.disable_telemetry_events()
        onnxruntime.set_default_logger_severity(QUIET)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = QUIET
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no base class
            reason = "it is empty" if path.stat().st_size == 0 else str(error).splitlines()[0][:200]
            raise ModelError(f"{path} cannot be loaded as an ONNX graph: {reason}", "export it again") from error
        self.card = ModelCard.from_metadata(self._session.get_modelmeta().custom_metadata_map, str(path))
        self._check_input(path)
        self._outputs = [output.name for output in self._session.get_outputs()]

    def _check_input(self, path: Path) -> None:
        inputs = self._session.get_inputs()
        side = self.card.input_size
        if len(inputs) != 1 or inputs[0].type != "tensor(uint8)" or list(inputs[0].shape[1:]) != [side, side, 3]:
            found = ", ".join(f"{i.name}: {i.type} {i.shape}" for i in inputs)
            raise ModelError(
                f"{path} takes {found}; its card promises one uint8 [N,{side},{side},3]", "export it again"
            )
        self._input = inputs[0].name

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Answers a batch.

        Args:
            images: uint8 [N,S,S,3] RGB with S the card's `input_size`; any N from 1 on.

        Returns:
            the graph's outputs by name, one row per picture.
        """
        answers = self._session.run(None, {self._input: images})
        return dict(zip(self._outputs, answers, strict=True))
