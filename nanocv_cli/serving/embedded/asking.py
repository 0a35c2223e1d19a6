"""What a request asks of a model: as a client sent it, whatever the protocol, and held against the model.

What is said where a request does not fit its model is what Triton says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nanocv_cli.engine.signature import NUMPY_TYPES
from nanocv_cli.serving.embedded.encoding import Array, Buffer, byte_size, elements, from_bytes, from_values
from nanocv_cli.serving.embedded.faults import Fault, about, shown
from nanocv_cli.serving.embedded.graph_settings import Named, named
from nanocv_cli.serving.embedded.plan import datatype

if TYPE_CHECKING:
    from nanocv_cli.serving.embedded.model import LoadedModel

ONE_SIZE_TOO_MANY = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to each "
    "input shape. If you want to specify the full shape including the batch dim in your input dims config, try setting "
    "max_batch_size to zero. See the model configuration docs for more info on max_batch_size."
)
ORIGINAL_PIXELS = "original_pixels"  # a parameter of requests: boxes in pixels of the images that were sent as files
FOR_BOXES = f"'{ORIGINAL_PIXELS}' is for models that answer boxes for image files"
LARGEST_RANK = 32
LONGEST_ID = 1000  # characters
MOST_NAMES = 16  # in a message
LONGEST_TIMEOUT_US = 10**12  # eleven days
OBJECT_BYTES = 64  # of a string in memory, beside its characters


@dataclass(frozen=True)
class InferInput:
    """An input as a client sent it: either raw bytes, or values of JSON or of gRPC's typed contents.

    Attributes:
        name, datatype, shape: see KServe's protocol.
        raw: its bytes; None where it has values.
        values: nested or flat.
        from_text: they stood in JSON; see `from_values`.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: Buffer | None = None
    values: Any = None
    from_text: bool = True


@dataclass(frozen=True)
class RequestedOutput:
    """An output that a client asked for; `classes` above 0 asks for that many best labels in place of values."""

    name: str
    classes: int = 0
    binary: bool = False


@dataclass(frozen=True)
class InferRequest:
    """An inference request, whatever protocol it came by.

    Attributes:
        request_id: the client's name for it, may be empty.
        inputs: as sent.
        wanted: outputs; none means all.
        timeout_us: longest wait in the queue; 0 is any.
        text_bytes: how long the text is that its values were read from.
        binary: whether outputs that are not named in `wanted` are sent as bytes.
        parameters: of KServe's, by name.
    """

    request_id: str
    inputs: Sequence[InferInput]
    wanted: Sequence[RequestedOutput] = ()
    timeout_us: int = 0
    text_bytes: int = 0
    binary: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def remade(self) -> list[InferInput]:
        """Inputs that are made anew; raw numbers are used where they lie, in the message."""
        return [tensor for tensor in self.inputs if tensor.raw is None or tensor.datatype == "BYTES"]

    @property
    def worked_on(self) -> int:
        """Bytes that have to be gone through to check it."""
        return self.text_bytes + sum(len(tensor.raw) for tensor in self.remade if tensor.raw is not None)


class Asked(NamedTuple):
    """What a request asks, fit to be run.

    Attributes:
        request_id: as in the request.
        inputs: by name, in the config's order, a row per image.
        rows: images in it.
        wanted: outputs, each once.
        timeout_ns: longest wait in the queue; 0 is any.
        made_bytes: what the inputs take beside the message they came in.
        settings: what it names of the model's; see `graph_settings`.
    """

    request_id: str
    inputs: dict[str, Array]
    rows: int
    wanted: Sequence[RequestedOutput]
    timeout_ns: int = 0
    made_bytes: int = 0
    settings: Named = ()


def checked(model: LoadedModel, request: InferRequest) -> Asked:
    """A request held against the model that is asked.

    Raises:
        Fault: it is not one that this model can answer.
    """
    if request.parameters.get(ORIGINAL_PIXELS):
        raise Fault(about(request.request_id, f"{FOR_BOXES}; '{model.name}' takes no files"))
    inputs, rows = _checked_inputs(model, request)
    wanted = _checked_outputs(model, request)
    made = sum(_memory(inputs[tensor.name]) for tensor in request.remade)
    timeout_ns = 1000 * min(request.timeout_us, LONGEST_TIMEOUT_US)
    return Asked(request.request_id, inputs, rows, wanted, timeout_ns, made, named(model.settings, request.parameters))


