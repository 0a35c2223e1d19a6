"""gRPC itself: messages that cannot be decoded, or are not worth it, and what a client may hold."""

import asyncio
import contextlib
import ctypes
import gc
import itertools
import platform
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import grpc
import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2 as config_pb
from tritonclient.grpc import service_pb2 as pb

from nanocv_cli.engine.signature import NUMPY_TYPES
from nanocv_cli.serving.embedded.access import Access
from nanocv_cli.serving.embedded.asking import as_array
from nanocv_cli.serving.embedded.background import SmallestFirstExecutor
from nanocv_cli.serving.embedded.budget import Budget
from nanocv_cli.serving.embedded.exchange import Exchange
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.grpc import server as server_module
from nanocv_cli.serving.embedded.grpc.codec import MOST_FIELDS, beside_tensors, parse_request, text_before_tensor
from nanocv_cli.serving.embedded.grpc.contexts import written
from nanocv_cli.serving.embedded.grpc.open_calls import OpenCall, OpenCalls, Phase
from nanocv_cli.serving.embedded.grpc.server import GrpcServer
from nanocv_cli.serving.embedded.grpc.service import GrpcService
from nanocv_cli.serving.embedded.guard import Guard
from nanocv_cli.serving.embedded.image_reading import ImageReader
from nanocv_cli.serving.embedded.limits import Limits
from tests.serving.conformance.clients import Client
from tests.serving.embedded.attackers import Attacker
from tests.serving.embedded.grpc.floods import rapid_reset
from tests.serving.embedded.grpc.raw_http2 import METHOD
from tests.serving.embedded.libraries import opened
from tests.serving.embedded.small_server import SmallServer, small_server
from tests.serving.models import entry_config, write_model

METHODS = [method.name for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods]
RUBBISH = b"\xff\xff\xff\xff"
X = np.array([[1, 2, 3, 4]], np.uint8)
MB = 1 << 20
LIMITS = Limits()
CANCELLED = 1500  # calls


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallServer]:
    repository = tmp_path_factory.mktemp("repository")
    write_model(repository, entry_config("doubling", "doubling", backend="onnxruntime"), "doubling")
    with small_server(repository, Limits()) as running:
        yield running
        assert running.said() == ""


@pytest.fixture
def call(server: SmallServer) -> Iterator[Callable[..., tuple[grpc.StatusCode, str]]]:
    """Asks with the bytes of a message; the status and its words."""
    with grpc.insecure_channel(server.grpc, [("grpc.max_send_message_length", -1)]) as channel:

        def ask(method: str, content: bytes, **options: object) -> tuple[grpc.StatusCode, str]:
            try:
                channel.unary_unary(METHOD + method)(content, timeout=60, **options)
            except grpc.RpcError as error:
                return error.code(), error.details()
            return grpc.StatusCode.OK, ""

        yield ask


@contextlib.asynccontextmanager
async def listening(
    folder: Path, guard: Guard, lines: list[Exchange], budget: Budget, limits: Limits = LIMITS
) -> AsyncIterator[str]:
    """The address of a server in this process; `lines` takes what it tells of its calls."""
    async with opened_server(folder, guard, lines, budget, limits) as (_, address):
        yield address


@contextlib.asynccontextmanager
async def opened_server(
    folder: Path, guard: Guard, lines: list[Exchange], budget: Budget, limits: Limits = LIMITS
) -> AsyncIterator[tuple[GrpcServer, str]]:
    """The same, with the server."""
    write_model(folder, entry_config("doubling", "doubling", backend="onnxruntime"), "doubling")
    async with opened(folder) as library:
        await library.load("doubling")
        access, executor = Access("127.0.0.1"), SmallestFirstExecutor()
        server = GrpcServer(library, access, limits, budget, executor, guard, lines.append, ImageReader(limits))
        yield server, f"127.0.0.1:{await server.listen('127.0.0.1', 0)}"
        await server.close(0)


def request(**fields: object) -> pb.ModelInferRequest:
    asked = pb.ModelInferRequest(model_name="doubling", raw_input_contents=[X.tobytes()], **fields)
    asked.inputs.add(name="x", datatype="UINT8", shape=[1, 4])
    return asked


