"""What surrounds the flowers: ground and sky, stems and leaves, blades in front, light and lens."""

import colorsys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from nanocv_cli.data.flowers.petals import Layer, Petal, Pixels, blank_layer, paint_petal


def background(size: int, rng: np.random.Generator) -> Image.Image:
    """A garden out of focus, size x size RGB. Grass, soil, sky over grass, or bokeh."""
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
    colours = far[:, None] * (1 - blend) + near[:, None] * blend
    patches = 1.0 + rng.uniform(0.1, 0.35) * smooth_noise(size, int(rng.integers(4, 12)), rng)
    levels = np.empty((3, size, size), np.uint8)
    for rows in _strips(size):
        levels[:, rows] = _levels(colours[:, rows, None] * patches[rows])
    image = _image_of(levels)
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
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 4.0) * size / 256))


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
    source = _image_of(_levels(layer.colour)) if image.mode == "RGB" else alpha
    image.paste(source, (round(centre[0]) - half, round(centre[1]) - half), alpha)


def through_the_lens(canvas: Image.Image, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Light, colour cast, vignette, blur and sensor noise of an RGB image; uint8 [S,S,3]."""
    size = canvas.size[0]
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = axis[None], axis[:, None]
    direction = rng.uniform(0, 2 * np.pi)
    slope = x * np.cos(direction), y * np.sin(direction)
    glow, vignette = rng.uniform(0, 0.35), rng.uniform(0, 0.35)
    patches = 1 + rng.uniform(0, 0.25) * smooth_noise(size, int(rng.integers(3, 7)), rng)
    cast = rng.uniform(0.88, 1.12, 3)[:, None, None]
    exposure, saturation, gamma = rng.uniform(0.85, 1.4), rng.uniform(0.75, 1.15), rng.uniform(0.85, 1.2)
    taken, seen = np.asarray(canvas), np.empty((3, size, size), np.uint8)
    for rows in _strips(size):
        light = 1 + glow * (slope[0] + slope[1][rows])
        light *= 1 - vignette * (x**2 + y[rows] ** 2) / 2
        light *= patches[rows]
        lit = taken[rows].transpose(2, 0, 1).astype(np.float32, order="C") / 255.0 * light
        lit *= cast
        lit *= exposure
        grey = lit.mean(0)
        lit -= grey
        lit *= saturation
        lit += grey
        seen[:, rows] = _levels(np.clip(lit, 0, 1, out=lit) ** gamma)
    image = _image_of(seen)
    if rng.random() < 0.6:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.4) * size / 256))
    strength, sensed = rng.uniform(0.5, 7), np.array(image)
    for rows in _strips(size):
        noise = rng.standard_normal(sensed[rows].shape)
        noise *= strength
        noise += sensed[rows]
        sensed[rows] = np.clip(noise, 0, 255, out=noise)
    return sensed


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
        x, y, r = rng.uniform(0, size), rng.uniform(0, size), rng.uniform(size / 40, size / 10)
        left, top, right, bottom = int(x - r), int(y - r), int(x + r), int(y + r)
        spot = Image.new("L", (right - left + 1, bottom - top + 1))
        ImageDraw.Draw(spot).ellipse((0, 0, right - left, bottom - top), fill=int(rng.uniform(40, 140)))
        hue = rng.choice((rng.uniform(0.15, 0.4), rng.uniform(0, 1)))
        colour = tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue, rng.uniform(0.2, 0.7), rng.uniform(0.6, 1.0)))
        image.paste(colour, (left, top), spot)
    return image


def _garden_colour(rng: np.random.Generator) -> NDArray[np.float64]:
    return np.array(colorsys.hsv_to_rgb(rng.uniform(0.18, 0.42), rng.uniform(0.2, 0.6), rng.uniform(0.2, 0.65)))


def _leaf_colour(rng: np.random.Generator) -> tuple[float, float, float]:
    return colorsys.hsv_to_rgb(rng.uniform(0.2, 0.38), rng.uniform(0.35, 0.7), rng.uniform(0.25, 0.65))


def _strips(size: int) -> Iterator[slice]:
    """Rows of an image, a few at a time: what is computed of them stays in the processor's cache, twice as fast."""
    for start in range(0, size, 32):
        yield slice(start, start + 32)


def _levels(planes: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Planes of 0..1 as bytes; what lies outside is clipped."""
    levels = np.clip(planes, 0, 1)
    levels *= 255
    rounded: NDArray[np.uint8] = np.rint(levels, out=levels).astype(np.uint8)
    return rounded


def _image_of(planes: NDArray[np.uint8]) -> Image.Image:
    """The RGB image of planes uint8 [3, S, S]."""
    return Image.merge("RGB", [Image.fromarray(plane) for plane in planes])
