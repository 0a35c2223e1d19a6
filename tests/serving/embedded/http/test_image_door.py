"""Images sent as they are: answered as `nanocv infer` does, and no image, whatever it is, costs more than a refusal."""

import asyncio
import gzip
import io
import json
import struct
import sys
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from PIL import Image

from nanocv_cli.config.loader import resolve_serve
from nanocv_cli.serving.embedded.background import SmallestFirstExecutor
from nanocv_cli.serving.embedded.budget import Budget
from nanocv_cli.serving.embedded.faults import Fault
from nanocv_cli.serving.embedded.http.image_door import ImageDoor
from nanocv_cli.serving.embedded.http.messages import HttpRequest
from nanocv_cli.serving.embedded.image_reading import ImageReader
from nanocv_cli.serving.embedded.limits import Limits
from nanocv_cli.serving.launch import Server
from nanocv_cli.serving.repository.entry import write_entry
from tests.conftest import Command, draw_class_image
from tests.engine.graphs import SIDE, colour_card, write_graph
from tests.images.test_resize import encoded, png_that_claims
from tests.serving.embedded.libraries import opened
from tests.serving.embedded.small_server import small_server
from tests.serving.models import entry_config, write_model

pytestmark = pytest.mark.slow(5)

RED = draw_class_image("red", 1)
LIMITS = Limits(message_bytes=4 << 20, text_bytes=1 << 20, image_pixels=1_000_000, image_threads=1)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("graph") / "colours.onnx", colour_card(resize="stretch"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, graph: Path) -> Iterator[Server]:
    """The colour graph, a model without a card, and one that makes images."""
    repository = tmp_path_factory.mktemp("repository")
    write_entry(graph, repository, resolve_serve(None, {"max_batch": 4}, ()))
    write_entry(graph, repository, resolve_serve(None, {"max_batch": 4}, ()), name="painter")
    config = repository / "painter" / "config.pbtxt"
    config.write_text(config.read_text().replace("classification", "generation"))
    write_model(repository, entry_config("doubling", "doubling", backend="onnxruntime"), "doubling")
    with small_server(repository, LIMITS) as running:
        yield running


