"""What is sent compressed: it is told from what is not, comes out whole, and is counted while it does."""

import asyncio
import gzip
import zlib
from collections.abc import Callable

import pytest
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from nanocv_cli.serving.embedded.background import SmallestFirstExecutor
from nanocv_cli.serving.embedded.budget import Budget, Holding
from nanocv_cli.serving.embedded.faults import Fault
from nanocv_cli.serving.embedded.inflating import inflated, is_deflated

MB = 1 << 20
METHODS = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods


def inflate(sent: bytes, limit: int, holding: Holding) -> bytearray:
    return asyncio.run(inflated(sent, limit, holding, SmallestFirstExecutor(), "it"))


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
@pytest.mark.parametrize("size", [0, 1, 5 * MB])
def test_it_comes_out_whole_and_counted(compress: Callable[[bytes], bytes], size: int) -> None:
    content, budget = bytes(size), Budget(8 * MB)
    sent, holding = compress(content), budget.holding()
    assert is_deflated(sent)
    assert inflate(sent, size, holding) == content
    assert budget.held == size


@pytest.mark.parametrize(
    ("sent", "limit", "words"),
    [
        (gzip.compress(bytes(5 * MB)), 5 * MB - 1, "larger than"),
        (gzip.compress(bytes(9 * MB)), 64 * MB, "requests in flight"),
        (gzip.compress(bytes(5 * MB))[:-1], 8 * MB, "ends too early"),
        (gzip.compress(b"a") + b"b", 8 * MB, "something follows"),
        (b"\x1f\x8brubbish", 8 * MB, "damaged"),
    ],
    ids=["long", "longer than there is room", "cut", "followed", "damaged"],  # a gzip file holds the time it was made
)
def test_what_is_refused_took_no_more_than_there_is(sent: bytes, limit: int, words: str) -> None:
    budget = Budget(8 * MB)
    with pytest.raises(Fault, match=words):
        inflate(sent, limit, budget.holding())
    assert budget.held <= budget.limit


def test_no_request_begins_like_one_that_was_compressed() -> None:
    """Whatever its fields: the first byte of a message names one of them."""
    for method in METHODS:
        for field in GetMessageClass(method.input_type).DESCRIPTOR.fields:
            for kind in range(6):
                assert not any(is_deflated(bytes([field.number << 3 | kind, second])) for second in range(256))


@given(st.binary(max_size=40))
def test_what_gzip_and_zlib_write_is_told(content: bytes) -> None:
    for level in range(1, 10):
        assert is_deflated(gzip.compress(content, level))
        assert is_deflated(zlib.compress(content, level))