@pytest.mark.parametrize("method", METHODS)
def test_what_cannot_be_decoded_is_an_invalid_argument(
    server: SmallServer, call: Callable[..., tuple[grpc.StatusCode, str]], method: str
) -> None:
    if method == "ModelStreamInfer":
        with grpc.insecure_channel(server.grpc) as channel:
            stream = channel.stream_stream(METHOD + method)
            answers = [
                pb.ModelStreamInferResponse.FromString(answer)
                for answer in stream(iter([RUBBISH, request().SerializeToString()]))
            ]
        assert "cannot be decoded" in answers[0].error_message
        assert answers[1].infer_response.raw_output_contents[0] == (2.0 * X).astype(np.float32).tobytes()
        return
    status, said = call(method, RUBBISH)
    assert status is grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot be decoded as" in said


def test_methods_that_there_are_not(call: Callable[..., tuple[grpc.StatusCode, str]]) -> None:
    assert call("Nothing", b"")[0] is grpc.StatusCode.UNIMPLEMENTED
    assert call("TraceSetting", b"")[0] is grpc.StatusCode.UNIMPLEMENTED


def part(field: int, content: bytes) -> bytes:
    """A field of bytes."""
    size, length = len(content), b""
    while size >= 128:
        length, size = length + bytes([size % 128 + 128]), size // 128
    return bytes([field << 3 | 2]) + length + bytes([size]) + content


def typed(kind: str, field: str, values: list[object]) -> bytes:
    asked = pb.ModelInferRequest(model_name="doubling")
    tensor = asked.inputs.add(name="x", datatype=kind, shape=[1, 4])
    getattr(tensor.contents, field).extend(values)
    content: bytes = asked.SerializeToString()
    return content


BEYOND = b"\x3a" + b"\x80" * 5 + b"\x20"  # a tensor of a tebibyte, none of which follows
LARGE = {
    "fields": b"\x2a\x00" * (30 * MB),
    "tensors": b"\x3a\x00" * (30 * MB),
    "numbers": typed("UINT8", "uint_contents", [1] * 4_000_000),
    "more numbers": typed("FP32", "fp32_contents", [1.0] * 4_000_000),
    "strings": typed("BYTES", "bytes_contents", [b""] * 1_900_000),
    "parameters": part(1, b"doubling") + part(5, b"\x22\x00" * 1_900_000),
    "shape": part(1, b"doubling") + part(5, part(3, b"\x01" * 3_900_000)),
    "id": request(id="i" * 3_000_000).SerializeToString(),
    "unknown": part(15, bytes(60 * MB)),
    "a tensor that ends behind it": part(1, b"doubling") + part(5, part(5, b"\x42\x00" * 15_000_000)) + BEYOND,
}


def test_messages_that_would_grow_are_refused_and_nobody_waits_long(
    server: SmallServer, call: Callable[..., tuple[grpc.StatusCode, str]]
) -> None:
    process, done = psutil.Process(server.pid), threading.Event()
    call("ModelInfer", LARGE["shape"])
    before, peak = process.memory_info().rss, 0

    def honest() -> None:
        client = Client(server, "grpc")
        while not done.is_set():
            result = client.infer("doubling", {"x": X}, client_timeout=10)
            np.testing.assert_array_equal(result.as_numpy("y"), 2.0 * X)

    thread = threading.Thread(target=honest)
    thread.start()
    try:
        for name, content in LARGE.items():
            status, said = call("ModelInfer", content)
            assert status in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED), name
            assert len(said) <= 1000
            peak = max(peak, process.memory_info().rss)
        status, _ = call("ModelInfer", bytes(60 * MB), compression=grpc.Compression.Gzip)
        assert status is grpc.StatusCode.INVALID_ARGUMENT
        status, _ = call("ModelInfer", bytes(100 * MB), compression=grpc.Compression.Gzip)
        assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
    finally:
        done.set()
        thread.join()
    assert max(peak, process.memory_info().rss) - before < 600 * MB


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages_are_answered(server: SmallServer, compression: grpc.Compression) -> None:
    x = np.tile(X, (4, 1))
    asked = pb.ModelInferRequest(model_name="doubling", id="i" * 500, raw_input_contents=[x.tobytes()])
    asked.inputs.add(name="x", datatype="UINT8", shape=x.shape)
    with grpc.insecure_channel(server.grpc, compression=compression) as channel:
        answer = pb.ModelInferResponse.FromString(channel.unary_unary(METHOD + "ModelInfer")(asked.SerializeToString()))
        asked.inputs[0].shape[1] = 5
        stream = channel.stream_stream(METHOD + "ModelStreamInfer")
        refused = pb.ModelStreamInferResponse.FromString(next(stream(iter([asked.SerializeToString()]))))
    assert answer.raw_output_contents[0] == (2.0 * x).astype(np.float32).tobytes()
    assert refused.error_message
    assert refused.infer_response.id == asked.id