def ask(server: Server, body: bytes, kind: str = "image/png", place: str = "colours/infer", **headers: str) -> Any:
    """Status and document of an answer."""
    sent = {"Content-Type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    request = urllib.request.Request(f"http://{server.http}/v2/models/{place}", body, sent)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
    ],
)
def test_it_answers_what_infer_prints(
    server: Server, graph: Path, nanocv: Command, monkeypatch: pytest.MonkeyPatch, format: str, options: Any
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # it lies on its side
    content = encoded(draw_class_image("red", 3, 90).crop((0, 0, 90, 60)), format, exif=exif, **options)
    status, document = ask(server, content, f"image/{format.lower()}")
    assert status == 200
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert document == nanocv("infer", "-", "--model", graph, "--json").document


def test_the_format_is_what_the_file_is_and_may_be_compressed(server: Server) -> None:
    content = encoded(draw_class_image("blue", 1))
    status, document = ask(server, content, "IMAGE/JPEG")
    assert (status, document["predictions"][0]["label"]) == (200, "blue")
    assert ask(server, gzip.compress(content), Content_Encoding="gzip") == (200, document)
    assert ask(server, content, place="colours/versions/1/infer") == (200, document)


def test_options(server: Server) -> None:
    content = encoded(draw_class_image("green", 1))
    status, document = ask(server, content, place="colours/infer?top=1&attached=true")
    assert status == 200
    assert [one["label"] for one in document["predictions"]] == ["green"]
    for query in (
        "top=0",
        "top=x",
        "top=100001",
        "top=0000000013",
        "attached=1",
        "unknown=1",
        "top",
        "&".join(["top=1"] * 20),
        "%ff=%ff",
    ):
        assert ask(server, content, place=f"colours/infer?{query}")[0] == 400


def many_scans() -> bytes:
    plain = encoded(Image.new("L", (64, 64), 100), "JPEG", progressive=True)
    last = plain.rindex(b"\xff\xda")
    return plain[:last] + plain[last : last + 10] * 30 + plain[last:]


def many_chunks() -> bytes:
    """A PNG of a hundred thousand chunks before its pixels."""
    plain = encoded(Image.new("L", (8, 8)))
    chunk = struct.pack(">I", 0) + b"prVt" + struct.pack(">I", zlib.crc32(b"prVt"))
    return plain[:33] + chunk * 100_000 + plain[33:]


def with_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    """A red PNG with these chunks before its pixels."""
    plain = encoded(RED)
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return plain[:33] + b"".join(packed) + plain[33:]


def exif_of_many(tags: int, size: int) -> bytes:
    """EXIF whose every tag says that it is the same, whole block."""
    entries = b"".join(struct.pack("<HHLL", tag, 1, size, 14 + 12 * tags) for tag in range(1, tags + 1))
    return b"II*\0" + struct.pack("<LH", 8, tags) + entries + bytes(4 + size)


def frames(format: str, side: int = 40) -> bytes:
    """A red image, and fifty others behind it."""
    others = [Image.new("RGB", (side, side), (0, 0, 5 * shade)) for shade in range(50)]
    return encoded(RED, format, save_all=True, append_images=others)


@pytest.mark.parametrize(
    "content",
    [
        with_chunks((b"eXIf", exif_of_many(5_000, 1 << 20))),
        with_chunks((b"eXIf", b"II*\0" + bytes(1 << 20))),
        with_chunks((b"iCCP", b"icc\0\0" + zlib.compress(bytes(100_000)))),
        with_chunks((b"acTL", struct.pack(">II", 1 << 30, 0))),
        with_chunks(*[(b"tEXt", b"a\0" + bytes(1000))] * 500),
        encoded(RED, "JPEG", icc_profile=bytes(3_500_000), exif=bytes(65_000)),
        encoded(RED, "JPEG") + bytes(1 << 20),
        frames("MPO", 400),
        frames("WEBP"),
        frames("PNG"),
        *(encoded(RED.convert(mode), format) for mode, format in (("CMYK", "JPEG"), ("P", "PNG"), ("RGBA", "WEBP"))),
    ],
)
def test_what_lies_beside_the_pixels_changes_nothing(server: Server, content: bytes) -> None:
    """Profiles, texts, tags, further frames, other channels: the answer is that of the image."""
    status, document = ask(server, content)
    assert status == 200, document
    assert document["predictions"][0]["label"] == "red"


@pytest.mark.parametrize(
    ("mode", "format"), [("I;16", "PNG"), ("L", "JPEG"), ("1", "PNG"), ("LA", "PNG"), ("L", "WEBP"), ("L", "PNG")]
)
def test_images_without_colour_are_answered(server: Server, mode: str, format: str) -> None:
    assert ask(server, encoded(Image.new(mode, (90, 90)), format))[0] == 200


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (with_chunks((b"iCCP", b"icc\0\0" + zlib.compress(bytes(60 << 20)))), 400, "too large"),
        (with_chunks(*[(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20)))] * 70), 400, "text"),
        (png_that_claims(65_000, 65_000), 400, "million pixels"),
        (png_that_claims(1001, 1000), 400, "million pixels"),
        (encoded(Image.new("RGB", (1001, 1000)), "WEBP"), 400, "million pixels"),
        (encoded(Image.new("RGB", (1001, 1000)), "JPEG"), 400, "million pixels"),
        (png_that_claims(900, 900), 400, "cannot be read"),
        (many_scans(), 400, "scans"),
        (many_chunks(), 400, "pieces"),
        (encoded(Image.new("RGB", (40, 40)), "GIF"), 415, "JPEG, PNG or WebP"),
        (encoded(Image.new("RGB", (40, 40)), "TIFF"), 415, "JPEG, PNG or WebP"),
        (encoded(Image.new("RGB", (32, 32)), "ICO"), 415, "JPEG, PNG or WebP"),
        (b"%!PS-Adobe", 415, "JPEG, PNG or WebP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "JPEG, PNG or WebP"),
        (b"", 415, "JPEG, PNG or WebP"),
        (b"\xff\xd8\xff" + bytes(1000), 400, "cannot be read"),
        (encoded(Image.new("RGB", (400, 400)), "JPEG")[:-40], 400, "cannot be read"),
        (b"RIFF\0\0\0\0WEBPVP8X", 400, "cannot be read"),
        (bytes(5 << 20), 413, "larger than"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_image_for_it_is_one_refusal(server: Server, content: bytes, status: int, words: str) -> None:
    found, document = ask(server, content)
    assert (found, list(document)) == (status, ["error"])
    assert words in document["error"]
    assert ask(server, encoded(draw_class_image("red", 1)))[0] == 200


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "application/octet-stream", ""])
def test_an_image_that_is_sent_as_something_else_is_told_how_to_be_sent(server: Server, format: str, kind: str) -> None:
    """What `curl --data-binary @photo.jpg` says where its user names no type, or a wrong one; however large it is."""
    content = encoded(draw_class_image("red", 1), format)
    found = [ask(server, body, kind) for body in (content, content + bytes(LIMITS.text_bytes))]
    assert [status for status, _ in found] == [415, 415]
    assert all(f"Content-Type: image/{format.lower()}" in document["error"] for _, document in found)


