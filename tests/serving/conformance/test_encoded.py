"""Images sent as files to an entry that takes them: decoded by either engine to what inference reads."""

import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.graph import Graph
from nanocv_cli.images.resize import boxes_in_pixels, open_square
from tests.conftest import draw_class_image
from tests.images.test_resize import encoded
from tests.serving.conformance.clients import PROTOCOLS, Client, refusal
from tests.serving.conformance.conftest import Engine, serving

pytestmark = pytest.mark.slow(7)

SIDE = 16


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of one box whose corners are means of the image's colours."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "mixed"], ["corners"]),
        helper.make_node("Reshape", ["corners", "one_box"], ["boxes"]),
        helper.make_node("ReduceMax", ["boxes", "last"], ["scores"], keepdims=0),
        helper.make_node("Cast", ["scores"], ["labels"], to=TensorProto.INT64),
    ]
    mixed = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 1]], np.float32) / 512
    constants = {"axes": np.array([1, 2]), "mixed": mixed, "one_box": np.array([-1, 1, 4]), "last": np.array([2])}
    made = helper.make_graph(
        nodes,
        "boxes",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ("N", SIDE, SIDE, 3))],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ("N", 1, 4)),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ("N", 1)),
            helper.make_tensor_value_info("labels", TensorProto.INT64, ("N", 1)),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    card = ModelCard("boxes", "detection", ("a",), SIDE, "stretch", "none", {}, "")
    helper.set_model_props(model, card.to_metadata())
    path = tmp_path_factory.mktemp("graph") / "boxes.onnx"
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope="module", params=["embedded", "triton"])
def running(request: pytest.FixtureRequest, graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    repository = tmp_path_factory.mktemp("repository")
    with serving(graph, request.param, repository, encoded=True) as server:
        yield Engine(request.param, server, repository)


@pytest.fixture(params=PROTOCOLS)
def client(request: pytest.FixtureRequest, running: Engine) -> Iterator[Client]:
    client = Client(running.server, request.param)
    yield client
    client.raw.close()


def photographs() -> list[bytes]:
    """A PNG, a WebP, a JPEG on its side, and one so large that a part of its coefficients is decoded."""
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = draw_class_image("green", 4, 90).crop((0, 0, 90, 60))
    large = draw_class_image("red", 2, 90).resize((1500, 900))
    return [
        encoded(draw_class_image("blue", 1)),
        encoded(wide, "WEBP"),
        encoded(wide, "JPEG", exif=exif),
        encoded(large, "JPEG"),
    ]


def rows(files: list[bytes]) -> np.ndarray:
    return np.array([[file] for file in files], np.object_)


def expected(graph: Path, files: list[bytes]) -> tuple[dict[str, np.ndarray], list[tuple[int, int]]]:
    opened = [open_square(file, SIDE, "stretch") for file in files]
    return Graph(graph).run(np.stack([square for square, _ in opened])), [size for _, size in opened]


def test_it_is_declared(client: Client) -> None:
    (images,) = client.json("get_model_metadata", "boxes")["inputs"]
    assert (images["datatype"], list(map(int, images["shape"]))) == ("BYTES", [-1, 1])


def test_files_are_answered_as_the_graph_answers_their_squares(client: Client, graph: Path) -> None:
    files = photographs()
    wanted, sizes = expected(graph, files)
    assert len(set(sizes)) == 4
    result = client.infer("boxes", {"images": rows(files)})
    for name, values in wanted.items():
        np.testing.assert_allclose(result.as_numpy(name), values, rtol=1e-5)
    in_pixels = client.infer("boxes", {"images": rows(files)}, parameters={"original_pixels": True})
    np.testing.assert_allclose(in_pixels.as_numpy("boxes"), boxes_in_pixels(wanted["boxes"], sizes, "stretch"), 1e-5)
    np.testing.assert_array_equal(in_pixels.as_numpy("scores"), result.as_numpy("scores"))


@pytest.mark.parametrize(
    "content", [b"", b"no image", photographs()[3][:3000], encoded(Image.new("RGB", (9, 9)), "GIF")], ids=len
)
def test_what_cannot_be_read_costs_its_own_request_alone(client: Client, graph: Path, content: bytes) -> None:
    good = photographs()[0]
    wanted = expected(graph, [good])[0]["boxes"]

    def ask(file: bytes) -> Any:
        own = Client(client.server, client.protocol)
        try:
            return own.infer("boxes", {"images": rows([file])}).as_numpy("boxes")
        finally:
            own.raw.close()

    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(ask, file) for file in (good, content, good)]
        said = refusal(answers[1].result)
        for answer in answers[::2]:
            np.testing.assert_allclose(answer.result(), wanted, rtol=1e-5)
    assert said.status in ("400", "415", "StatusCode.INVALID_ARGUMENT")
    assert "image" in said.message or "empty" in said.message


def test_the_image_that_cannot_be_read_is_counted_from_one(running: Engine, client: Client) -> None:
    if running.name == "triton":
        pytest.skip("Triton counts none")
    files = rows([photographs()[0], b"no image"])
    assert " image 2 of 2: " in refusal(lambda: client.infer("boxes", {"images": files})).message


@pytest.mark.parametrize("value", [1, "yes", ""])
def test_pixels_are_asked_for_by_true_alone(client: Client, value: Any) -> None:
    files = rows(photographs()[:1])
    said = refusal(lambda: client.infer("boxes", {"images": files}, parameters={"original_pixels": value}))
    assert said.status in ("400", "StatusCode.INVALID_ARGUMENT")
    assert "Unable to parse parameter 'original_pixels': expected true or false" in said.message


def test_more_of_nanocvs_own(running: Engine, graph: Path) -> None:
    """A list of files, as OpenVINO's server takes it; files in a gRPC message's own field; a file as an HTTP body."""
    if running.name == "triton":
        pytest.skip("Triton takes none of these")
    files = photographs()
    wanted, sizes = expected(graph, files)
    for protocol in PROTOCOLS:
        client = Client(running.server, protocol)
        result = client.infer("boxes", {"images": np.array(files, np.object_)})
        np.testing.assert_allclose(result.as_numpy("boxes"), wanted["boxes"], rtol=1e-5)
        client.raw.close()
    with grpc.insecure_channel(running.server.grpc) as channel:
        request = pb.ModelInferRequest(model_name="boxes")
        tensor = request.inputs.add(name="images", datatype="BYTES", shape=[4, 1])
        tensor.contents.bytes_contents.extend(files)
        answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
    np.testing.assert_allclose(np.frombuffer(answer.raw_output_contents[0], np.float32), wanted["boxes"].ravel(), 1e-5)
    posted = urllib.request.Request(
        f"http://{running.server.http}/v2/models/boxes/infer", files[3], {"Content-Type": "image/jpeg"}
    )
    with urllib.request.urlopen(posted, timeout=20) as answered:
        predictions = json.load(answered)["predictions"]
    corners = boxes_in_pixels(wanted["boxes"], sizes, "stretch")[3, 0]
    assert wanted["scores"][3, 0] > 0.3
    np.testing.assert_allclose(predictions[0]["box"], corners, atol=0.01)


def test_shapes_and_types_that_are_not_declared(client: Client) -> None:
    files = rows(photographs()[:1])
    assert "unexpected shape" in refusal(lambda: client.infer("boxes", {"images": files.reshape(1, 1, 1)})).message
    raw = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    assert "data-type" in refusal(lambda: client.infer("boxes", {"images": raw})).message