def _checked_inputs(model: LoadedModel, request: InferRequest) -> tuple[dict[str, Array], int]:
    """The inputs as arrays in the config's order, and how many rows they share."""
    given = named_inputs(model, request)
    arrays = {entry.name: as_array(model, request, given[entry.name], entry) for entry in model.inputs}
    if not model.config.max_batch_size:
        return arrays, 1
    rows = {len(array) for array in arrays.values()}
    if len(rows) > 1:
        raise Fault(about(request.request_id, f"inputs of model '{model.name}' differ in batch size"))
    return arrays, rows.pop()


def named_inputs(model: LoadedModel, request: InferRequest) -> dict[str, InferInput]:
    """The inputs of a request by name.

    Raises:
        Fault: they are not those of the model, each once.
    """
    given: dict[str, InferInput] = {}
    for tensor in request.inputs:
        if tensor.name in given:
            raise Fault(about(request.request_id, f"input '{shown(tensor.name)}' already exists in request"))
        given[tensor.name] = tensor
    missing = [entry.name for entry in model.inputs if entry.name not in given]
    if len(given) != len(model.inputs):
        raise Fault(
            about(
                request.request_id,
                f"expected {len(model.inputs)} inputs but got {len(given)} inputs for model '{model.name}'. "
                f"Got input(s) {_names(sorted(given))}, but missing required input(s) {_names(missing)}. "
                "Please provide all required input(s).",
            )
        )
    if missing:
        unexpected = next(name for name in given if name not in {entry.name for entry in model.inputs})
        raise Fault(f"unexpected inference input '{shown(unexpected)}' for model '{model.name}'")
    return given


def as_array(model: LoadedModel, request: InferRequest, tensor: InferInput, entry: Any) -> Array:
    """An input as an array, if it is what an entry of the config, or of the graph, says.

    Raises:
        Fault: it is not.
    """
    batched, which = model.config.max_batch_size, f"input '{tensor.name}'"
    kind, dims = datatype(entry.data_type), ([-1] if batched else []) + list(entry.dims)
    if tensor.datatype != kind:
        raise Fault(
            about(
                request.request_id,
                f"inference {which} data-type is '{shown(tensor.datatype)}', but model '{model.name}' expects '{kind}'",
            )
        )
    if batched and tensor.shape and tensor.shape[0] > batched:
        raise Fault(about(request.request_id, f"inference request batch-size must be <= {batched} for '{model.name}'"))
    fits = len(tensor.shape) == len(dims) and all(
        size >= 0 and wanted in (-1, size) for wanted, size in zip(dims, tensor.shape, strict=True)
    )
    if not fits:
        raise Fault(
            about(
                request.request_id,
                f"unexpected shape for {which} for model '{model.name}'. Expected {_sizes(dims)}, got "
                f"{_sizes(tensor.shape)}. {ONE_SIZE_TOO_MANY if batched else ''}".rstrip(),
            )
        )
    if batched and tensor.shape[0] == 0:
        raise Fault(about(request.request_id, f"inference request batch-size must be >= 1 for '{model.name}'"))
    if tensor.raw is None:
        return from_values(tensor.values, kind, tensor.shape, tensor.name, tensor.from_text)
    array = from_bytes(tensor.raw, kind, tensor.shape)
    if array is None:
        expected = elements(tensor.shape) * np.dtype(NUMPY_TYPES[kind]).itemsize
        wanted_bytes = "the lengths of its strings" if kind == "BYTES" else str(expected)
        raise Fault(
            about(
                request.request_id,
                f"input byte size mismatch for {which} for model '{model.name}'. Expected {wanted_bytes}, "
                f"got {len(tensor.raw)}",
            )
        )
    return array


def _checked_outputs(model: LoadedModel, request: InferRequest) -> Sequence[RequestedOutput]:
    """What the client asked for, each output once, or all outputs."""
    if not request.wanted:
        return [RequestedOutput(output.name, binary=request.binary) for output in model.config.output]
    names, asked = {output.name for output in model.config.output}, set[str]()
    for output in request.wanted:
        if output.name not in names:
            raise Fault(f"unexpected inference output '{shown(output.name)}' for model '{model.name}'")
        if output.name in asked:
            raise Fault(about(request.request_id, f"output '{output.name}' already exists in request"))
        asked.add(output.name)
    return request.wanted


def _names(names: Sequence[str]) -> str:
    more = ",…" if len(names) > MOST_NAMES else ""
    return "[" + ",".join(f"'{shown(name)}'" for name in names[:MOST_NAMES]) + more + "]"


def _sizes(sizes: Sequence[int]) -> str:
    return "[" + ",".join(map(str, sizes[:LARGEST_RANK])) + "]"


def _memory(array: Array) -> int:
    """Bytes that an input takes beside the message it came in."""
    return array.nbytes + (OBJECT_BYTES * array.size + byte_size(array) if array.dtype == object else 0)