def test_outputs_are_asked_for_once(call: Callable[..., tuple[grpc.StatusCode, str]]) -> None:
    asked = request()
    for _ in range(1000):
        asked.outputs.add(name="y")
    status, said = call("ModelInfer", asked.SerializeToString())
    assert status is grpc.StatusCode.INVALID_ARGUMENT
    assert "already exists in request" in said


@pytest.mark.parametrize(
    "shape",
    [[2**62, 4], [2**63 - 1, 2**63 - 1], [2**32, 2**32], [2**31] * 16, [-1, -4], [-(2**63), 4], [1, -4], [1] * 60],
)
def test_shapes_that_nothing_has(call: Callable[..., tuple[grpc.StatusCode, str]], shape: list[int]) -> None:
    """Their product is beyond 64 bits, or 4 by overflow."""
    for kind, values in (("UINT8", "uint_contents"), ("BYTES", "bytes_contents"), ("UINT8", "")):
        asked = pb.ModelInferRequest(model_name="doubling", raw_input_contents=[] if values else [X.tobytes()])
        tensor = asked.inputs.add(name="x", datatype=kind, shape=shape)
        if values:
            getattr(tensor.contents, values).extend([1] * 4 if kind == "UINT8" else [b""] * 4)
        status, said = call("ModelInfer", asked.SerializeToString())
        assert status is grpc.StatusCode.INVALID_ARGUMENT
        assert said.isprintable()


@pytest.mark.parametrize("name", ["a\0b", "\x1b[31m", "n" * 50_000, "", "\u202e"])
def test_names_that_nothing_has(call: Callable[..., tuple[grpc.StatusCode, str]], name: str) -> None:
    for method, kind in (
        ("ModelInfer", pb.ModelInferRequest),
        ("ModelMetadata", pb.ModelMetadataRequest),
        ("ModelStatistics", pb.ModelStatisticsRequest),
        ("RepositoryModelLoad", pb.RepositoryModelLoadRequest),
    ):
        field = "name" if "name" in kind.DESCRIPTOR.fields_by_name else "model_name"
        status, said = call(method, kind(**{field: name}).SerializeToString())
        if (method, name) != ("ModelStatistics", ""):
            assert status in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
            assert said.isprintable()
            assert len(said) <= 1000


def test_requests_that_differ_in_their_numbers_alone(server: SmallServer) -> None:
    """What their text says is read once, if the numbers are the message's end; they are looked at each time."""
    plain = request().SerializeToString()
    with_id = request(id="1").SerializeToString()
    first = pb.ModelInferRequest(raw_input_contents=[X.tobytes()]).SerializeToString()
    asked = pb.ModelInferRequest(model_name="doubling", inputs=request().inputs).SerializeToString()
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary(METHOD + "ModelInfer")
        for content in (plain, with_id, first + asked):
            for numbers in (X, X + 1, 2 * X, X):
                sent = content.replace(X.tobytes(), numbers.tobytes())
                answer = pb.ModelInferResponse.FromString(infer(sent, timeout=60))
                assert answer.raw_output_contents[0] == (2.0 * numbers).astype(np.float32).tobytes()
                assert answer.id == ("1" if content is with_id else "")
        with pytest.raises(grpc.RpcError, match="byte size mismatch"):
            infer(plain.replace(b"\x04" + X.tobytes(), b"\x03" + X.tobytes()[1:]), timeout=60)


@given(st.binary(max_size=200_000) | st.binary(max_size=300).map(lambda content: content * 500))
def test_bytes_beside_tensors_are_counted_whatever_comes(content: bytes) -> None:
    try:
        beside = beside_tensors(content)
    except Fault:
        return
    assert 0 <= beside <= len(content)


@given(st.lists(st.binary(max_size=40_000), max_size=6), st.integers(0, 30_000))
def test_bytes_beside_tensors(tensors: list[bytes], others: int) -> None:
    asked = pb.ModelInferRequest(model_name="m" * others, raw_input_contents=tensors)
    content = asked.SerializeToString()
    beside = beside_tensors(content)
    assert beside == len(content) or beside == len(content) - sum(map(len, tensors))
    assert beside <= others + 64 * (1 + len(tensors)) or len(content) <= 1 << 16


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=3), st.text(max_size=9), st.binary(max_size=9))
def test_the_text_of_a_request_is_all_but_its_last_tensor(tensors: list[bytes], name: str, tail: bytes) -> None:
    message = pb.ModelInferRequest(model_name=name, id=name, raw_input_contents=tensors).SerializeToString()
    assert text_before_tensor(message) == (message[: -len(tensors[0])] if len(tensors) == 1 else b"")
    text = text_before_tensor(message + tail)
    assert (message + tail).startswith(text)


