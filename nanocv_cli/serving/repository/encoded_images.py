"""Entries whose clients send images as files: what is declared, what Triton needs to read them, what is left of that.

The declaration is a `TYPE_STRING` input of a graph that reads uint8 images: which square they become, the card says.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import nanocv_cli
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.signature import GraphSignature, TensorSignature
from nanocv_cli.errors import ModelError
from nanocv_cli.rooms import room
from nanocv_cli.serving.repository.backends import PYTHON_MODEL
from nanocv_cli.serving.repository.python_backend import SHIPPED_MODEL_PY
from nanocv_cli.untrusted import read_regular

BOXES = "nanocv.boxes"  # the parameter of a config that names outputs with boxes
WARMUP_IMAGE = "image"  # in the folder that Triton looks for such files in
WARMUP_FOLDER = "warmup"
WARMUP_SIDE = 16  # pixels
# The functions that inference and training read images by, for a Python that has no nanocv: one archive of this source.
IMAGES_ARCHIVE = "nanocv_images.zip"
SHIPPED = (
    "errors",
    "untrusted",
    *(f"images/{module}" for module in ("__init__", "bounds", "image_file", "pixels", "resize")),
)
LARGEST_OWN = 16 << 20  # bytes: a larger file is none of these
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # so that the same source is the same archive


def with_files(signature: GraphSignature) -> GraphSignature:
    """The signature of a graph that reads images uint8 [N,S,S,3], for clients who send N files."""
    images = signature.inputs[0]
    return replace(signature, inputs=(TensorSignature(images.name, "tensor(string)", images.shape[:1]),))


def box_outputs(card: ModelCard) -> str:
    """The outputs of a model that hold boxes, separated by commas; empty where there are none."""
    return ",".join(room(card.task).boxes)


def warmup_files(warmup: str) -> dict[str, bytes]:
    """The file that `model_warmup` names, by its path in the entry: one image, as a server gets it.

    Args:
        warmup: of `ServeConfig`.
    """
    if warmup == "off":
        return {}
    size = 3 * WARMUP_SIDE**2
    png = _png(Random(0).randbytes(size) if warmup == "random" else bytes(size))
    return {f"{WARMUP_FOLDER}/{WARMUP_IMAGE}": struct.pack("<I", len(png)) + png}


def images_archive() -> bytes:
    """The modules that `model.py` decodes and resizes images by, as Python imports them from an archive."""
    root, buffer = Path(nanocv_cli.__file__).parent, io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{root.name}/__init__.py", LONG_AGO), "")
        for module in SHIPPED:
            name = zipfile.ZipInfo(f"{root.name}/{module}.py", LONG_AGO)
            archive.writestr(name, (root / f"{module}.py").read_bytes())
    return buffer.getvalue()


def left_behind(folder: Path, version: int, there: Sequence[int], wanted: Collection[str]) -> tuple[str, ...]:
    """Files of an entry that nanocv wrote for other settings than those it has now, by path in the entry.

    Args:
        folder: of the entry.
        version: the one that is written now: its `model.py` may be an earlier nanocv's.
        there: all of its versions.
        wanted: files that it shall hold.

    Raises:
        ModelError: one cannot be read.
    """
    shipped = SHIPPED_MODEL_PY.read_bytes()
    warmups = [content for kind in ("random", "zero") for content in warmup_files(kind).values()]
    own: dict[str, Callable[[bytes], bool]] = {
        IMAGES_ARCHIVE: lambda content: True,
        f"{WARMUP_FOLDER}/{WARMUP_IMAGE}": lambda content: content in warmups,
    }
    if (newest := f"{version}/{PYTHON_MODEL}") not in wanted:  # else all versions are served by theirs
        own |= {f"{number}/{PYTHON_MODEL}": lambda content: content == shipped for number in there}
        own[newest] = lambda content: content.startswith(shipped.splitlines()[0])
    found = []
    for name, is_own in own.items():
        path = folder / name
        if name in wanted or not path.is_file() or path.parent.is_symlink():
            continue
        try:
            if path.stat().st_size <= LARGEST_OWN and is_own(read_regular(path, LARGEST_OWN)):
                found.append(name)
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}", "mend its permissions") from error
    return tuple(found)


def _png(pixels: bytes) -> bytes:
    """A square of RGB values as a PNG, the same bytes whatever compresses here."""
    row = 3 * WARMUP_SIDE
    raw = b"".join(b"\0" + pixels[place : place + row] for place in range(0, len(pixels), row))
    lengths = struct.pack("<HH", len(raw), len(raw) ^ 0xFFFF)
    stored = b"\x78\x01\x01" + lengths + raw + struct.pack(">I", zlib.adler32(raw))

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", WARMUP_SIDE, WARMUP_SIDE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", stored) + chunk(b"IEND", b"")
