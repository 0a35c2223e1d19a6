"""What lies in files: configs of entries, model cards, labels, keys, images."""

import contextlib
import io
import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.formats import coco, pascal_voc, yolo
from nanocv_cli.engine.card import METADATA_KEY, ModelCard
from nanocv_cli.errors import NanocvError
from nanocv_cli.images.bounds import FROM_STRANGERS, Bounds
from nanocv_cli.images.resize import open_square
from nanocv_cli.serving.embedded.entry_files import check_names
from nanocv_cli.serving.embedded.image_reading import BEGINNING
from nanocv_cli.serving.embedded.limits import DEFAULT_LIMITS
from nanocv_cli.serving.embedded.supported import check_copies, check_numbers, refuse_unsupported
from nanocv_cli.serving.key_file import read_keys
from nanocv_cli.serving.repository.pbtxt import config_differences, parse_config, to_text

SIDE = 32
BOUNDS = Bounds(FROM_STRANGERS.formats, pixels=250_000, memory=4 << 20, scans=20)
# What reads a set, and the file of it that is tried, beside an image that is `a.png`.
LABELS = (
    (yolo.read_yolo, "labels/train/a.txt"),
    (yolo.read_yolo, "data.yaml"),
    (coco.read_coco, "annotations/train.json"),
    (pascal_voc.read_pascal_voc, "Annotations/a.xml"),
)

SHARED_MEMORY = Path("/dev/shm")  # where there is one, files are written ten times as fast


def pbtxt(content: bytes) -> None:
    """A `config.pbtxt` is the same config again from its own text, and what is not supported is refused."""
    try:
        config = parse_config(content, "config.pbtxt")
    except NanocvError as error:
        expect_one_line(error)
        return
    again = parse_config(to_text(config).encode(), "config.pbtxt")
    assert again.SerializeToString(deterministic=True) == config.SerializeToString(deterministic=True)
    assert config_differences(again, config) == []
    config.name = "entry"  # any other name than its folder's is refused before
    try:
        refuse_unsupported(config)
        check_numbers(config, DEFAULT_LIMITS)
        check_copies(config, 1, DEFAULT_LIMITS)
        check_names(config)
    except NanocvError as error:
        expect_one_line(error)


def card(content: bytes) -> None:
    """A model card is the same card again from its own metadata."""
    try:
        found = ModelCard.from_metadata({METADATA_KEY: content.decode("utf-8", "surrogateescape")}, "model.onnx")
    except NanocvError as error:
        expect_one_line(error)
        return
    assert ModelCard.from_metadata(json.loads(json.dumps(found.to_metadata())), "model.onnx") == found


def keys(content: bytes) -> None:
    """A key file; what stands in a line that is wrong is not told, it may be a key."""
    with _folder() as folder:
        path = folder / "keys.txt"
        path.write_bytes(content)
        path.chmod(0o600)
        try:
            found = read_keys(path)
        except NanocvError as error:
            expect_one_line(error)
            return
        path.write_text("".join(key.line() for key in found.values()), encoding="utf-8")
        assert read_keys(path) == found


def image(content: bytes) -> None:
    """An image's file becomes the square that a model reads, within bounds."""
    if not BEGINNING.match(content):
        return
    try:
        square, (width, height) = open_square(content, SIDE, "stretch", BOUNDS)
    except NanocvError as error:
        expect_one_line(error)
        return
    assert square.shape == (SIDE, SIDE, 3)
    assert square.dtype.name == "uint8"
    assert 0 < width * height <= BOUNDS.pixels


def labels(content: bytes) -> None:
    """A file of labels, in the format that its first byte says, gives boxes of classes that there are."""
    read, path = LABELS[content[0] % len(LABELS) if content else 0]
    files = {"labels/train/a.txt": b"", "data.yaml": b"names: [cat, dog]"} if read is yolo.read_yolo else {}
    images = "JPEGImages" if read is pascal_voc.read_pascal_voc else "images/train"
    with _folder() as root:
        for name, text in {f"{images}/a.png": PIXELS, **files, path: content[1:]}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(text)
        try:
            found = read(DataConfig(name="fuzz", path=str(root), split_by="name"), root)
        except NanocvError as error:
            expect_one_line(error)
            return
    for sample in (sample for samples in found.splits.values() for sample in samples):
        assert all(0 <= label < len(found.classes) for label in sample.label.labels)
        assert all(math.isfinite(corner) for corners in sample.label.corners for corner in corners)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """An empty folder that vanishes."""
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None) as folder:
        yield Path(folder)


def _png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 6)).save(file, "PNG")
    return file.getvalue()


PIXELS = _png()


def expect_one_line(error: NanocvError) -> None:
    """What people read of it is short, and no byte of it acts on a terminal."""
    assert error.message.isprintable()
    assert len(error.message) < 4000
