"""What a model is to its readers, whatever runs it: a card, a signature, and one call."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.config.project import cache_folder
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.reference import find_runnable, is_url
from nanocv_cli.engine.runtimes import BY_DEFAULT, OPENVINO_FILE, OPENVINO_WEIGHTS, RunSettings, open_in_process
from nanocv_cli.engine.signature import GraphSignature
from nanocv_cli.errors import ModelError, RequestError
from nanocv_cli.machine import expect_room
from nanocv_cli.rooms import is_task, room

EXPORT_AGAIN = "export it again: nanocv export onnx --model RUN"
EXAMPLE_TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(int64)": np.int64}


class Engine(ABC):
    """A model that answers: one that reads images (`run`), or one that makes them (`answer`).

    Args:
        origin: what messages call it: a file, or a URL.
        card: the model card.
        signature: names, types and shapes of the graph's inputs and outputs; inputs with a default are left out.
        most_rows: examples that it takes at a time; None: any number. More are answered in turns.
        runtime: what runs it: a name of `runtimes.RUNTIMES`, or `server`.
        device: of the runtime; empty on a server.
    """

    def __init__(
        self,
        origin: str,
        card: ModelCard,
        signature: GraphSignature,
        most_rows: int | None,
        runtime: str,
        device: str = "",
    ) -> None:
        self.origin, self.card, self.signature, self.most_rows = origin, card, signature, most_rows
        self.runtime, self.device = runtime, device

    @property
    def has_settings(self) -> bool:
        """Whether inputs with a default, which the signature leaves out, can be given."""
        return True

    @abstractmethod
    def _run(self, graph_inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The outputs by name for no more than `most_rows` examples."""

    def answer(self, graph_inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The graph's outputs by name for inputs by name, one row per example.

        Raises:
            ModelError: the graph fails on them.
            ServingError: a server does, or answers something else than it promised.
        """
        count = max((len(array) for array in graph_inputs.values() if array.ndim), default=1)
        step = self.most_rows or count
        if count <= step:
            return self._run(graph_inputs)
        parts = [
            self._run({name: array[row : row + step] if array.ndim else array for name, array in graph_inputs.items()})
            for row in range(0, count, step)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Answers a batch of images.

        Args:
            images: uint8 [N,S,S,3] RGB, any N from 1 on; S is the card's `input_size`, or any H and W where the graph
                reads them.

        Returns:
            the graph's outputs by name, one row per image.

        Raises:
            ModelError: the graph reads no images (see `expect_images`), or fails on them.
            ServingError: as `answer`.
        """
        return self.answer({self._images_input: images})

    def expect_images(self) -> None:
        """Makes sure that the graph reads what its card promises: uint8 [N,S,S,3] with any N, or any H and W as well.

        Raises:
            ModelError: it reads something else, as one does that makes images.
        """
        _ = self._images_input

    def expect_promised_inputs(self) -> None:
        """Makes sure that it reads images as its card promises, unless it makes images.

        Raises:
            ModelError: it reads something else.
        """
        if not self._makes_images:
            self.expect_images()

    @property
    def _makes_images(self) -> bool:
        """Whether models of the card's task read no images."""
        return is_task(self.card.task) and room(self.card.task).postprocessor is None

    @cached_property
    def _images_input(self) -> str:
        """The name of the graph's one input, if it is what the card promises."""
        inputs = self.signature.inputs
        side = self.card.input_size
        if self._makes_images:
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
                f"{self.origin} takes {described}; its card promises uint8 [N,{side},{side},3]", EXPORT_AGAIN
            )
        batch = inputs[0].shape[0]
        if batch not in (None, 1):
            raise ModelError(f"{self.origin} takes exactly {batch} images at a time, not any number", EXPORT_AGAIN)
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
                raise ModelError(
                    f"{self.origin}: its input {tensor.name} is {tensor.type} {shapes[tensor.name]}", EXPORT_AGAIN
                )
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


def graph_source(path: Path) -> str | bytes:
    """A graph's file as runtimes take it: its path, or its content where they cannot be told the path.

    Raises:
        ModelError: it is missing, empty, or cannot be read.
    """
    if not path.is_file():
        raise ModelError(f"no graph {path}", "nanocv export onnx writes one")
    if path.stat().st_size == 0:
        raise ModelError(f"{path} is empty", EXPORT_AGAIN)
    try:  # they take text, and a path may be any bytes
        str(path).encode()
    except UnicodeEncodeError:
        return path.read_bytes()
    return str(path)


def graph_files(path: Path) -> tuple[Path, ...]:
    """All files of a graph, the one that a reference names last: OpenVINO keeps the weights in a file beside it."""
    return (path.with_suffix(OPENVINO_WEIGHTS), path) if path.suffix == OPENVINO_FILE else (path,)


def graph_bytes(path: Path) -> int:
    """Bytes of all its files."""
    return sum(file.stat().st_size for file in graph_files(path))


def rows_at_a_time(signature: GraphSignature) -> int | None:
    """Examples that a graph takes at a time; None: any number. torchvision's detectors read one image."""
    first = next(iter(signature.inputs), None)
    return 1 if first is not None and first.shape[:1] == (1,) else None


def open_engine(ref: str | None, root: Path, settings: RunSettings = BY_DEFAULT) -> Engine:
    """Opens what a reference names: a graph in this process, a URL's model on its server.

    Args:
        ref: a name, run folder, file or URL; None: the project's default model.
        root: the project.
        settings: how a graph is run in this process.

    Raises:
        RequestError: there is nothing of that name, no such runtime or device, or a URL that cannot be.
        ModelError: the file is damaged or not ours, the runtime cannot run it, or a server's model carries no card.
        ServingError: the server does not answer, or has no such model.
    """
    if ref is not None and is_url(ref):
        if settings.asks_for_any:
            raise RequestError(
                "--engine, --device, --threads and --precision are for a model in this process; "
                f"{urlsplit(ref).netloc[:100]} has its own",
                "leave them out",
            )
        from nanocv_cli.engine.remote import RemoteModel

        return RemoteModel(ref)
    return open_in_process(find_runnable(ref, root), settings, cache_folder(root))
