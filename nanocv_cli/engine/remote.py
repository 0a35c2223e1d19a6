"""A model that a KServe-v2 server answers for: the same card, signature and call as the graph in this process."""

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nanocv_cli.engine.card import METADATA_KEY, ModelCard
from nanocv_cli.engine.engine import Engine, rows_at_a_time
from nanocv_cli.engine.kserve import ModelClient
from nanocv_cli.engine.model_url import parse_model_url
from nanocv_cli.engine.signature import NUMPY_TYPES, ONNX_TYPES, GraphSignature, TensorSignature
from nanocv_cli.errors import ModelError, ServingError
from nanocv_cli.untrusted import first_line, is_plain

LARGEST_REQUEST = 32 << 20  # bytes of its tensors: half of what nanocv's server takes
LARGEST_ANSWER = 1 << 30  # bytes, where the sizes of outputs vary
HEADER_BYTES = 1 << 20  # of JSON before the tensors
LARGEST_SIZE = (1 << 31) - 1
FILES = "BYTES"  # of an input that takes images as files
MOST_TENSORS, MOST_SIZES, MOST_ROWS = 256, 32, 1 << 20


class RemoteModel(Engine):
    """A served model.

    Args:
        ref: its URL.

    Raises:
        RequestError: it is no URL of a model.
        ModelError: the entry carries no model card.
        ServingError: the server does not answer, has no such model, or describes it in a way that cannot be.
    """

    def __init__(self, ref: str) -> None:
        url = parse_model_url(ref)
        self._client = ModelClient(url)
        config = self._client.config()
        text = _card_text(config)
        if text is None:
            raise ModelError(
                f"{url}: its entry carries no nanocv model card, so its classes and input size are unknown",
                f"nanocv serve config --model REF --name {url.model} writes an entry that does",
            )
        card = ModelCard.from_metadata({METADATA_KEY: text}, str(url))
        try:
            most = config["max_batch_size"]
            if type(most) is not int or not 0 <= most <= MOST_ROWS:
                raise ValueError("max_batch_size is no number of examples")
            self._inputs = _tensors(config["input"], most > 0, card.input_size)
            self._outputs = _tensors(config["output"], most > 0)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ServingError(
                f"{url} is described in a way that cannot be: {first_line(error)}", "is it a KServe-v2 server?"
            ) from error
        signature = GraphSignature(_signature(self._inputs), _signature(self._outputs))
        super().__init__(str(url), card, signature, most or rows_at_a_time(signature), "server")

    @property
    def has_settings(self) -> bool:
        """No: a request of this client has the inputs of the entry's config alone.

        What nanocv's own server lets a request name beside them, others do not know.
        """
        return False

    def _run(self, graph_inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        rows = max((len(array) for array in graph_inputs.values() if array.ndim), default=1)
        size = sum(array.nbytes for array in graph_inputs.values())
        if rows > 1 and size > LARGEST_REQUEST:
            half = rows // 2
            first = self._run({name: array[:half] for name, array in graph_inputs.items()})
            last = self._run({name: array[half:] for name, array in graph_inputs.items()})
            return {name: np.concatenate([first[name], last[name]]) for name in first}
        inputs = {}
        for name, (kind, served, _) in self._inputs.items():
            array = graph_inputs[name]
            if kind == FILES:
                # A file of the very pixels: of a square that has its size already nothing is lost.
                inputs[name] = kind, np.array([_png(image) for image in array], np.object_).reshape(rows, *served[1:])
                continue
            shape = (rows, *(array.shape[1:] if None in served[1:] else served[1:]))
            inputs[name] = (
                kind,
                np.ascontiguousarray(array, np.dtype(NUMPY_TYPES[kind]).newbyteorder("<")).reshape(shape),
            )
        expected = {name: (kind, (rows, *served[1:])) for name, (kind, served, _) in self._outputs.items()}
        found = self._client.infer(inputs, expected, self._largest(expected))
        for name, (_, served, own) in self._outputs.items():
            if own != served:
                found[name] = found[name].reshape([rows, *(-1 if side is None else side for side in own[1:])])
        return found

    def _largest(self, expected: Mapping[str, tuple[str, tuple[int | None, ...]]]) -> int:
        """Bytes that an answer may have: what its outputs take, where their sizes are known."""
        total = HEADER_BYTES
        for kind, shape in expected.values():
            sizes = [size for size in shape if size is not None]
            if len(sizes) < len(shape):
                return LARGEST_ANSWER
            total += math.prod(sizes) * np.dtype(NUMPY_TYPES[kind]).itemsize
        return min(total, LARGEST_ANSWER)


# KServe's type, the shape as it is served, and the graph's own, by name; batch first, None for a size that varies.
Tensors = dict[str, tuple[str, tuple[int | None, ...], tuple[int | None, ...]]]


def _tensors(entries: Any, batched: bool, side: int = 0) -> Tensors:
    """One side of a config.

    Args:
        entries: as the config has them.
        batched: whether each has a batch before its sizes.
        side: of the squares that are sent where images are taken as files, pixels; 0: they are not.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it cannot be.
    """
    if not isinstance(entries, list) or not 1 <= len(entries) <= MOST_TENSORS:
        raise ValueError("it has no tensors, or too many")
    found: Tensors = {}
    for entry in entries:
        name, kind = entry["name"], str(entry["data_type"]).removeprefix("TYPE_")
        if not is_plain(name) or name in found:
            raise ValueError("a tensor has no name of its own")
        if kind == "STRING" and side:
            served = _sizes(entry["dims"], batched)
            if len(entries) > 1 or served not in ((None, 1), (None,)):
                raise ValueError(f"tensor {name} is neither images nor a file for each")
            found[name] = FILES, served, (None, side, side, 3)
            continue
        if kind not in ONNX_TYPES:
            raise ValueError(f"tensor {name} is of no type that can be read")
        served = _sizes(entry["dims"], batched)
        reshape = entry.get("reshape")
        own = _sizes(reshape["shape"], batched) if reshape else served
        if not served or served[0] == 0:
            raise ValueError(f"tensor {name} has no rows")
        found[name] = kind, served, own
    return found


def _sizes(dims: Any, batched: bool) -> tuple[int | None, ...]:
    sizes = [int(size) for size in dims]
    if len(sizes) > MOST_SIZES or not all(size == -1 or 1 <= size <= LARGEST_SIZE for size in sizes):
        raise ValueError("a size is neither -1 nor from 1 on")
    shape = tuple(None if size == -1 else size for size in sizes)
    return (None, *shape) if batched else shape


def _signature(tensors: Tensors) -> tuple[TensorSignature, ...]:
    return tuple(
        TensorSignature(name, ONNX_TYPES["UINT8" if kind == FILES else kind], own)
        for name, (kind, _, own) in tensors.items()
    )


def _png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _card_text(config: dict[str, Any]) -> str | None:
    """The card that travels with an entry; None where there is none."""
    try:
        text = config["parameters"][METADATA_KEY]["string_value"]
    except (KeyError, TypeError):
        return None
    return text if isinstance(text, str) else None
