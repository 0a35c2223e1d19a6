"""Every kind of image file becomes upright uint8 RGB or one clear line."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from nanocv_cli.images.resize import (
    UnreadableImageError,
    measure_image,
    open_both,
    open_image,
    open_square,
    resize_to_square,
)

RED = (220, 30, 40)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def grey_tiff(values: np.ndarray) -> bytes:
    return encoded(Image.fromarray(values), "TIFF")


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of one row whose header says otherwise."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("mode", "format", "tolerance"),
    [
        ("RGB", "PNG", 0),
        ("RGB", "BMP", 0),
        ("RGB", "PPM", 0),
        ("RGB", "TGA", 0),
        ("RGB", "WEBP", 4),
        ("RGB", "JPEG", 4),
        ("RGB", "AVIF", 6),
        ("P", "PNG", 0),
        ("P", "GIF", 0),
        ("RGBA", "PNG", 0),
        ("CMYK", "TIFF", 0),
        ("CMYK", "JPEG", 4),
        ("YCbCr", "TIFF", 3),
    ],
)
def test_colour_modes_read_as_rgb(mode: str, format: str, tolerance: int) -> None:
    source = Image.new("RGB", (9, 5), RED)
    converted = source.convert(mode, palette=Image.Palette.ADAPTIVE) if mode == "P" else source.convert(mode)
    image = open_image(encoded(converted, format))
    assert image.shape == (5, 9, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - RED).max() <= tolerance


def test_lab_reads_as_rgb() -> None:
    image = open_image(encoded(Image.new("LAB", (4, 4), (255, 128, 128)), "TIFF"))
    assert image.min() >= 250  # full lightness without colour is white


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_modes_fill_all_channels(mode: str) -> None:
    image = open_image(encoded(Image.new("L", (3, 2), 255).convert(mode)))
    assert image.shape == (2, 3, 3)
    assert (image == 255).all()


@pytest.mark.parametrize("byte_order", ["<u2", ">u2"])
def test_sixteen_bit_grey_keeps_its_range(byte_order: str) -> None:
    values = np.array([[0, 0x0100, 0x8000, 0xFFFF]]).astype(byte_order)
    assert open_image(grey_tiff(values))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_sixteen_bit_png_keeps_its_range() -> None:
    png = encoded(Image.fromarray(np.array([[0, 0x8000, 0xFFFF]], np.uint16)))
    assert open_image(png)[0, :, 1].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1], [0, 255]),
        ([0, 100, 255], [0, 100, 255]),
        ([0, 32_768, 65_535], [0, 128, 255]),
        ([-100, 0, 100], [0, 128, 255]),
        ([7, 7], [7, 7]),
        ([-7, -7], [0, 0]),
    ],
)
@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_wide_numbers_are_read_from_the_narrowest_range_that_holds_them(
    values: list[int], expected: list[int], kind: type
) -> None:
    assert open_image(grey_tiff(np.array([values], kind)))[0, :, 2].tolist() == expected


def test_float_shares_and_what_is_not_finite() -> None:
    values = np.array([[0.0, 0.5, 1.0, np.nan, np.inf, -np.inf]], np.float32)
    assert open_image(grey_tiff(values))[0, :, 0].tolist() == [0, 128, 255, 0, 0, 0]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_over_white(mode: str) -> None:
    black = Image.new("RGBA", (3, 1), (0, 0, 0, 255))
    black.putpixel((0, 0), (0, 0, 0, 0))
    black.putpixel((1, 0), (0, 0, 0, 128))
    assert open_image(encoded(black.convert(mode)))[0, :, 0].tolist() == [255, 127, 0]


def test_a_transparent_palette_entry_is_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, *RED])
    image.putpixel((1, 0), 1)
    assert open_image(encoded(image, transparency=0))[0].tolist() == [[255, 255, 255], list(RED)]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_image_upright(orientation: int) -> None:
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[0, 0] = 255  # a mark in the upper left corner
    # How a camera that was held this way stores the upright image: the inverse of what EXIF asks for.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert np.array_equal(open_image(file), upright)


def test_damaged_exif_does_not_lose_the_image() -> None:
    file = encoded(Image.new("RGB", (8, 4), RED), "JPEG", exif=b"Exif\0\0not a TIFF header at all")
    assert open_image(file).shape == (4, 8, 3)


def test_an_animation_is_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, "blue")]
    assert open_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))[0, 0].tolist() == list(RED)


def detailed() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"this is text", "not an image"),
        (encoded(detailed(), "JPEG")[:600], "Truncated"),  # within the header
        (encoded(detailed(), "JPEG")[:1500], "truncated"),  # within the pixels
        (encoded(detailed(), "PNG")[:3000], "truncated"),
        (encoded(Image.new("RGB", (4, 4)), "EPS"), "PostScript"),
        (png_that_claims(20_000, 20_000), "200 million pixels"),
    ],
)
@pytest.mark.parametrize("as_file", [True, False])
def test_unreadable_files_say_why_in_one_line(content: bytes, reason: str, as_file: bool, tmp_path: Path) -> None:
    source: Path | bytes = content
    if as_file:
        source = tmp_path / "x.jpg"
        source.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=reason) as caught:
        open_image(source)
    assert "\n" not in caught.value.message


def test_a_missing_file_and_a_folder_are_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="No such file"):
        open_image(tmp_path / "none.png")
    with pytest.raises(UnreadableImageError, match="Is a directory"):
        open_image(tmp_path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pytest undoes the filter of images.py
def test_the_bound_on_pixels_is_the_documented_one() -> None:
    with pytest.raises(UnreadableImageError, match="truncated"):  # 190 million pixels: the header passed
        open_image(png_that_claims(19_000, 10_000))


def test_crop_takes_the_centre_and_stretch_takes_all() -> None:
    image = Image.new("RGB", (40, 10), "blue")
    ImageDraw.Draw(image).rectangle((15, 0, 24, 9), fill="red")
    pixels = np.asarray(image)
    assert (resize_to_square(pixels, 10, "crop") == (255, 0, 0)).all()
    stretched = resize_to_square(pixels, 8, "stretch")
    assert stretched[4, 0].tolist() == [0, 0, 255]
    assert stretched[4, 4].tolist()[0] > 200


def test_the_right_size_passes_untouched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 7, 3), np.uint8)
    for rule in ("crop", "stretch"):
        assert np.array_equal(resize_to_square(pixels, 7, rule), pixels)


def test_downscaling_is_anti_aliased() -> None:
    board = np.indices((64, 64)).sum(0) % 2 * 255
    small = resize_to_square(np.repeat(board[..., None], 3, 2).astype(np.uint8), 8, "crop")
    assert np.abs(small.astype(int) - 127).max() < 20


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="resize rule 'pad'"):
        resize_to_square(np.zeros((4, 4, 3), np.uint8), 4, "pad")


@settings(max_examples=40, deadline=None)
@given(
    height=st.sampled_from([1, 2, 3, 17, 224, 5000]),
    width=st.sampled_from([1, 2, 3, 17, 224, 5000]),
    size=st.sampled_from([1, 8, 224]),
    rule=st.sampled_from(["crop", "stretch"]),
)
def test_any_shape_becomes_the_square_and_keeps_its_colour(height: int, width: int, size: int, rule: str) -> None:
    image = np.broadcast_to(np.array(RED, np.uint8), (height, width, 3))
    square = resize_to_square(np.ascontiguousarray(image), size, rule)
    assert square.shape == (size, size, 3)
    assert (square == RED).all()


def photograph(width: int, height: int, orientation: int = 1, **options: object) -> bytes:
    """A large JPEG of smooth shapes and fine grain."""
    down, across = np.mgrid[0:height, 0:width]
    waves = 128 + 60 * np.sin(across / 97) + 50 * np.cos(down / 61)
    grain = np.random.default_rng(0).normal(0, 8, (height, width))
    pixels = np.stack([waves + grain, 255 - waves, across * 255 / width], -1).clip(0, 255).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(pixels), "JPEG", quality=92, exif=exif, **options)


@pytest.mark.parametrize("rule", ["crop", "stretch"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_jpeg_is_read_reduced_and_nearly_the_same(orientation: int, rule: str) -> None:
    content = photograph(1603, 1207, orientation)
    whole = open_image(content)
    square, size = open_square(content, 96, rule)
    assert size == (whole.shape[1], whole.shape[0]) == measure_image(content)
    difference = np.abs(square.astype(int) - resize_to_square(whole, 96, rule))
    assert 0 < difference.mean() < 1
    assert difference.max() <= 12


@pytest.mark.parametrize(("width", "height", "size"), [(900, 700, 32), (1603, 1207, 1000)])
def test_a_small_jpeg_and_one_read_at_nearly_its_own_size_are_read_whole(width: int, height: int, size: int) -> None:
    content = photograph(width, height)
    square, _ = open_square(content, size, "crop")
    assert np.array_equal(square, resize_to_square(open_image(content), size, "crop"))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_an_image_that_is_drawn_on_gives_the_same_square(options: dict[str, object]) -> None:
    for content in (photograph(1603, 1207, 6, **options), photograph(300, 200, 6, **options)):
        square, size, image = open_both(content, 96, "crop")
        alone, same_size = open_square(content, 96, "crop")
        assert np.array_equal(square, alone)
        assert size == same_size == (image.shape[1], image.shape[0])
        assert np.array_equal(image, open_image(content))


def test_a_large_jpeg_that_is_cut_short_is_refused_though_it_is_read_reduced() -> None:
    content = photograph(1603, 1207)
    for read in (lambda: open_square(content[:-20_000], 96, "crop"), lambda: measure_image(content[:-20_000])):
        with pytest.raises(UnreadableImageError, match=r"truncated|cut short"):
            read()


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_large_grey_and_printed_jpegs_are_read_reduced_too(mode: str) -> None:
    content = encoded(Image.open(io.BytesIO(photograph(1603, 1207))).convert(mode), "JPEG", quality=92)
    square, _ = open_square(content, 96, "stretch")
    assert 0 < np.abs(square.astype(int) - resize_to_square(open_image(content), 96, "stretch")).mean() < 1


@given(st.integers(1, 40), st.integers(26_300, 65_000), st.integers(1, 300), st.sampled_from(["crop", "stretch"]))
@settings(max_examples=15, deadline=None)
def test_a_strip_is_read_whatever_its_shape(width: int, height: int, size: int, rule: str) -> None:
    content = encoded(Image.new("RGB", (width, height), RED), "JPEG")
    square, _ = open_square(content, size, rule)
    assert square.shape == (size, size, 3)
    assert np.abs(square.astype(int) - RED).max() <= 4
