"""What comes by a connection: heads and bodies of HTTP, JSON, tensors, gRPC's messages, compressed bodies."""

import asyncio
import contextlib
import json
import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
from tritonclient.grpc import model_config_pb2 as config_pb
from tritonclient.grpc import service_pb2 as pb

from nanocv_cli.engine.signature import NUMPY_TYPES, to_bytes
from nanocv_cli.serving.embedded import encoding
from nanocv_cli.serving.embedded.access import Access
from nanocv_cli.serving.embedded.asking import Asked, InferRequest, checked
from nanocv_cli.serving.embedded.background import SmallestFirstExecutor
from nanocv_cli.serving.embedded.budget import Budget
from nanocv_cli.serving.embedded.exchange import REQUEST_ID, TRACE_PARENT
from nanocv_cli.serving.embedded.faults import Fault
from nanocv_cli.serving.embedded.graph_settings import Setting
from nanocv_cli.serving.embedded.grpc.codec import beside_tensors, decoded, fields, parse_request, text_before_tensor
from nanocv_cli.serving.embedded.guard import INFER, Guard
from nanocv_cli.serving.embedded.http import codec
from nanocv_cli.serving.embedded.http.messages import HttpRequest, refused
from nanocv_cli.serving.embedded.http.reader import RequestReader
from nanocv_cli.serving.embedded.http.service import parts_of
from nanocv_cli.serving.embedded.inference import InferOutput
from nanocv_cli.serving.embedded.inflating import inflated
from nanocv_cli.serving.embedded.outlines import Outlines
from nanocv_cli.serving.embedded.plan import datatype
from nanocv_cli.serving.key_file import ROLES, Key

LARGEST = 4096  # bytes of a body, and of what becomes of it inflated
# A value in JSON has two characters at least, one with its comma, and eight bytes at most in memory; a text is kept
# once as it came and once as an object.
MADE_OF_ONE = 128
KINDS = tuple(sorted(NUMPY_TYPES))
ACCESS = Access("127.0.0.1", control="explicit")
GUARD = Guard({"0123456789abcdef": Key("somebody", frozenset(ROLES), None, "0123456789abcdef", bytes(32))})


SORTS = {
    "bytes": config_pb.TYPE_STRING,
    "bools": config_pb.TYPE_BOOL,
    "small": config_pb.TYPE_UINT8,
    "x": config_pb.TYPE_FP32,
}
SETTINGS = {"steps": Setting(np.int64, 1, 50), "guidance": Setting(np.float32, 0, 9)}


def model(*inputs: str) -> Any:
    """As much of a loaded model as requests are read and checked by: inputs of any size, named after their sort."""
    config = config_pb.ModelConfig(name="all", max_batch_size=4)
    for name in inputs or SORTS:
        config.input.add(name=name, data_type=SORTS[name], dims=[-1])
        config.output.add(name=name, data_type=SORTS[name], dims=[-1])
    parts = {"config": config, "inputs": config.input, "outlines": Outlines(), "settings": SETTINGS, "labels": {}}
    return SimpleNamespace(name="all", version=1, **parts)


def http(content: bytes) -> None:
    """A stream is read as the same requests, whole or in pieces of the size that its first byte says."""
    size, stream = max(1, content[0] if content else 1), content[1:]
    whole = _read([stream])
    pieces = _read([stream[place : place + size] for place in range(0, len(stream), size)])
    assert whole == pieces


def http_json(content: bytes) -> None:
    """The body of an inference request, its JSON as long as its first two bytes say; what is right is answered back.

    Their highest bit says that the model takes numbers alone: such requests are known again by their JSON.
    """
    said, body = int.from_bytes(content[:2], "little"), content[2:]
    length, asked = said & 0x7FFF, model("small", "x") if said & 0x8000 else model()
    try:
        length = codec.json_length(body, str(length) if length else None, LARGEST)
        request = codec.parse_request(body, length, asked)
        found = checked(asked, request)
    except Fault:
        return
    _check_arrays(found, len(body))
    asked.outlines.keep(bytes(body[:length]), request, found)
    if known := asked.outlines.find(bytes(body[:length]), len(body) - length):
        _expect_same(known.filled(body, length), found)
    _answer(asked, request, found)


def grpc(content: bytes) -> None:
    """A `ModelInferRequest` as bytes; one for the model `one` has one tensor, and is known by what precedes that."""
    with contextlib.suppress(Fault):
        assert all(0 < start <= end <= len(content) for _, start, end in fields(content))
    try:
        beside = beside_tensors(content)
        assert 0 <= beside <= len(content)
        message = decoded(pb.ModelInferRequest, content)
        asked = model("x") if message.model_name == "one" else model()
        request = parse_request(message, beside)
        found = checked(asked, request)
    except Fault:
        return
    _check_arrays(found, len(content))
    if len(request.inputs) == 1 and not request.request_id and (text := text_before_tensor(content)):
        asked.outlines.keep(text, request, found)
        if known := asked.outlines.find(text, len(content) - len(text)):
            _expect_same(known.filled(content, len(text)), found)


