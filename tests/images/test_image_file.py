"""What images may be, how much of them is read, and what their decoding may take."""

import os
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from nanocv_cli.images import image_file, pixels
from nanocv_cli.images.bounds import FORMATS, Bounds, Budget
from nanocv_cli.images.image_file import SlowImageError
from nanocv_cli.images.resize import SUFFIXES, UnreadableImageError, measure_image, open_image, open_square
from nanocv_cli.images.resize import resize_to_square as squared
from tests.images.test_resize import encoded, png_that_claims

MODES = ["1", "L", "P", "LA", "RGB", "RGBA", "I;16", "I", "F", "CMYK", "LAB", "YCbCr"]


def test_only_regular_files_are_opened_and_nothing_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "link.png").symlink_to("pipe.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.png"))
        paths = [tmp_path / f"{name}.png" for name in ("pipe", "loop", "gone", "link", "socket")]
        for path in [*paths, Path("/dev/zero"), Path("/dev/null"), tmp_path, Path("nul\0"), Path("x" * 5000)]:
            with pytest.raises(UnreadableImageError) as refused:
                open_image(path)
            assert refused.value.message.isprintable() and refused.value.hint


def sparse(path: Path, content: bytes, size: int) -> Path:
    with path.open("wb") as file:
        file.write(content)
        file.truncate(size)
    return path


