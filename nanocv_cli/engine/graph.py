"""Runs an exported graph by ONNX Runtime: raw images in, named outputs back."""

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.sessions import CPU, Device, new_session, session_options, stoppable
from nanocv_cli.engine.signature import GraphSignature, TensorSignature
from nanocv_cli.errors import ModelError, RequestError
from nanocv_cli.memory import expect_room
from nanocv_cli.untrusted import first_line

NOISE = "noise"  # the input of a graph that makes images
EXPORT_AGAIN = "export it again: nanocv export onnx --model RUN"


EXAMPLE_TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(int64)": np.int64}


class Graph:
    """A loaded graph: one that reads images (`run`), or one that makes them (`answer`).

    Args:
        path: an `.onnx` file with a model card.
        threads: ONNX Runtime's intra-op threads; 0: it chooses, but no more than this process may use.
        device: where it runs.

    Attributes:
        path: as given.
        card: the model card.
        signature: names, types and shapes of the graph's inputs and outputs; inputs with a default are left out.

    Raises:
        ModelError: the file is missing, damaged or not ours.
        RequestError: the device cannot be used.
    """

    def __init__(self, path: Path, threads: int = 0, device: Device = CPU) -> None:
        if not path.is_file():
            raise ModelError(f"no graph {path}", "nanocv export onnx writes one")
        if path.stat().st_size == 0:
            raise ModelError(f"{path} is empty", EXPORT_AGAIN)
        try:
            source = str(path) if _is_utf8(path) else path.read_bytes()
            self._session = new_session(source, session_options(threads), device)
        except RequestError:
            raise
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise ModelError(f"{path} cannot be loaded as an ONNX graph: {first_line(error)}", EXPORT_AGAIN) from error
        self._run_options = stoppable()
        self.path = path
        try:
            metadata = self._session.get_modelmeta().custom_metadata_map
            self.signature = graph_signature(self._session)
        except UnicodeDecodeError as error:
            raise ModelError(f"{path} holds names that are no UTF-8 text", EXPORT_AGAIN) from error
        self.card = ModelCard.from_metadata(metadata, str(path))
        self._outputs = [output.name for output in self.signature.outputs]
        first = next(iter(self.signature.inputs), None)
        # torchvision's detectors read one image at a time.
        self._one_by_one = first is not None and bool(first.shape) and first.shape[0] == 1

    def answer(self, graph_inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The graph's outputs by name for inputs by name, one row per example.

        Raises:
            ModelError: the graph fails on them.
        """
        count = max((len(array) for array in graph_inputs.values() if array.ndim), default=1)
        if not self._one_by_one or count == 1:
            return self._run(graph_inputs)
        rows = [self._run({name: array[row : row + 1] for name, array in graph_inputs.items()}) for row in range(count)]
        return {name: np.concatenate([row[name] for row in rows]) for name in self._outputs}

    def _run(self, graph_inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            outputs = self._session.run(None, dict(graph_inputs), self._run_options)
        except Exception as error:  # see above
            raise self._failure(graph_inputs, error) from error
        return dict(zip(self._outputs, outputs, strict=True))

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Answers a batch of images.

        Args:
            images: uint8 [N,S,S,3] RGB, any N from 1 on; S is the card's `input_size`, or any H and W where the graph
                reads them.

        Returns:
            the graph's outputs by name, one row per image.

        Raises:
            ModelError: the graph reads no images (see `expect_images`), or fails on them.
        """
        return self.answer({self._images_input: images})

    def expect_images(self) -> None:
        """Makes sure that the graph reads what its card promises: uint8 [N,S,S,3] with any N, or any H and W as well.

        Raises:
            ModelError: it reads something else, as one does that makes images.
        """
        _ = self._images_input

    @cached_property
    def _images_input(self) -> str:
        """The name of the graph's one input, if it is what the card promises."""
        inputs = self.signature.inputs
        side = self.card.input_size
        if NOISE in (tensor.name for tensor in inputs):
            raise ModelError(f"{self.card.name} makes images, it reads none", "nanocv sample --model REF")
        # A dimension that is None may be any.
        fits = (
            len(inputs) == 1
            and inputs[0].type == "tensor(uint8)"
            and len(inputs[0].shape) == 4
            and all(size in (None, wanted) for size, wanted in zip(inputs[0].shape[1:], (side, side, 3), strict=True))
        )
        if not fits:
            described = ", ".join(f"{tensor.type} {list(tensor.shape)}" for tensor in inputs)
            raise ModelError(
                f"{self.path} takes {described}; its card promises uint8 [N,{side},{side},3]", EXPORT_AGAIN
            )
        batch = inputs[0].shape[0]
        if batch not in (None, 1):
            raise ModelError(f"{self.path} takes exactly {batch} images at a time, not any number", EXPORT_AGAIN)
        return inputs[0].name

    def example(self, count: int) -> dict[str, NDArray[Any]]:
        """Random inputs with `count` rows: bytes, normal numbers, class indices; the same at every call.

        Raises:
            ModelError: an input of another type.
            RequestError: so many rows are more than this machine's memory takes.
        """
        shapes = {
            tensor.name: (count, *(self.card.input_size if size is None else size for size in tensor.shape[1:]))
            for tensor in self.signature.inputs
        }
        for tensor in self.signature.inputs:
            if tensor.type not in EXAMPLE_TYPES or min(shapes[tensor.name]) < 1:
                raise ModelError(f"{self.path}: its input {tensor.name} is {tensor.type} {shapes[tensor.name]}",
                                 EXPORT_AGAIN)  # fmt: skip
        sizes = [math.prod(shapes[t.name]) * np.dtype(EXAMPLE_TYPES[t.type]).itemsize for t in self.signature.inputs]
        expect_room(sum(sizes), f"{count:,} images of {self.card.name}", "ask for a smaller batch")
        random = np.random.default_rng(0)
        graph_inputs: dict[str, NDArray[Any]] = {}
        for tensor in self.signature.inputs:
            shape = shapes[tensor.name]
            if tensor.type == "tensor(uint8)":
                graph_inputs[tensor.name] = random.integers(0, 256, shape, np.uint8)
            elif tensor.type == "tensor(float)":
                graph_inputs[tensor.name] = random.standard_normal(shape, np.float32)
            else:
                graph_inputs[tensor.name] = random.integers(0, len(self.card.classes), shape)
        return graph_inputs

    def _failure(self, graph_inputs: Mapping[str, NDArray[Any]], error: Exception) -> ModelError:
        count = max((len(array) for array in graph_inputs.values() if array.ndim), default=0)
        return ModelError(f"{self.path} failed on {count} images: {first_line(error)}", EXPORT_AGAIN)


def graph_signature(session: Any) -> GraphSignature:
    """What a loaded `InferenceSession` takes and gives."""

    def told(argument: Any) -> TensorSignature:
        shape = tuple(size if isinstance(size, int) else None for size in argument.shape)
        return TensorSignature(argument.name, argument.type, shape)

    return GraphSignature(tuple(map(told, session.get_inputs())), tuple(map(told, session.get_outputs())))


def _is_utf8(path: Path) -> bool:
    """Whether ONNX Runtime can be told a path: it takes text, and a path may be any bytes."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