@pytest.mark.parametrize(("kind", "field"), [("FP32", "fp32_contents"), ("FP64", "fp64_contents")])
def test_what_is_no_finite_number_may_be_sent_as_a_value(kind: str, field: str) -> None:
    values = [np.inf, -np.inf, np.nan, 1.0]
    asked = parse_request(pb.ModelInferRequest.FromString(typed(kind, field, values)), beside=0)
    config = config_pb.ModelConfig(max_batch_size=4)
    entry = config.input.add(name="x", data_type=config_pb.DataType.Value(f"TYPE_{kind}"), dims=[4])
    array = as_array(SimpleNamespace(name="any", config=config), asked, asked.inputs[0], entry)
    np.testing.assert_array_equal(array, np.array([values], NUMPY_TYPES[kind]))


def test_too_many_fields() -> None:
    with pytest.raises(Fault, match="fields"):
        beside_tensors(b"\x2a\x00" * (MOST_FIELDS * 20))
    assert text_before_tensor(b"\x2a\x00" * (MOST_FIELDS + 1)) == b""


def test_a_value_that_ends_behind_the_message_is_no_tensor() -> None:
    """It would be taken off the bytes beside tensors, and many of those would be decoded in the event loop."""
    other = part(15, bytes(100_000))
    for cut in (BEYOND, b"\x3a\x02\x00", b"\x39" + bytes(7), b"\x3d" + bytes(3)):
        with pytest.raises(Fault, match="cannot be decoded"):
            beside_tensors(other + cut)
        assert text_before_tensor(cut) == b""


def test_numbers_under_a_tensors_field_are_beside_tensors() -> None:
    numbers = (b"\x38\x01" + b"\x39" + bytes(8) + b"\x3d" + bytes(4)) * 100
    content = numbers + part(7, bytes(100_000))
    assert beside_tensors(content) == len(content) - 100_000


def test_a_long_text_is_not_kept() -> None:
    """Whoever sends many of them would fill the memory."""
    long = pb.ModelInferRequest(model_name="m" * 100_000, raw_input_contents=[b"1"]).SerializeToString()
    assert text_before_tensor(long) == b""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[OpenCall]:
    """All calls that a server in this process has taken in."""
    found, enter = list[OpenCall](), OpenCalls.enter

    def entered(*arguments: Any) -> OpenCall:
        found.append(enter(*arguments))
        return found[-1]

    monkeypatch.setattr(OpenCalls, "enter", entered)
    return found