def tiff(*tags: tuple[int, int, int, int]) -> bytes:
    entries = b"".join(struct.pack("<HHLL", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<LH", 8, len(tags)) + entries + bytes(4)


WEBP = b"RIFF" + struct.pack("<I", (1 << 30) - 8) + b"WEBPVP8 " + struct.pack("<I", (1 << 30) - 20)
AVIF = struct.pack(">I", 28) + b"ftypavif\0\0\0\0avifmif1miaf" + struct.pack(">I", 0) + b"mdat"
TEXT = png_that_claims(9, 9)[:33] + struct.pack(">I", 1 << 29) + b"zTXt"
SMALL = [(256, 4, 1, 9), (257, 4, 1, 9), (258, 3, 1, 8), (262, 3, 1, 1)]


@pytest.mark.parametrize(
    ("content", "size", "reason"),
    [
        (b"\xff\xd8\xff\xe0", 200 << 30, "larger than the 1 GiB"),
        (WEBP, 1 << 30, "header is longer than"),
        (AVIF, 1 << 30, "header is longer than"),
        (TEXT, 1 << 30, "header is longer than"),
        (tiff(*SMALL, (273, 4, 250_000_000, 200)), 1 << 30, "tag 273 has 250,000,000 values"),
        (tiff(*SMALL, (273, 1, 250_000_000, 200)), 1 << 30, "tag 273"),
        (tiff(*SMALL, (322, 4, 1, 50_000), (323, 4, 1, 50_000)), 1 << 20, "tiles are 50000 x 50000"),
        (tiff(*SMALL, (322, 5, 1, 8)), 1 << 20, "tag 322 is no whole number"),
        (b"MM\0+" + struct.pack(">HHQQ", 8, 0, 16, 1 << 60), 1 << 20, "entries"),
        (b"II*\0" + b"\xff" * 4, 1 << 20, "cut short"),
    ],
)
def test_a_file_that_claims_much_is_refused_before_it_is_read(
    content: bytes, size: int, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(UnreadableImageError, match=reason):
        open_image(sparse(tmp_path / "x.jpg", content, size))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_formats_that_are_not_listed_are_never_tried() -> None:
    Image.init()
    source = Image.new("RGB", (32, 32), "red")
    tried = []
    for name in sorted(set(Image.SAVE) - set(FORMATS) - {"DIB", "JPEG2000", "MPO", "PDF"}):
        for mode in ("RGB", "RGBA", "L", "1", "P", "F"):
            try:
                content = encoded(source.convert(mode), name)
            except Exception:
                continue
            tried.append(name)
            with pytest.raises(UnreadableImageError):
                open_image(content)
            break
    assert len(tried) > 8


def test_every_suffix_that_is_walked_for_can_be_opened() -> None:
    Image.init()
    formats = {Image.EXTENSION[suffix] for suffix in SUFFIXES}
    assert formats <= set(FORMATS)


def test_a_progressive_jpeg_of_many_scans_is_refused() -> None:
    plain = encoded(Image.new("L", (64, 64), 100), "JPEG", progressive=True)
    assert open_image(plain).shape == (64, 64, 3)
    last = plain.rindex(b"\xff\xda")
    scan = plain[last : last + 10]
    with pytest.raises(UnreadableImageError, match="scans are more than"):
        open_image(plain[:last] + scan * 300 + plain[last:])


def test_the_bounds_of_one_image() -> None:
    content = encoded(Image.new("RGB", (64, 64), "red"), "JPEG")
    with pytest.raises(UnreadableImageError, match="not an image in a format that nanocv reads"):
        open_square(content, 8, "crop", Bounds(("PNG", "WEBP")))
    with pytest.raises(UnreadableImageError, match="million pixels"):
        open_square(content, 8, "crop", Bounds(memory=64 * 64))
    with pytest.raises(SlowImageError):
        open_square(content, 8, "crop", Bounds(deadline=0.0))


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}])
def test_a_webp_is_measured_before_its_decoder_takes_memory(
    options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = encoded(Image.new("RGB", (101, 31), "red"), "WEBP", **options)
    assert open_square(content, 8, "crop", Bounds(pixels=101 * 31))[1] == (101, 31)
    monkeypatch.setattr("PIL.WebPImagePlugin.WebPImageFile._open", lambda _: pytest.fail("it was opened"))
    with pytest.raises(UnreadableImageError, match="million pixels that nanocv opens as WEBP"):
        open_square(content, 8, "crop", Bounds(pixels=101 * 31 - 1))


@pytest.mark.parametrize(("format", "most"), [("WEBP", 100), ("AVIF", 100), ("JPEG2000", 80), ("TIFF", 200)])
def test_decoders_that_need_more_memory_get_fewer_pixels(format: str, most: int) -> None:
    image = Image.new("RGB", (1, 1))
    image.format = format
    image._size = (most * 1000, 1000)  # type: ignore[attr-defined]
    assert image_file._cost(image) <= image_file.MEMORY.total  # type: ignore[arg-type]
    image._size = (most * 1000, 1001)  # type: ignore[attr-defined]
    with pytest.raises(UnreadableImageError, match=f"more than the {most} million pixels"):
        image_file._cost(image)  # type: ignore[arg-type]


def test_rows_take_memory_too() -> None:
    """Of one pixel each they would take three times what their pixels do."""
    image = Image.new("L", (1, 1))
    image._size = (1, image_file.MOST_ROWS)  # type: ignore[attr-defined]
    assert image_file._cost(image) < image_file.MEMORY.total
    with pytest.raises(UnreadableImageError, match="rows are more than"):
        open_image(png_that_claims(1, image_file.MOST_ROWS + 1))


def noise(mode: str, width: int, height: int, seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(random.integers(0, 65_536, (height, width), np.uint16))
    if mode in ("I", "F"):
        values = random.integers(-1000, 1000, (height, width)).astype(np.int32)
        return Image.fromarray(values if mode == "I" else values.astype(np.float32))
    colours = Image.fromarray(random.integers(0, 256, (height, width, 4), np.uint8), "RGBA")
    return Image.merge("LAB", colours.split()[:3]) if mode == "LAB" else colours.convert(mode)


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(MODES),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    strip=st.integers(1, 300),
    seed=st.integers(0, 99),
    turn=st.integers(1, 8),
)
def test_strips_and_squares_hold_the_same_pixels_as_the_whole(
    mode: str, width: int, height: int, strip: int, seed: int, turn: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    name = "PNG" if mode in ("1", "L", "P", "LA", "RGB", "RGBA", "I;16") else "TIFF"
    content = encoded(noise(mode, width, height, seed), name, exif=exif)
    whole = open_image(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixels, "STRIP_PIXELS", strip)
        assert np.array_equal(open_image(content), whole)
        for rule in ("crop", "stretch"):
            square, size = open_square(content, 12, rule)
            assert np.array_equal(square, squared(whole, 12, rule))
            assert size == measure_image(content) == (whole.shape[1], whole.shape[0])


def test_threads_together_hold_no_more_than_the_budget() -> None:
    budget, lock, held, most = Budget(20), threading.Lock(), 0, 0

    def work(amounts: list[int]) -> None:
        nonlocal held, most
        for amount in amounts:
            with budget.reserved(amount):
                with lock:
                    held += amount
                    most = max(most, held)
                with lock:
                    held -= amount

    threads = [
        threading.Thread(target=work, args=([1 + (seed * number) % 20 for number in range(50)],))
        for seed in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert held == 0
    assert 10 <= most <= 20


@pytest.mark.parametrize(
    ("content", "bytes_per_pixel"),
    [
        (encoded(Image.new("RGB", (50, 40))), 4),
        (encoded(Image.new("RGBA", (50, 40))), 8),
        (encoded(Image.new("1", (50, 40))), 8),
        (encoded(Image.new("RGB", (50, 40)), "WEBP"), 16),
        (encoded(Image.new("RGB", (50, 40)), "JPEG", progressive=True), 8),
    ],
)
def test_memory_is_reserved_before_pixels_are_decoded(
    content: bytes, bytes_per_pixel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[object] = []

    class Watched(Budget):
        @contextmanager
        def reserved(self, amount: int) -> Iterator[None]:
            happened.append(amount)
            yield
            happened.append("released")

    load = ImageFile.ImageFile.load

    def watched_load(image: ImageFile.ImageFile) -> object:
        happened.append("decoded")
        return load(image)

    monkeypatch.setattr(image_file, "MEMORY", Watched(1_000_000))
    monkeypatch.setattr(ImageFile.ImageFile, "load", watched_load)
    open_image(content)
    assert happened[0] == bytes_per_pixel * 50 * 40
    assert "decoded" in happened
    assert happened[-1] == "released"


def test_a_thread_never_waits_for_itself() -> None:
    budget = Budget(10)
    with budget.reserved(1), pytest.raises(RuntimeError), budget.reserved(1):
        pass
    with budget.reserved(10):
        pass


def test_what_begins_like_an_icon_is_one_or_nothing() -> None:
    with pytest.raises(UnreadableImageError):
        open_image(b"\0\0\1\0" + bytes(100))
    targa = encoded(Image.new("L", (9, 9)), "TGA")  # which has no signature
    with pytest.raises(UnreadableImageError):
        open_image(b"\0\0\1\0" + targa[4:])


def test_a_part_larger_than_the_budget_is_had_alone() -> None:
    budget = Budget(10)
    order: list[str] = []
    with budget.reserved(1):
        waiting = threading.Thread(target=lambda: _take(budget, 10**12, order))
        waiting.start()
        order.append("first")
    waiting.join()
    with budget.reserved(10):
        order.append("third")
    assert order == ["first", "second", "third"]


def _take(budget: Budget, amount: int, order: list[str]) -> None:
    with budget.reserved(amount):
        order.append("second")


MEASURE = """
import resource, sys
from pathlib import Path
from nanocv_cli.images.resize import open_image, open_square
scale = 1 if sys.platform == "darwin" else 1024
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
open_square(Path(sys.argv[1]), 224, "stretch")
square = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
open_image(Path(sys.argv[1]))
whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((square - before) * scale, (whole - before) * scale)
"""


def large_png(folder: Path) -> Path:
    """A black PNG of 7000 x 7000 pixels of one bit."""
    side = 7000
    packed = zlib.compressobj()
    rows = b"".join(packed.compress(bytes(1 + side // 8)) for _ in range(side)) + packed.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (folder / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return folder / "large.png"


PARALLEL = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from nanocv_cli.images import image_file
from nanocv_cli.images.bounds import Budget
from nanocv_cli.images.resize import open_square
image_file.MEMORY = Budget(2 * 8 * 7000**2)
scale = 1 if sys.platform == "darwin" else 1024
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda _: open_square(Path(sys.argv[1]), 224, "stretch"), range(12)))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * scale)
"""


def test_threads_hold_no_more_than_the_budget_nor_does_the_c_library_for_them(tmp_path: Path) -> None:
    measured = subprocess.run(
        [sys.executable, "-c", PARALLEL, large_png(tmp_path)], check=True, capture_output=True, text=True
    )
    assert int(measured.stdout) < 8 * 7000**2  # of 16 that are reserved, half at most is decoded pixels


def test_a_large_image_takes_a_few_bytes_per_pixel(tmp_path: Path) -> None:
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, large_png(tmp_path)], check=True, capture_output=True, text=True
    )
    square, whole = map(int, measured.stdout.split())
    assert square < 3.5 * 7000**2
    assert whole < 6 * 7000**2


SMALL_FORMATS = ["JPEG", "PNG", "BMP", "GIF", "PPM", "WEBP", "TIFF", "ICO", "JPEG2000", "AVIF", "TGA"]
SMALL_FILES = {
    name: encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)), name)
    for name in SMALL_FORMATS
}


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(SMALL_FORMATS), data=st.data())
def test_a_damaged_image_of_any_format_is_a_image_or_one_line(name: str, data: st.DataObject) -> None:
    content = bytearray(SMALL_FILES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(len(content) - 1, data.draw(st.sampled_from([40, 400, 10**6])))))
        content[place] = data.draw(st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(1, len(content))) :]
    try:
        square, size = open_square(bytes(content), 8, "stretch")
    except UnreadableImageError as error:
        assert error.message.isprintable() and len(error.message) < 250
        return
    assert square.shape == (8, 8, 3) and size[0] * size[1] <= 200_000_000
