"""The one brush of the set: a shaded petal (or leaf) painted over what lies below it."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
Colour = tuple[float, float, float]

SHADOW_WIDTH = 0.12  # of what a petal throws on what lies below it, flower radii
# float32 of no dimensions: NumPy would convert Python's own numbers anew at each of the many small steps of a petal.
ZERO, HALF, ONE = np.array(0.0, np.float32), np.array(0.5, np.float32), np.array(1.0, np.float32)
FIRST, LAST = np.array(1e-3, np.float32), np.array(1.0 - 1e-3, np.float32)  # of a petal's length, as it is shaded
ROUNDING, LEAN = np.array(0.22, np.float32), np.array(0.12, np.float32)  # light lost at the sides, and gained at one
VEINS, VEIN_DEPTH = np.array(9.0, np.float32), np.array(0.035, np.float32)
CURL_START, CURL_LENGTH = np.array(0.72, np.float32), np.array(0.28, np.float32)


@dataclass
class Layer:
    """A square patch that is painted on.

    Attributes:
        x: float32 [S, S], rightward coordinate of each pixel; the flower's radius is 1.
        y: float32 [S, S], downward coordinate.
        pixel: one pixel's width in the same unit.
        colour: float32 [3, S, S] in 0..1. One plane per channel: rows of three values would be slow to compute with.
        alpha: float32 [S, S], 0..1.
        places: int64 [S, S], each pixel's place in a plane.
        to_pixels: pixels right of the centre for a step along x and along y, and pixels down of it.
    """

    x: Pixels
    y: Pixels
    pixel: float
    colour: Pixels
    alpha: Pixels
    places: NDArray[np.int64]
    to_pixels: tuple[tuple[float, float], tuple[float, float]]

    def window(
        self, start: tuple[float, float], end: tuple[float, float], side: tuple[float, float]
    ) -> tuple[slice, slice]:
        """Rows and columns that hold the strip from `start` to `end` that reaches `side` to both sides, and more."""
        # For so few numbers Python's own arithmetic is faster than an array's.
        (right_x, right_y), (down_x, down_y) = self.to_pixels
        rights = [right_x * x + right_y * y for x, y in (start, end, side)]
        downs = [down_x * x + down_y * y for x, y in (start, end, side)]
        return self._span(*downs), self._span(*rights)

    def _span(self, start: float, end: float, side: float) -> slice:
        size, half = len(self.x), len(self.x) // 2
        low, high = math.floor(min(start, end) - abs(side)) - 1, math.ceil(max(start, end) + abs(side)) + 2
        return slice(min(max(low + half, 0), size), min(max(high + half, 0), size))


def blank_layer(radius: float, reach: float, squash: float, tilt: float) -> Layer:
    """An empty patch for a flower seen from an angle.

    Args:
        radius: of the flower, pixels.
        reach: half the patch's side, in radii.
        squash: foreshortening along one axis, 0..1; 1 is seen from the front.
        tilt: direction of that axis, radians.
    """
    half = int(np.ceil(radius * reach)) + 1
    axis = np.arange(-half, half + 1, dtype=np.float32) / np.float32(radius)
    x, y = np.meshgrid(axis, axis, sparse=True)
    cos, sin = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
    along, across = (x * cos + y * sin) / np.float32(squash), y * cos - x * sin
    turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    (xx, xy), (yx, yy) = (radius * turn.T @ np.diag([squash, 1.0]) @ turn).tolist()
    return Layer(
        along * cos - across * sin,
        along * sin + across * cos,
        1.0 / radius,
        np.zeros((3, *along.shape), np.float32),
        np.zeros(along.shape, np.float32),
        np.arange(along.size).reshape(along.shape),
        ((xx, xy), (yx, yy)),
    )


class Petal(NamedTuple):
    """A petal's shape and shading; lengths in flower radii.

    Attributes:
        angle: direction it points to, radians clockwise from rightward.
        length: from base to tip.
        width: at its widest.
        belly: where along its length it is widest, 0..1: small for drops, large for spoons.
        blunt: how round the tip is: 0.25 for spoons, 1 for points.
        colour: at the tip.
        base_colour: at the base.
        rim: how much the tip's edge is lit, as where a petal curls.
        origin: of the base.
    """

    angle: float
    length: float
    width: float
    belly: float
    blunt: float
    colour: Colour
    base_colour: Colour
    rim: float = 0.0
    origin: tuple[float, float] = (0.0, 0.0)


def paint_petal(layer: Layer, petal: Petal, light: float, shadow: float = 0.35) -> None:
    """Paints a petal over the layer: a soft shadow first, then the petal with rounding, veins and light.

    Args:
        layer: changed in place.
        petal: what to paint.
        light: direction the light comes from, radians.
        shadow: how dark the shadow on what lies below is, 0..1.
    """
    rows, columns = _reach(layer, petal)
    cos, sin = np.float32(np.cos(petal.angle)), np.float32(np.sin(petal.angle))
    x = layer.x[rows, columns] - np.float32(petal.origin[0])
    y = layer.y[rows, columns] - np.float32(petal.origin[1])
    along = x * cos
    along += y * sin
    along /= np.float32(petal.length)
    x *= sin
    y *= cos
    across = np.subtract(y, x, out=y)
    # A petal is a slanted strip of its window: what lies beside it is left out of all that follows.
    near = np.abs(across, out=x) < np.float32(petal.width / 2 + SHADOW_WIDTH + layer.pixel)
    near &= along > ZERO
    near &= along < ONE
    kept = np.flatnonzero(near)
    along, across = along.ravel().take(kept), across.ravel().take(kept)
    places = layer.places[rows, columns].ravel().take(kept)
    colours, alpha = layer.colour.reshape(3, -1), layer.alpha.reshape(-1)
    ground = colours.take(places, axis=1)

    inside = np.minimum(np.maximum(along, FIRST, out=along), LAST, out=along)
    outside = ONE - inside
    # A beta curve: zero at base and tip, widest at `belly`.
    rise = petal.blunt * petal.belly / (1.0 - petal.belly)
    peak = petal.belly**rise * (1.0 - petal.belly) ** petal.blunt
    half_width = inside**rise
    half_width *= np.float32(petal.width / 2 / peak)
    half_width *= outside**petal.blunt
    distance = half_width - np.abs(across)

    veil = distance / np.float32(SHADOW_WIDTH)
    veil += ONE
    np.maximum(veil, ZERO, out=veil)
    veil *= np.float32(shadow)
    veil *= distance < ZERO
    ground *= np.subtract(ONE, veil, out=veil)

    distance /= np.float32(layer.pixel)
    distance += HALF
    cover = np.minimum(np.maximum(distance, ZERO, out=distance), ONE, out=distance)
    side = np.divide(across, np.maximum(half_width, FIRST, out=half_width), out=across)
    facing = np.float32(np.sin(light - petal.angle))
    shade = ONE - ROUNDING * side**2 + LEAN * facing * side + VEIN_DEPTH * np.cos(side * VEINS)
    if petal.rim:
        curl = (inside - CURL_START) / CURL_LENGTH
        np.maximum(curl, ZERO, out=curl)
        shade += np.float32(petal.rim) * curl**2
    base, tip = np.array(petal.base_colour, np.float32), np.array(petal.colour, np.float32)
    change = base[:, None] * outside
    change += tip[:, None] * inside
    change *= shade
    change -= ground
    change *= cover
    ground += change
    for plane, values in zip(colours, ground, strict=True):
        plane[places] = values
    alpha[places] = np.maximum(alpha.take(places), cover)


def _reach(layer: Layer, petal: Petal) -> tuple[slice, slice]:
    """The part of the layer that a petal or its shadow changes: no other pixel need be looked at."""
    across, along = math.sin(petal.angle), math.cos(petal.angle)
    half = petal.width / 2 + SHADOW_WIDTH + layer.pixel
    x, y = petal.origin
    end = (x + petal.length * along, y + petal.length * across)
    return layer.window((x, y), end, (-across * half, along * half))


def paint_disc(layer: Layer, radius: float, colour: Colour, rim: Colour, seeds: int, light: float) -> None:
    """Paints a domed centre with florets on a sunflower spiral (Vogel's model: angle 137.5 degrees, r ~ sqrt k).

    Args:
        layer: changed in place.
        radius: of the disc, flower radii.
        colour: in the middle.
        rim: at the edge.
        seeds: number of florets.
        light: direction the light comes from, radians.
    """
    edge = radius * 1.18  # of the shadow
    rows, columns = layer.window((-edge, 0.0), (edge, 0.0), (0.0, edge))
    x, y, ground = layer.x[rows, columns], layer.y[rows, columns], layer.colour[:, rows, columns]
    distance = np.hypot(x, y)
    cover = np.clip((radius - distance) / np.float32(layer.pixel) + 0.5, 0.0, 1.0)
    blend = np.clip(distance / np.float32(radius), 0.0, 1.0) ** 2
    middle, edge_colour = np.array(colour, np.float32), np.array(rim, np.float32)
    dome = middle[:, None, None] * (1.0 - blend) + edge_colour[:, None, None] * blend
    lit = (x * np.float32(np.cos(light)) + y * np.float32(np.sin(light))) / np.float32(radius)
    grain = _grain(layer, radius, seeds)[rows, columns]
    shade = 0.72 + 0.5 * grain + 0.18 * np.clip(lit, -1.0, 1.0)
    veil = np.clip((edge - distance) / np.float32(radius * 0.18), 0.0, 1.0) * 0.4
    ground *= 1.0 - veil * (1.0 - cover)
    ground += (dome * shade - ground) * cover
    np.maximum(layer.alpha[rows, columns], cover, out=layer.alpha[rows, columns])


def _grain(layer: Layer, radius: float, seeds: int) -> Pixels:
    """How near each pixel is to a floret: float32 [S, S]; 1 in its middle, 0 where none is near."""
    k = np.arange(seeds, dtype=np.float32)
    reach = np.float32(radius) * np.sqrt((k + 0.5) / np.float32(seeds))
    angle = k * np.float32(np.pi * (3.0 - np.sqrt(5.0)))
    x, y = (reach * np.cos(angle))[:, None, None], (reach * np.sin(angle))[:, None, None]
    size = np.float32(radius * 0.9 / np.sqrt(seeds))
    # Only the pixels around a floret are asked how far it is: [seeds, rows, columns].
    (right_x, right_y), (down_x, down_y) = layer.to_pixels
    side, near = len(layer.x), math.ceil(size / layer.pixel) + 1
    around = np.arange(-near, near + 1) + side // 2
    columns = np.clip(np.rint(right_x * x + right_y * y).astype(int) + around, 0, side - 1)
    rows = np.clip(np.rint(down_x * x + down_y * y).astype(int) + around[:, None], 0, side - 1)
    places = (rows * side + columns).ravel()
    to_right, down = (plane.take(places).reshape(seeds, -1) for plane in (layer.x, layer.y))
    gaps = np.hypot(to_right - x[:, 0], down - y[:, 0])
    grain = np.zeros(side * side, np.float32)
    np.maximum.at(grain, places, 1.0 - np.clip(gaps / size, 0.0, 1.0).ravel())
    return grain.reshape(side, side)