def test_a_call_that_is_ended_before_its_message_came_is_not_logged(
    tmp_path: Path, calls: list[OpenCall], caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> grpc.StatusCode:
        async with (
            listening(tmp_path, Guard(), [], Budget(Limits().flight_bytes)) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            asking = channel.stream_unary(METHOD + "ModelInfer")()
            while not calls:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.01)  # it begins to read
            calls[0].lose(Fault("its client is slow", Status.UNAVAILABLE))
            return await asking.code()

    assert asyncio.run(asyncio.wait_for(run(), 20)) is grpc.StatusCode.UNAVAILABLE
    gc.collect()
    assert caplog.messages == []


def test_a_stream_that_is_cancelled_between_messages_has_no_line_of_its_own(
    tmp_path: Path, calls: list[OpenCall]
) -> None:
    """Nothing of it is unanswered. Mostly gRPC says that nothing follows; where it cancels the call it is the same."""
    lines = list[Exchange]()

    async def run() -> None:
        budget = Budget(Limits().flight_bytes)
        async with (
            listening(tmp_path, Guard(), lines, budget) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            stream = channel.stream_stream(METHOD + "ModelStreamInfer")()
            await stream.write(request().SerializeToString())
            await stream.read()
            (call,) = calls
            while call.phase is not Phase.BETWEEN:
                await asyncio.sleep(0)
            call.task.cancel()
            await asyncio.wait([call.task])
        assert budget.held == 0

    asyncio.run(asyncio.wait_for(run(), 20))
    assert [line.status for line in lines] == ["OK"]


def test_a_message_that_grpc_refuses_as_too_large_is_logged_as_cancelled_with_its_client(tmp_path: Path) -> None:
    """It does not say why it ends such a call, and tells of it in one of two ways; so each is sent some times."""
    lines, times = list[Exchange](), 10

    async def run() -> None:
        limits = Limits(message_bytes=MB)
        async with (
            listening(tmp_path, Guard(), lines, Budget(limits.flight_bytes), limits) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            for number in range(times):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await channel.unary_unary(METHOD + "ModelInfer")(bytes(2 * MB))
                assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                while len(lines) == number:
                    await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(run(), 20))
    assert {line.status for line in lines} == {"CANCELLED"}
    assert all(line.client.startswith("127.0.0.1:") for line in lines)


def test_a_server_that_closes_refuses_new_calls_and_answers_those_it_works_on(
    tmp_path: Path, calls: list[OpenCall], monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC itself would cancel a call on a connection that is there, if it has not told us of it yet."""
    monkeypatch.setattr(server_module, "LAST_CALLS_SECONDS", 0.3)
    monkeypatch.setattr(server_module, "ANSWERS_SECONDS", 20)
    infer = GrpcService.infer

    async def run() -> list[tuple[grpc.StatusCode, str]]:
        closing = asyncio.Event()

        async def worked_on(*arguments: Any) -> Any:
            await closing.wait()
            return await infer(*arguments)

        monkeypatch.setattr(GrpcService, "infer", worked_on)
        async with (
            opened_server(tmp_path, Guard(), [], Budget(Limits().flight_bytes)) as (server, address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            ask = partial(channel.unary_unary(METHOD + "ModelInfer"), request().SerializeToString())
            first = ask()
            while not calls or calls[0].phase is not Phase.WORKING:
                await asyncio.sleep(0.01)
            ending = asyncio.create_task(server.close(20))
            await asyncio.sleep(0.4)
            second = ask()
            found = [(await second.code(), await second.details())]
            closing.set()
            found.append((await first.code(), await first.details()))
            third = ask()  # of the client that was answered last
            found.append((await third.code(), await third.details()))
            await ending
        return found

    refused = (grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
    assert asyncio.run(asyncio.wait_for(run(), 20)) == [refused, (grpc.StatusCode.OK, ""), refused]


class Mallinfo2(ctypes.Structure):
    """glibc's `mallinfo2`; `uordblks` are the bytes that are in use."""

    _fields_: ClassVar[list[tuple[str, type]]] = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


@pytest.mark.slow(10)
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc does not tell what is in use")
@pytest.mark.parametrize("guard", [Guard(), Guard({})], ids=["let in", "refused"])
def test_calls_that_are_cancelled_leave_no_memory(tmp_path: Path, guard: Guard) -> None:
    """grpcio never frees what is given up, or begun in vain: a quarter of a kilobyte of each."""
    lines = list[Exchange]()
    malloc_state = ctypes.CDLL(None).mallinfo2
    malloc_state.restype = Mallinfo2

    async def cancelled(address: str, number: int) -> int:
        """Has so many more calls cancelled; the bytes that are in use then."""
        lines.clear()
        attacker = Attacker(address, rapid_reset)
        while len(lines) < number:
            attacker.step()
            if attacker.is_closed:
                attacker.connect()
            await asyncio.sleep(0.002)
        attacker.close()
        await asyncio.sleep(0.2)
        lines.clear()
        gc.collect()
        return int(malloc_state().uordblks)

    async def run() -> float:
        async with listening(tmp_path, guard, lines, Budget(Limits().flight_bytes)) as address:
            states = [await cancelled(address, CANCELLED) for _ in range(4)]
            # What else this process allocates once is not in each of them.
            return min(after - before for before, after in itertools.pairwise(states)) / CANCELLED

    assert asyncio.run(asyncio.wait_for(run(), 60)) < 60


@pytest.mark.parametrize(("fails", "ends"), [(grpc.aio.InternalError, asyncio.CancelledError), (OSError, OSError)])
def test_a_stream_whose_client_goes_while_it_is_answered_is_cancelled(
    fails: type[Exception], ends: type[BaseException]
) -> None:
    class Gone:
        async def write(self, answer: bytes) -> None:
            raise fails("it cannot be sent")

    with pytest.raises(ends):
        asyncio.run(written(Gone(), b"answer"))