def tensor(content: bytes) -> None:
    """A tensor's bytes, after its type and shape, are the same bytes again, and the same values by JSON."""
    if len(content) < 3:
        return
    kind, rank = KINDS[content[0] % len(KINDS)], content[1] % 4
    sizes = struct.unpack(f"<{rank}i", content[2 : 2 + 4 * rank]) if len(content) >= 2 + 4 * rank else ()
    shape, raw = tuple(abs(size) for size in sizes), content[2 + 4 * len(sizes) :]
    array = encoding.from_bytes(raw, kind, shape)
    if array is None:
        return
    assert array.shape == shape
    assert to_bytes(array) == raw
    assert encoding.byte_size(array) == len(raw)
    try:
        text = encoding.to_text(array)
    except Fault:
        return
    assert len(text) <= encoding.text_size(array) + 2
    again = encoding.from_values(json.loads(text), kind, shape, "x")
    assert to_bytes(again) == raw or (kind == "BOOL" and set(raw) - {0, 1})


def inflate(content: bytes) -> None:
    """A body in gzip or deflate is no longer than it may be, and all its bytes are counted."""
    holding = Budget(1 << 20).holding()
    try:
        found = asyncio.run(inflated(content, LARGEST, holding, SmallestFirstExecutor(), "the body"))
    except Fault:
        return
    assert len(found) <= LARGEST
    assert holding.size >= len(found)


def _read(parts: list[bytes]) -> tuple[list[Any], int]:
    """The requests of a stream, and the status of what ended it."""
    found: list[HttpRequest] = []
    budget = Budget(1 << 20)

    def check(request: HttpRequest) -> None:
        ACCESS.check(request.method, request.headers, lambda: "127.0.0.1")

    reader, status = RequestReader(budget, LARGEST, check, found.append), 0
    try:
        for part in parts:
            rest = part
            while rest and not reader.over:
                rest = reader.parse(rest, lambda: True)
    except Fault as fault:
        status = fault.status.http
    reader.forget()
    told = []
    for request in found:
        assert len(request.body) <= LARGEST
        try:
            path: Any = parts_of(request.target)
        except Fault as fault:
            path = fault.status
        told.append((request.method, path, sorted(request.headers.items()), bytes(request.body)))
        request.holding.release()
        _expect_nothing_given_away(request)
    assert budget.held == 0
    return told, status


def _expect_nothing_given_away(request: HttpRequest) -> None:
    """No header opens a guarded server, and none adds a line to the head of an answer."""
    try:
        GUARD.check(request.headers.get("authorization"), INFER)
    except Fault as fault:
        answer = refused(fault)
    else:
        raise AssertionError("let in without a key")
    request.exchange.begin(request.headers.get(REQUEST_ID), request.headers.get(TRACE_PARENT))
    told = tuple(request.exchange.told)
    lines = answer.head(False, told).split(b"\r\n")
    # Status, length, type, challenge and Connection, and the empty line with what follows it, which is nothing.
    assert len(lines) == 5 + len(told) + 2
    assert lines[-2:] == [b"", b""]


def _check_arrays(asked: Asked, sent: int) -> None:
    """Each tensor is of its type, is the same again from its bytes, and took no more memory than its text deserves."""
    for array in asked.inputs.values():
        kind = encoding.DATATYPES[array.dtype] if array.dtype != object else "BYTES"
        raw = to_bytes(array)
        assert len(raw) <= MADE_OF_ONE * sent
        again = encoding.from_bytes(raw, kind, array.shape)
        assert again is not None
        assert to_bytes(again) == raw


def _answer(asked: Any, request: InferRequest, found: Asked) -> None:
    """The tensors as an answer: a document that JSON's own parser reads, with the bytes behind it."""
    kinds = {entry.name: datatype(entry.data_type) for entry in asked.config.input}
    binary = {wanted.name: wanted.binary for wanted in found.wanted}
    outputs = [InferOutput(name, kinds[name], array, binary.get(name, True)) for name, array in found.inputs.items()]
    try:
        codec.text_bytes(outputs, 1 << 20)
        content, length = codec.render_answer(asked, request.request_id, outputs)
    except Fault:
        return
    document = json.loads(content[:length])
    assert [output["name"] for output in document["outputs"]] == list(found.inputs)
    sizes = [output.get("parameters", {}).get("binary_data_size", 0) for output in document["outputs"]]
    assert sum(sizes) == len(content) - (length or len(content))


def _expect_same(one: Asked, other: Asked) -> None:
    assert (one.rows, one.timeout_ns, one.settings) == (other.rows, other.timeout_ns, other.settings)
    assert list(one.wanted) == list(other.wanted)
    assert list(one.inputs) == list(other.inputs)
    for name, array in one.inputs.items():
        assert array.dtype == other.inputs[name].dtype
        assert np.array_equal(array.view(np.uint8), other.inputs[name].view(np.uint8))
