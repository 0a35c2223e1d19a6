"""Real images in the requests of a load test: as files, or as the squares that their model reads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from nanocv_cli.bench.image_payload import image_payloads
from nanocv_cli.bench.payload import as_grpc, as_http
from nanocv_cli.errors import DataError, RequestError
from nanocv_cli.images.resize import open_square
from tests.conftest import draw_class_image
from tests.engine.graphs import SIDE, colour_card

CARD = {"parameters": {key: {"string_value": text} for key, text in colour_card().to_metadata().items()}}


def described(datatype: str, *shape: int) -> dict[str, Any]:
    """A model's description with one input."""
    return {
        "inputs": [{"name": "images", "datatype": datatype, "shape": shape}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}],
    }


FILES, SQUARES = described("BYTES", -1, 1), described("UINT8", -1, SIDE, SIDE, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("red", "green", "blue"):
        draw_class_image(name, 1).save(tmp_path / f"{name}.jpg")
    draw_class_image("red", 2).save(tmp_path / "red.bmp")
    return tmp_path


def test_files_are_sent_as_they_are_each_in_its_turn(folder: Path) -> None:
    paths = sorted(folder.glob("*.jpg"))
    payloads = image_payloads(FILES, CARD, "colours", 2, folder, True)
    assert [payload.rows for payload in payloads] == [2, 2, 2]
    for place, payload in enumerate(payloads):
        kind, array = payload.inputs["images"]
        sent = [paths[place].read_bytes(), paths[(place + 1) % 3].read_bytes()]
        assert (kind, array.tolist()) == ("BYTES", [[content] for content in sent])
        request = pb.ModelInferRequest.FromString(as_grpc(payload))
        framed = b"".join(len(content).to_bytes(4, "little") + content for content in sent)
        assert list(request.raw_input_contents) == [framed]
        assert as_http(payload, "localhost").endswith(framed)


def test_squares_are_those_of_inference(folder: Path) -> None:
    payloads = image_payloads(SQUARES, CARD, "colours", 1, folder, True)
    assert len(payloads) == 4
    for path, payload in zip(sorted(folder.iterdir()), payloads, strict=True):
        np.testing.assert_array_equal(payload.inputs["images"][1], open_square(path, SIDE, "crop")[0][np.newaxis])


@pytest.mark.parametrize(
    ("metadata", "batched", "rows", "shape"),
    [
        (described("BYTES", -1), False, 1, (1,)),
        (described("BYTES", -1), True, 4, (4,)),
        (described("BYTES", -1, 1), True, 4, (4, 1)),
        (described("UINT8", SIDE, SIDE, 3), False, 1, (SIDE, SIDE, 3)),
        (SQUARES, False, 1, (1, SIDE, SIDE, 3)),
    ],
)
def test_a_request_holds_as_many_images_as_it_counts(
    folder: Path, metadata: Any, batched: bool, rows: int, shape: tuple[int, ...]
) -> None:
    payloads = image_payloads(metadata, CARD, "colours", 4, folder, batched)
    assert len(payloads) == len(list(folder.glob("*" if metadata["inputs"][0]["datatype"] == "UINT8" else "*.jpg")))
    assert {(payload.rows, payload.inputs["images"][1].shape) for payload in payloads} == {(rows, shape)}
    if rows > 1:
        first, second = (payload.inputs["images"][1].ravel() for payload in payloads[:2])
        assert list(first[1:]) == list(second[:-1])  # each with those after it


@pytest.mark.parametrize(
    ("metadata", "config", "words"),
    [
        (described("FP32", -1, 4), CARD, "takes no images"),
        (described("BYTES", -1, 1, 1), CARD, "takes no images"),
        (described("UINT8", -1, SIDE, 3), CARD, "takes no images"),
        (described("UINT8", -1, 4), CARD, "takes no images"),
        (SQUARES, None, "no model card"),
        (SQUARES, {"parameters": {}}, "no model card"),
    ],
)
def test_models_that_take_no_images(folder: Path, metadata: Any, config: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        image_payloads(metadata, config, "colours", 1, folder, True)


def test_folders_that_hold_none(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="holds no images"):
        image_payloads(FILES, CARD, "colours", 1, tmp_path, True)
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match=r"cut\.jpg cannot be read"):
        image_payloads(SQUARES, CARD, "colours", 1, tmp_path, True)
