"""KServe v2's inference request and answer over HTTP: JSON, with Triton's binary-tensor extension."""

import json
from typing import Any

from nanocv_cli.serving.datatypes import NUMPY_TYPES
from nanocv_cli.serving.embedded.calls import Call, GivenTensor, NamedArray, WantedOutput
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.model import LoadedModel
from nanocv_cli.serving.embedded.tensors import to_bytes, to_values

HEADER_LENGTH = "inference-header-content-length"
LARGEST_SIZE = 1 << 40


def parse_call(body: bytes, header_length: str | None, model: LoadedModel) -> Call:
    """An inference request from its body.

    Args:
        body: the JSON document, followed by the bytes of binary tensors.
        header_length: the header that says where the JSON ends; None where all of it is JSON.
        model: whom it is for, for the messages.

    Raises:
        Fault: it is not a request.
    """
    length = len(body)
    if header_length is not None:
        try:
            length = int(header_length)
        except ValueError:
            length = -1
        if not 0 < length <= len(body):
            raise Fault(f"inference header size should be in range (0, {len(body)}), got: {header_length}")
    document = _json_object(body[:length])
    if not isinstance(document.get("inputs"), list):
        raise Fault("Unable to parse 'inputs': attempt to access non-existing object member 'inputs'")
    parameters = _object(document, "parameters")
    tail, place, inputs = memoryview(body)[length:], 0, []
    for entry in document["inputs"]:
        tensor, size = _given(entry, tail[place:], model)
        inputs.append(tensor)
        place += size
    if place != len(tail):
        raise Fault(f"unexpected additional input data for model '{model.name}'")
    binary = _flag(parameters, "binary_data_output")
    outputs = document.get("outputs", [])
    if not isinstance(outputs, list):
        raise Fault("Unable to parse 'outputs': expected a list")
    wanted = [_wanted(entry, binary) for entry in outputs]
    if binary and not wanted:
        wanted = [WantedOutput(output.name, binary=True) for output in model.config.output]
    request_id = document.get("id", "")
    if not isinstance(request_id, str):
        raise Fault("Unable to parse 'id': expected a string")
    return Call(request_id, inputs, wanted, _number(parameters, "timeout"))


def render_answer(model: LoadedModel, request_id: str, outputs: list[NamedArray]) -> tuple[bytes, int | None]:
    """An answer's body, and the length of its JSON where binary tensors follow."""
    described, tails = [], []
    for output in outputs:
        document: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.array.shape),
        }
        if output.binary:
            content = to_bytes(output.array)
            document["parameters"] = {"binary_data_size": len(content)}
            tails.append(content)
        else:
            document["data"] = to_values(output.array)
        described.append(document)
    answer: dict[str, Any] = {"id": request_id} if request_id else {}
    answer |= {"model_name": model.name, "model_version": str(model.version), "outputs": described}
    header = json.dumps(answer, separators=(",", ":")).encode()
    return (b"".join([header, *tails]), len(header)) if tails else (header, None)


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object, empty for an empty body.

    Raises:
        Fault: it is none.
    """
    return _json_object(body) if body.strip() else {}


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Fault(f"failed to parse the request JSON buffer: {error}") from error
    if not isinstance(document, dict):
        raise Fault("failed to parse the request JSON buffer: expected an object")
    return document


def _given(entry: Any, tail: memoryview, model: LoadedModel) -> tuple[GivenTensor, int]:
    """One input, and how many bytes of the tail are its."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise Fault("Unable to parse 'inputs': every input needs a 'name'")
    name, kind, shape = entry["name"], entry.get("datatype"), entry.get("shape")
    if kind not in NUMPY_TYPES:
        raise Fault(f"invalid datatype for input {name}")
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < LARGEST_SIZE for size in shape):
        raise Fault(f"Unable to parse 'shape' of input '{name}': expected a list of sizes from 0 on")
    parameters = _object(entry, "parameters")
    if "shared_memory_region" in parameters:
        raise Fault(
            f"input '{name}' lies in shared memory, which this server does not map; send its bytes", Status.UNSUPPORTED
        )
    has_values, size = "data" in entry, _number(parameters, "binary_data_size")
    has_bytes = "binary_data_size" in parameters
    if has_values == has_bytes:
        which = "no field is set" if not has_values else "both are set"
        raise Fault(
            "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
            f"'shared_memory_region' in 'parameters'. But {which}"
        )
    if size > len(tail):
        raise Fault(
            f"unexpected size for input '{name}', expecting {size - len(tail)} additional bytes for model "
            f"'{model.name}'"
        )
    raw = tail[:size] if has_bytes else None
    return GivenTensor(name, kind, tuple(shape), raw, entry.get("data")), size if has_bytes else 0


def _wanted(entry: Any, binary: bool) -> WantedOutput:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise Fault("Unable to parse 'outputs': every output needs a 'name'")
    parameters = _object(entry, "parameters")
    if "shared_memory_region" in parameters:
        raise Fault(
            f"output '{entry['name']}' is to lie in shared memory, which this server does not map", Status.UNSUPPORTED
        )
    own = _flag(parameters, "binary_data") if "binary_data" in parameters else binary
    return WantedOutput(entry["name"], _number(parameters, "classification"), own)


def _object(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key, {})
    if not isinstance(value, dict):
        raise Fault(f"Unable to parse '{key}': expected an object")
    return value


def _number(parameters: dict[str, Any], key: str) -> int:
    value = parameters.get(key, 0)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise Fault(f"Unable to parse parameter '{key}': expected a number from 0 on")
    return value


def _flag(parameters: dict[str, Any], key: str) -> bool:
    value = parameters.get(key, False)
    if not isinstance(value, bool):
        raise Fault(f"Unable to parse parameter '{key}': expected true or false")
    return value
