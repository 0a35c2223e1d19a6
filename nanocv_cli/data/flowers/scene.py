"""What surrounds the flowers: ground and sky, stems and leaves, blades in front, light and lens."""

import colorsys

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from nanocv_cli.data.flowers.petals import Layer, Petal, Pixels, blank_layer, paint_petal


def background(size: int, rng: np.random.Generator) -> Pixels:
    """A garden out of focus: float32 [size, size, 3] in 0..1. Grass, soil, sky over grass, or bokeh."""
    kind = rng.choice(("grass", "soil", "sky", "bokeh"), p=(0.4, 0.15, 0.2, 0.25))
    far, near = (_garden_colour(rng) for _ in range(2))
    if kind == "soil":
        far = near = np.array(
            colorsys.hsv_to_rgb(rng.uniform(0.05, 0.1), rng.uniform(0.25, 0.5), rng.uniform(0.25, 0.5))
        )
    if kind == "sky":
        far = np.array(colorsys.hsv_to_rgb(rng.uniform(0.52, 0.62), rng.uniform(0.1, 0.5), rng.uniform(0.7, 1.0)))
    height = np.linspace(0, 1, size, dtype=np.float32)
    horizon = rng.uniform(0.25, 0.7)
    blend = 1 / (1 + np.exp(-(height - horizon) * rng.uniform(6, 25)))
    canvas = far * (1 - blend)[:, None, None] + near * blend[:, None, None] + np.zeros((size, size, 3))
    canvas *= 1.0 + rng.uniform(0.1, 0.35) * (smooth_noise(size, int(rng.integers(4, 12)), rng)[..., None])
    image = _to_image(canvas)
    pen = ImageDraw.Draw(image)
    if kind in ("grass", "sky"):
        for _ in range(int(rng.integers(50, 140))):
            _blade(pen, size, rng, base=rng.uniform(size * horizon, size * 1.2), width=rng.uniform(1, size / 50))
    if kind == "soil":
        for _ in range(200):
            x, y, r = rng.uniform(0, size), rng.uniform(0, size), rng.uniform(1, size / 60)
            tone = tuple(int(255 * c) for c in near * rng.uniform(0.5, 1.4))
            pen.ellipse((x - r, y - r, x + r, y + r), fill=tone)
    if kind == "bokeh":
        image = _bokeh(image, size, rng)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 4.0) * size / 256)), np.float32) / 255.0


def smooth_noise(size: int, cells: int, rng: np.random.Generator) -> Pixels:
    """Noise in about -1..1 without detail finer than size / cells: float32 [size, size]."""
    coarse = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.float32)


def draw_stem(
    image: Image.Image, start: tuple[float, float], angle: float, width: float, rng: np.random.Generator
) -> None:
    """Draws a curved stem from a flower's base to below the image, sometimes with leaves, in place."""
    size = image.size[0]
    x0, y0 = start
    bend = size * rng.uniform(0.15, 0.4)
    x1, y1 = x0 + np.cos(angle) * bend, y0 + np.sin(angle) * bend
    x2, y2 = x1 + rng.normal(0, size * 0.12), size * 1.3
    t = np.linspace(0, 1, 24)
    xs = (1 - t) ** 2 * x0 + 2 * t * (1 - t) * x1 + t**2 * x2
    ys = (1 - t) ** 2 * y0 + 2 * t * (1 - t) * y1 + t**2 * y2
    colour = tuple(int(255 * c) for c in _leaf_colour(rng))
    ImageDraw.Draw(image).line(list(zip(xs, ys, strict=True)), fill=colour, width=max(2, round(width)), joint="curve")
    for _ in range(int(rng.integers(0, 3))):
        at = int(rng.integers(6, 18))
        paste_layer(image, _leaf(width * rng.uniform(6, 12), rng), (xs[at], ys[at]))


