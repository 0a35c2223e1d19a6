"""What a load test sends: one request, made once from the model's own description of its tensors."""

import math
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.engine.identity import authorization
from nanocv_cli.engine.kserve import infer_request
from nanocv_cli.engine.signature import NUMPY_TYPES, to_bytes
from nanocv_cli.errors import RequestError
from nanocv_cli.machine import expect_room

FILLINGS = ("random", "zeros")
INDICES = ("INT32", "INT64")


@dataclass(frozen=True)
class Payload:
    """The tensors of one request and the names of the outputs it asks for."""

    model: str
    inputs: dict[str, tuple[str, NDArray[Any]]]
    outputs: tuple[str, ...]
    rows: int


def build_payload(
    metadata: dict[str, Any], model: str, rows: int, filling: str, shapes: dict[str, tuple[int, ...]], batched: bool
) -> Payload:
    """Fills the model's inputs.

    Args:
        metadata: KServe's description of the model.
        model: its name.
        rows: images per request.
        filling: random (seeded; small integers over 7 or 8 bits, floats in 0..1) or zeros. Large integers are
            indices, of classes say: always 0, which is one.
        shapes: sizes without the batch, for inputs with sizes that vary.
        batched: whether the first dimension of every input is the batch's.

    Raises:
        RequestError: a size is missing or does not fit, or a type that cannot be filled.
    """
    inputs = {}
    random = np.random.default_rng(0)
    unknown = sorted(set(shapes) - {tensor["name"] for tensor in metadata["inputs"]})
    if unknown:
        names = ", ".join(tensor["name"] for tensor in metadata["inputs"])
        raise RequestError(f"--shape names {unknown[0]!r}, which is no input of {model}", f"its inputs: {names}")
    for tensor in metadata["inputs"]:
        name, kind = tensor["name"], tensor["datatype"]
        if kind not in NUMPY_TYPES or kind == "BYTES":
            raise RequestError(
                f"input {name!r} of {model} is {kind}, which cannot be filled", "--input FOLDER sends images"
            )
        sizes = [int(size) for size in tensor["shape"]][1 if batched else 0 :]
        shape = _with_shape(name, sizes, shapes.get(name))
        full = (rows, *shape) if batched else shape
        dtype = np.dtype(NUMPY_TYPES[kind])
        expect_room(math.prod(full) * dtype.itemsize, f"{rows} rows of input {name!r}", "a smaller --request-batch")
        if filling == "zeros" or kind in INDICES:
            array = np.zeros(full, dtype)
        else:
            array = random.random(full).astype(dtype) if dtype.kind == "f" else random.integers(
                0, 2 if dtype.kind == "b" else 128 if dtype.kind == "i" else 256, full
            ).astype(dtype)  # fmt: skip
        inputs[name] = (kind, array)
    return Payload(model, inputs, tuple(tensor["name"] for tensor in metadata["outputs"]), rows if batched else 1)


def as_http(payload: Payload, host: str) -> bytes:
    """The whole HTTP/1.1 request, headers and all, with binary tensors."""
    length, body = infer_request(payload.inputs, payload.outputs)
    head = (
        f"POST /v2/models/{quote(payload.model, safe='')}/infer HTTP/1.1\r\n"
        f"Host: {host}\r\nContent-Type: application/octet-stream\r\n"
        f"Inference-Header-Content-Length: {length}\r\nContent-Length: {len(body)}\r\n"
        + "".join(f"{name}: {value}\r\n" for name, value in authorization().items())
        + "\r\n"
    )
    return head.encode() + body


def as_grpc(payload: Payload) -> bytes:
    """The serialised `ModelInferRequest`."""
    from tritonclient.grpc import service_pb2 as pb

    request = pb.ModelInferRequest(model_name=payload.model)
    for name, (kind, array) in payload.inputs.items():
        request.inputs.add(name=name, datatype=kind, shape=array.shape)
        request.raw_input_contents.append(to_bytes(array))
    for name in payload.outputs:
        request.outputs.add(name=name)
    content: bytes = request.SerializeToString()
    return content


def _with_shape(name: str, sizes: list[int], given: tuple[int, ...] | None) -> tuple[int, ...]:
    described = ",".join(map(str, sizes))
    if given is None:
        if any(size < 0 for size in sizes):
            raise RequestError(f"input {name!r} has sizes that vary: [{described}]", f"give them: --shape {name}:...")
        return tuple(sizes)
    fits = len(given) == len(sizes) and all(want in (-1, size) for want, size in zip(sizes, given, strict=True))
    if not fits or math.prod(given) < 1:
        raise RequestError(f"--shape {name}:{','.join(map(str, given))} does not fit [{described}]", "mend the sizes")
    return given
