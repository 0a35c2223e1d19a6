"""How a graph is made ready for OpenVINO: for one batch size at a time, and with its images as they lie in memory.

OpenVINO plans better for shapes that it knows: a detector in int8 takes two thirds of the time. So a graph whose batch
is open is compiled once for each size that it is asked for. It is right, too: OpenVINO 2026.4 computes the pretrained
segmenter in int8 wrongly for an open batch (0.028 of mIoU).
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openvino import opset13 as operators

TO_PLANES = [0, 3, 1, 2]  # [N,H,W,C] to [N,C,H,W]
POINTWISE = {"Convert", "Multiply", "Add", "Subtract", "Divide"}
ANY = 0  # in place of a batch size
MOST_SIZES = 8
# How often a smaller batch is filled up to a size that is there, before it is compiled for: most are the last of many.
FILLED_UP = 2


class GraphBySize:
    """A graph compiled for the batch sizes that are often asked for; many threads may ask.

    A smaller batch than one that it is compiled for is filled up with rows of zeros at first. A graph that has other
    open sizes, or that cannot be compiled for a fixed one, is compiled once, for any.

    Args:
        model: OpenVINO's `Model`.
        compiled: makes a `CompiledModel` of one.
        sizes: batch sizes that will be asked for, to compile for now; None: the first size of its inputs is no batch,
            so that rows of zeros might change what it answers to the others.

    Attributes:
        batched: names of the inputs whose first size is the batch.
        answers: names of the outputs, in order.

    Raises:
        RuntimeError: OpenVINO's own, if it is compiled now.
    """

    def __init__(self, model: Any, compiled: Callable[[Any], Any], sizes: Sequence[int] | None = ()) -> None:
        self._model, self._compile = model, compiled
        shapes = {port.get_any_name(): list(port.partial_shape) for port in model.inputs}
        # Of several names a compiled graph tells any.
        self.answers = [port.get_any_name() for port in model.outputs]
        self.batched = [name for name, shape in shapes.items() if shape and shape[0].is_dynamic]
        self._is_sized = (
            sizes is not None
            and bool(self.batched)
            and all(size.is_static for shape in shapes.values() for size in shape[1:])
        )
        self._compiled: dict[int, Any] = {}
        self._asked: dict[int, int] = {}
        self._compiling = threading.Lock()
        for size in sizes if sizes is not None and self._is_sized else (ANY,):
            self._add(size)

    def compiled_for(self, rows: int) -> tuple[int, Any]:
        """A `CompiledModel` and the size of its batch, which is no smaller; `ANY`: it takes any.

        Raises:
            RuntimeError: OpenVINO's own.
        """
        with self._compiling:
            size = self._size_for(rows) if self._is_sized and rows else ANY
            if size not in self._compiled:
                size = self._add(size)
            return size, self._compiled[size]

    def holds(self, size: int, compiled: Any) -> bool:
        """Whether a `CompiledModel` is still the one for a size, and has not made room for another."""
        return self._compiled.get(size) is compiled

    def _size_for(self, rows: int) -> int:
        if rows in self._compiled:
            return rows
        larger = min((size for size in self._compiled if size > rows), default=ANY)
        self._asked[rows] = self._asked.get(rows, 0) + 1
        is_full = len(self._compiled) >= MOST_SIZES
        if larger != ANY and (self._asked[rows] <= FILLED_UP or is_full):
            return larger
        if is_full:
            del self._compiled[min(self._compiled)]
        return rows

    def _add(self, size: int) -> int:
        """Compiles for a size, or for any if that cannot be."""
        if size != ANY:
            sized = self._model.clone()
            shapes = {port.get_any_name(): list(port.partial_shape) for port in sized.inputs}
            try:
                sized.reshape({name: [size, *shape[1:]] if name in self.batched else shape
                               for name, shape in shapes.items()})  # fmt: skip
                self._compiled[size] = self._compile(sized)
                return size
            except RuntimeError:
                self._is_sized = False
        if ANY not in self._compiled:
            self._compiled[ANY] = self._compile(self._model)
        return ANY


def infer_now(request: Any, graph_inputs: dict[str, NDArray[Any]]) -> None:
    """Runs a request in this thread; see `Requests.answer`."""
    request.infer(graph_inputs, share_inputs=True, share_outputs=True)


class Requests:
    """What runs a graph for one thread at a time: a request for each size that it was compiled for.

    Args:
        graph: perhaps shared with others.
    """

    def __init__(self, graph: GraphBySize) -> None:
        self._graph = graph
        self._requests: dict[int, tuple[Any, Any]] = {}  # with the compiled graph that each is of

    def answer(
        self,
        graph_inputs: Mapping[str, NDArray[Any]],
        run: Callable[[Any, dict[str, NDArray[Any]]], None] = infer_now,
    ) -> dict[str, NDArray[Any]]:
        """The outputs by name, one row per example.

        Args:
            graph_inputs: by name.
            run: runs an `InferRequest` to its end, given its inputs.

        Raises:
            RuntimeError: OpenVINO's own.
        """
        rows = len(graph_inputs[self._graph.batched[0]]) if self._graph.batched else 0
        size, compiled = self._graph.compiled_for(rows)
        # A request keeps the compiled graph alive that it is of.
        self._requests = {one: kept for one, kept in self._requests.items() if self._graph.holds(one, kept[0])}
        if size not in self._requests:
            self._requests[size] = compiled, compiled.create_infer_request()
        request = self._requests[size][1]
        is_filled = size not in (ANY, rows)
        run(
            request,
            {
                name: _filled(array, size) if is_filled and name in self._graph.batched else array
                for name, array in graph_inputs.items()
            },
        )
        # The next run writes where this one did.
        tensors = [request.get_tensor(port).data for port in compiled.outputs]
        answers = dict(zip(self._graph.answers, tensors, strict=True))
        return {name: (values[:rows] if is_filled else values).copy() for name, values in answers.items()}


def _filled(array: NDArray[Any], rows: int) -> NDArray[Any]:
    return np.concatenate([array, np.zeros((rows - len(array), *array.shape[1:]), array.dtype)])


def keep_pixels_together(model: Any) -> None:
    """Moves the transposition of images behind the arithmetic on single values that follows it, in place.

    Convolutions read the channels of a pixel side by side, as an image file has them. A graph that makes planes of them
    first and normalises those has them put together again. With the transposition behind, the two cancel out. It stays
    before what quantises: OpenVINO 2026.4 answers wrongly where zero points are moved. The arithmetic then runs over
    whole rows of values, with factors that repeat every `channels` values: over three at a time it would be slow. Each
    value is the same as before.

    Args:
        model: OpenVINO's `Model`; nothing is done where no input is transposed, or the width of images is open.
    """
    for image in model.inputs:
        shape = image.partial_shape
        (first, *others) = image.get_target_inputs() or [None]
        if others or first is None or len(shape) != 4 or any(size.is_dynamic for size in list(shape)[2:]):
            continue
        transposition = first.get_node()
        if transposition.get_type_name() != "Transpose" or _constant(transposition, 1) != TO_PLANES:
            continue
        steps = _pointwise_after(transposition)
        if steps:
            _move_behind(transposition, steps, width=shape[2].get_length(), channels=shape[3].get_length())
    model.validate_nodes_and_infer_types()


def _constant(node: Any, place: int) -> list[int] | None:
    source = node.input_value(place).get_node()
    return list(source.data.flatten()) if source.get_type_name() == "Constant" else None


def _pointwise_after(node: Any) -> list[Any]:
    """The operations on single values that a node's output goes through, one after the other, and nowhere else."""
    steps: list[Any] = []
    while True:
        readers = list((steps[-1] if steps else node).output(0).get_target_inputs())
        if len(readers) != 1 or readers[0].get_index() != 0:
            return steps
        step = readers[0].get_node()
        operands = [step.input_value(place) for place in range(1, step.get_input_size())]
        if step.get_type_name() not in POINTWISE or not all(map(_is_per_channel, operands)):
            return steps
        steps.append(step)