def foreground(size: int, rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """Blades and leaves in front of the flowers: an RGB image and its cover (mode L, 255 where something is)."""
    image, cover = Image.new("RGB", (size, size)), Image.new("L", (size, size))
    if rng.random() < 0.5:
        pens = ImageDraw.Draw(image), ImageDraw.Draw(cover)
        for _ in range(int(rng.integers(1, 7))):
            state = rng.bit_generator.state
            for pen, flat in zip(pens, (None, 255), strict=True):
                rng.bit_generator.state = state
                _blade(pen, size, rng, base=size * 1.05, width=rng.uniform(size / 80, size / 30), flat=flat)
    if rng.random() < 0.25:
        leaf = _leaf(rng.uniform(0.15, 0.35) * size, rng)
        place = (rng.uniform(0, size), rng.uniform(0, size))
        paste_layer(image, leaf, place)
        paste_layer(cover, leaf, place)
    return image, cover


def paste_layer(image: Image.Image, layer: Layer, centre: tuple[float, float]) -> None:
    """Pastes a painted layer on an RGB image, or its alpha on a cover of mode L, in place."""
    half = layer.alpha.shape[0] // 2
    alpha = Image.fromarray((layer.alpha * 255).astype(np.uint8))
    source = _to_image(layer.colour) if image.mode == "RGB" else alpha
    image.paste(source, (round(centre[0]) - half, round(centre[1]) - half), alpha)


def through_the_lens(canvas: Pixels, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Light, colour cast, vignette, blur and sensor noise: float32 [S,S,3] in 0..1 to uint8 [S,S,3]."""
    size = canvas.shape[0]
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    direction = rng.uniform(0, 2 * np.pi)
    glow = 1 + rng.uniform(0, 0.35) * (x * np.cos(direction) + y * np.sin(direction))
    vignette = 1 - rng.uniform(0, 0.35) * (x**2 + y**2) / 2
    patches = 1 + rng.uniform(0, 0.25) * smooth_noise(size, int(rng.integers(3, 7)), rng)
    cast = rng.uniform(0.88, 1.12, 3)
    lit = canvas * (glow * vignette * patches)[..., None] * cast * rng.uniform(0.85, 1.4)
    grey = lit.mean(2, keepdims=True)
    lit = grey + (lit - grey) * rng.uniform(0.75, 1.15)
    lit = np.clip(lit, 0, 1) ** rng.uniform(0.85, 1.2)
    image = _to_image(lit)
    if rng.random() < 0.6:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.4) * size / 256))
    noise = rng.normal(0, rng.uniform(0.5, 7), canvas.shape)
    return np.clip(np.asarray(image, np.float32) + noise, 0, 255).astype(np.uint8)


def _leaf(length: float, rng: np.random.Generator) -> Layer:
    layer = blank_layer(length, 1.1, squash=1.0, tilt=0.0)
    colour = _leaf_colour(rng)
    dark = (colour[0] * 0.6, colour[1] * 0.6, colour[2] * 0.6)
    angle = rng.uniform(0, 2 * np.pi)
    petal = Petal(angle, 1.0, rng.uniform(0.25, 0.5), 0.45, 0.7, colour, dark)
    paint_petal(layer, petal, light=rng.uniform(0, 2 * np.pi), shadow=0.0)
    return layer


def _blade(
    pen: ImageDraw.ImageDraw, size: int, rng: np.random.Generator, base: float, width: float, flat: int | None = None
) -> None:
    """One blade of grass as a thin curved triangle."""
    x = rng.uniform(-0.1, 1.1) * size
    height, sway = rng.uniform(0.15, 0.6) * size, rng.normal(0, 0.15) * size
    colour = tuple(int(255 * c) for c in _leaf_colour(rng)) if flat is None else flat
    if flat is not None:
        _leaf_colour(rng)  # draws what the coloured twin draws, so both follow one path
    middle = (x + sway * 0.3, base - height * 0.6)
    tip = (x + sway, base - height)
    pen.polygon(
        [
            (x - width / 2, base),
            (middle[0] - width / 3, middle[1]),
            tip,
            (middle[0] + width / 3, middle[1]),
            (x + width / 2, base),
        ],
        fill=colour,
    )


def _bokeh(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """Blurred discs of light; some have flower colours, so colour in the background tells nothing."""
    for _ in range(int(rng.integers(8, 25))):
        spot = Image.new("L", (size, size))
        x, y, r = rng.uniform(0, size), rng.uniform(0, size), rng.uniform(size / 40, size / 10)
        ImageDraw.Draw(spot).ellipse((x - r, y - r, x + r, y + r), fill=int(rng.uniform(40, 140)))
        hue = rng.choice((rng.uniform(0.15, 0.4), rng.uniform(0, 1)))
        colour = tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue, rng.uniform(0.2, 0.7), rng.uniform(0.6, 1.0)))
        image.paste(Image.new("RGB", (size, size), colour), mask=spot)
    return image


def _garden_colour(rng: np.random.Generator) -> NDArray[np.float64]:
    return np.array(colorsys.hsv_to_rgb(rng.uniform(0.18, 0.42), rng.uniform(0.2, 0.6), rng.uniform(0.2, 0.65)))


def _leaf_colour(rng: np.random.Generator) -> tuple[float, float, float]:
    return colorsys.hsv_to_rgb(rng.uniform(0.2, 0.38), rng.uniform(0.35, 0.7), rng.uniform(0.25, 0.65))


def _to_image(canvas: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray((np.clip(canvas, 0, 1) * 255).round().astype(np.uint8))