def test_models_that_read_no_images_say_so(server: Server) -> None:
    content = encoded(draw_class_image("red", 1))
    assert ask(server, content, place="doubling/infer")[1]["error"].startswith("model 'doubling' carries no nanocv")
    assert "makes images" in ask(server, content, place="painter/infer")[1]["error"]
    assert ask(server, content, place="nothing/infer")[0] == 404


def test_a_page_of_another_site_sends_no_image(server: Server) -> None:
    assert ask(server, encoded(draw_class_image("red", 1)), Origin="http://evil.example")[0] == 403


def test_outputs_count_as_they_are_and_not_as_json(graph: Path, tmp_path: Path) -> None:
    """In room for the image, the square that it becomes and the outputs, there is none for these as a text."""
    write_entry(graph, tmp_path, resolve_serve(None, {"max_batch": 1}, ()), name="colours")
    file = encoded(draw_class_image("red", 2))
    postprocessor = Mock(top=1, **{"postprocess.return_value": [Mock(**{"to_json.return_value": {}})]})

    async def ask_in(room: int) -> int:
        executor, budget = SmallestFirstExecutor(), Budget(len(file) + SIDE * SIDE * 3 + room)
        door = ImageDoor(ImageReader(LIMITS), executor, lambda task: postprocessor)
        async with opened(tmp_path) as library:
            await library.load("colours")
            request = HttpRequest(budget.holding(), target=b"/", body=file)
            request.holding.add(len(file))
            try:
                return (await door.answer(library.find("colours"), file, request)).status
            except Fault as fault:
                return fault.status.http

    outputs = 3 * 4
    assert asyncio.run(ask_in(outputs)) == 200
    assert asyncio.run(ask_in(outputs - 1)) == 503


def test_bombs_beside_honest_clients(server: Server) -> None:
    honest = encoded(draw_class_image("red", 2))
    bombs = [png_that_claims(65_000, 65_000), many_scans(), many_chunks()]
    with ThreadPoolExecutor(8) as pool:
        begun = time.monotonic()
        asked = [(kind, pool.submit(ask, server, kind)) for kind in [*bombs, honest] * 4]
        found = [(kind, future.result()) for kind, future in asked]
    assert time.monotonic() - begun < 60
    labels = [document["predictions"][0]["label"] for kind, (_, document) in found if kind is honest]
    assert labels == ["red"] * 4