def _is_per_channel(operand: Any) -> bool:
    """Whether it is a constant [1,C,1,1], or a single value."""
    shape = operand.get_partial_shape()
    if not shape.is_static:
        return False
    sizes = list(shape.to_shape())
    if operand.get_node().get_type_name() != "Constant":
        return not sizes
    return all(size == 1 for size in sizes) or (len(sizes) == 4 and sizes[0] == sizes[2] == sizes[3] == 1)


def _move_behind(transposition: Any, steps: list[Any], width: int, channels: int) -> None:
    rows = operators.reshape(transposition.input_value(0), np.array([0, 0, width * channels], np.int64), True)
    steps[0].input(0).replace_source_output(rows.output(0))
    for step in steps:
        for place in range(1, step.get_input_size()):
            source = step.input_value(place).get_node()
            if source.get_type_name() == "Constant":
                values = source.data.reshape(-1)
                repeated = values[0] if values.size == 1 else np.tile(values, width)[None, None]
                step.input(place).replace_source_output(operators.constant(repeated, source.data.dtype).output(0))
    readers = list(steps[-1].output(0).get_target_inputs())
    pixels = operators.reshape(steps[-1], np.array([0, 0, width, channels], np.int64), True)
    planes = operators.transpose(pixels, np.array(TO_PLANES, np.int64))
    for reader in readers:
        reader.replace_source_output(planes.output(0))
