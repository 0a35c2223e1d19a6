"""How each species is built from petals. Colours overlap on purpose: shape is what tells them apart."""

import colorsys
from collections.abc import Callable

import numpy as np

from nanocv_cli.data.flowers.petals import Colour, Layer, Petal, blank_layer, paint_disc, paint_petal

# Hue, saturation and value ranges. All species share most of them.
WHITE = ((0.10, 0.17), (0.02, 0.14), (0.88, 1.0))
YELLOW = ((0.11, 0.16), (0.65, 0.95), (0.88, 1.0))
ORANGE = ((0.05, 0.10), (0.70, 0.95), (0.85, 1.0))
RED = ((0.96, 1.02), (0.70, 0.95), (0.60, 0.90))
PINK = ((0.88, 0.97), (0.25, 0.60), (0.85, 1.0))
PURPLE = ((0.75, 0.86), (0.30, 0.65), (0.55, 0.90))

PALETTES = {
    "daisy": (WHITE, WHITE, YELLOW, PINK, PURPLE, ORANGE),
    "rose": (RED, PINK, WHITE, YELLOW, ORANGE, PINK),
    "sunflower": (YELLOW, YELLOW, ORANGE, RED, WHITE),
    "tulip": (RED, YELLOW, PINK, PURPLE, WHITE, ORANGE),
}


def draw_flower(species: str, radius: float, light: float, rng: np.random.Generator) -> tuple[Layer, float]:
    """Draws one flower head in its own patch.

    Args:
        species: one of `PALETTES`.
        radius: pixels.
        light: direction the light comes from, radians.
        rng: all that varies is drawn from it.

    Returns:
        the painted layer, and the angle (radians clockwise from rightward) in which its stem leaves.
    """
    hue, saturation, value = PALETTES[species][rng.integers(len(PALETTES[species]))]
    colour = colorsys.hsv_to_rgb(rng.uniform(*hue) % 1.0, rng.uniform(*saturation), rng.uniform(*value))
    return PAINTERS[species](radius, colour, light, rng)


def _varied(colour: Colour, rng: np.random.Generator, amount: float = 0.05) -> Colour:
    factor = 1.0 + rng.uniform(-amount, amount)
    red, green, blue = (min(1.0, max(0.0, channel * factor)) for channel in colour)
    return red, green, blue


