"""Entries whose clients send images as files: what is declared of them, and what Triton needs to read them.

The declaration is a `TYPE_STRING` input of a graph that reads uint8 images: which square they become, the card says.
"""

import io
import struct
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from random import Random

import nanocv_cli
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.signature import GraphSignature, TensorSignature
from nanocv_cli.rooms import room

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