def _darker(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _facing_layer(radius: float, rng: np.random.Generator) -> Layer:
    """A patch for a flower that looks more or less at the camera."""
    return blank_layer(radius, 1.15, squash=rng.uniform(0.55, 1.0), tilt=rng.uniform(0, np.pi))


def _rays(layer: Layer, count: int, length: float, width: float, belly: float, blunt: float, colour: Colour,
          base: Colour, light: float, rng: np.random.Generator) -> None:  # fmt: skip
    """A ring of petals around the centre, each a little different, painted in random order."""
    turn = rng.uniform(0, 2 * np.pi)
    for k in rng.permutation(count):
        petal = Petal(
            angle=turn + 2 * np.pi * k / count + rng.normal(0, 0.25 / count * 2),
            length=length * rng.uniform(0.9, 1.04),
            width=width * rng.uniform(0.88, 1.1),
            belly=belly,
            blunt=blunt,
            colour=_varied(colour, rng),
            base_colour=base,
        )
        paint_petal(layer, petal, light)


def _daisy(radius: float, colour: Colour, light: float, rng: np.random.Generator) -> tuple[Layer, float]:
    """Many narrow, blunt rays around a small bright disc."""
    layer = _facing_layer(radius, rng)
    count = int(rng.integers(12, 22))
    width = 2.3 * np.pi / count * rng.uniform(0.5, 0.68)
    for length, tint in ((1.0, 0.88), (0.93, 1.0)):
        _rays(layer, count, length, width, 0.72, 0.22, _darker(colour, tint), _darker(colour, 0.8), light, rng)
    heart = colorsys.hsv_to_rgb(rng.uniform(0.10, 0.15), rng.uniform(0.75, 1.0), rng.uniform(0.8, 1.0))
    paint_disc(layer, rng.uniform(0.20, 0.30), heart, _darker(heart, 0.75), int(rng.integers(40, 70)), light)
    return layer, np.pi / 2


def _sunflower(radius: float, colour: Colour, light: float, rng: np.random.Generator) -> tuple[Layer, float]:
    """Two rings of pointed rays around a wide dark disc of seeds."""
    layer = _facing_layer(radius, rng)
    count = int(rng.integers(15, 24))
    width = 2.3 * np.pi / count * rng.uniform(0.8, 1.0)
    for length, tint in ((1.0, 0.82), (0.92, 1.0)):
        _rays(layer, count, length, width, 0.55, 0.8, _darker(colour, tint), _darker(colour, 0.7), light, rng)
    seeds = colorsys.hsv_to_rgb(rng.uniform(0.04, 0.12), rng.uniform(0.5, 0.8), rng.uniform(0.22, 0.42))
    rim = colorsys.hsv_to_rgb(rng.uniform(0.06, 0.12), 0.7, rng.uniform(0.3, 0.6))
    paint_disc(layer, rng.uniform(0.42, 0.55), seeds, rim, int(rng.integers(120, 200)), light)
    return layer, np.pi / 2


def _rose(radius: float, colour: Colour, light: float, rng: np.random.Generator) -> tuple[Layer, float]:
    """Wide petals in rings that shrink towards a tight, dark heart; each ring lies on the one outside of it."""
    layer = _facing_layer(radius, rng)
    turn = rng.uniform(0, 2 * np.pi)
    rings = int(rng.integers(5, 8))
    for ring in range(rings):
        share = 1.0 - ring / rings
        count = max(2, round(3 + 3 * share))
        depth = 0.62 + 0.38 * share
        for k in rng.permutation(count):
            angle = turn + 2 * np.pi * k / count + rng.normal(0, 0.12)
            # Each petal is a wide blade whose base lies beyond the centre, so rings close over one another.
            back = 0.35 * share
            petal = Petal(
                angle=angle,
                length=(share + back) * rng.uniform(0.92, 1.02),
                width=1.35 * share * rng.uniform(0.85, 1.1),
                belly=0.68,
                blunt=0.30,
                colour=_varied(_darker(colour, depth), rng, 0.08),
                base_colour=_darker(colour, depth * 0.55),
                rim=0.30,
                origin=(-back * np.cos(angle), -back * np.sin(angle)),
            )
            paint_petal(layer, petal, light, shadow=0.5)
        turn += np.pi * (3.0 - np.sqrt(5.0))
    return layer, np.pi / 2


def _tulip(radius: float, colour: Colour, light: float, rng: np.random.Generator) -> tuple[Layer, float]:
    """A cup seen from the side: petals rise from one base, the back ones darker."""
    layer = blank_layer(radius, 1.25, squash=1.0, tilt=0.0)
    lean = rng.normal(0, 0.28)
    spread = rng.uniform(0.16, 0.42)
    up = -np.pi / 2 + lean
    base = (-0.95 * np.cos(up), -0.95 * np.sin(up))
    foot = _darker(colour, 0.6) if rng.random() < 0.6 else (0.75, 0.8, 0.4)
    width = rng.uniform(0.78, 0.98)
    back = [(offset, 0.72, 1.9) for offset in (-0.9, 0.9, 0.0)]
    front = [(offset, 0.95, 1.78) for offset in (-1.35, 1.35)] + [(rng.uniform(-0.3, 0.3), 1.0, 1.66)]
    for offset, tint, length in back + front:
        petal = Petal(
            angle=up + offset * spread,
            length=length * rng.uniform(0.94, 1.04),
            width=width * rng.uniform(0.9, 1.08),
            belly=0.46,
            blunt=0.62,
            colour=_varied(_darker(colour, tint), rng),
            base_colour=_darker(foot, tint),
            rim=0.12,
            origin=base,
        )
        paint_petal(layer, petal, light, shadow=0.4)
    return layer, up + np.pi


PAINTERS: dict[str, Callable[[float, Colour, float, np.random.Generator], tuple[Layer, float]]] = {
    "daisy": _daisy,
    "rose": _rose,
    "sunflower": _sunflower,
    "tulip": _tulip,
}
