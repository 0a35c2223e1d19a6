"""The one brush of the set: a shaded petal (or leaf) painted over what lies below it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
Colour = tuple[float, float, float]

SHADOW_WIDTH = 0.12  # of what a petal throws on what lies below it, flower radii


@dataclass
class Layer:
    """A square patch that is painted on.

    Attributes:
        x: float32 [S, S], rightward coordinate of each pixel; the flower's radius is 1.
        y: float32 [S, S], downward coordinate.
        pixel: one pixel's width in the same unit.
        colour: float32 [S, S, 3] in 0..1.
        alpha: float32 [S, S], 0..1.
        to_pixels: [2, 2], pixels right and down of the centre for a step along x and along y.
    """

    x: Pixels
    y: Pixels
    pixel: float
    colour: Pixels
    alpha: Pixels
    to_pixels: NDArray[np.float64]

    def window(self, corners: NDArray[np.float64]) -> tuple[slice, slice]:
        """Rows and columns that hold all points float64 [n, 2] (x, y), and a pixel more."""
        side, half = len(self.x), len(self.x) // 2
        spots = corners @ self.to_pixels.T + half
        low = np.clip(np.floor(spots.min(0)).astype(int) - 1, 0, side)
        high = np.clip(np.ceil(spots.max(0)).astype(int) + 2, 0, side)
        return slice(low[1], high[1]), slice(low[0], high[0])


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
    x, y = np.meshgrid(axis, axis)
    cos, sin = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
    along, across = (x * cos + y * sin) / np.float32(squash), y * cos - x * sin
    shape = (*x.shape, 3)
    turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    return Layer(
        along * cos - across * sin,
        along * sin + across * cos,
        1.0 / radius,
        np.zeros(shape, np.float32),
        np.zeros(x.shape, np.float32),
        radius * turn.T @ np.diag([squash, 1.0]) @ turn,
    )


@dataclass(frozen=True)
class Petal:
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
    window = _reach(layer, petal)
    ground, covered = layer.colour[window], layer.alpha[window]
    cos, sin = np.float32(np.cos(petal.angle)), np.float32(np.sin(petal.angle))
    dx, dy = layer.x[window] - np.float32(petal.origin[0]), layer.y[window] - np.float32(petal.origin[1])
    along = (dx * cos + dy * sin) / np.float32(petal.length)
    across = dy * cos - dx * sin
    inside = np.clip(along, 1e-3, 1.0 - 1e-3)
    # A beta curve: zero at base and tip, widest at `belly`.
    rise = petal.blunt * petal.belly / (1.0 - petal.belly)
    peak = petal.belly**rise * (1.0 - petal.belly) ** petal.blunt
    half_width = np.float32(petal.width / 2 / peak) * inside**rise * (1.0 - inside) ** petal.blunt
    half_width = np.where((along > 0.0) & (along < 1.0), half_width, np.float32(-1.0))
    distance = half_width - np.abs(across)

    veil = np.clip(distance / np.float32(SHADOW_WIDTH) + 1.0, 0.0, 1.0) * np.float32(shadow)
    ground *= (1.0 - veil * (distance < 0))[..., None]

    cover = np.clip(distance / np.float32(layer.pixel) + 0.5, 0.0, 1.0)
    side = across / np.maximum(half_width, np.float32(1e-3))
    blend = np.clip(inside, 0.0, 1.0)[..., None]
    colour = np.asarray(petal.base_colour, np.float32) * (1.0 - blend) + np.asarray(petal.colour, np.float32) * blend
    facing = np.float32(np.sin(light - petal.angle))
    shade = 1.0 - 0.22 * side**2 + 0.12 * facing * side + 0.035 * np.cos(side * 9.0)
    shade += np.float32(petal.rim) * np.clip((inside - 0.72) / 0.28, 0.0, 1.0) ** 2
    painted = colour * shade[..., None]
    ground += (painted - ground) * cover[..., None]
    np.maximum(covered, cover, out=covered)


def _reach(layer: Layer, petal: Petal) -> tuple[slice, slice]:
    """The part of the layer that a petal or its shadow changes: no other pixel need be looked at."""
    tip = np.array([np.cos(petal.angle), np.sin(petal.angle)])
    side = np.array([-tip[1], tip[0]]) * (petal.width / 2 + SHADOW_WIDTH + layer.pixel)
    base = np.array(petal.origin)
    end = base + petal.length * tip
    return layer.window(np.stack([base - side, base + side, end - side, end + side]))


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
    distance = np.hypot(layer.x, layer.y)
    cover = np.clip((radius - distance) / np.float32(layer.pixel) + 0.5, 0.0, 1.0)
    share = np.clip(distance / np.float32(radius), 0.0, 1.0)
    blend = share[..., None] ** 2
    dome = np.asarray(colour, np.float32) * (1.0 - blend) + np.asarray(rim, np.float32) * blend
    k = np.arange(seeds, dtype=np.float32)
    reach = np.float32(radius) * np.sqrt((k + 0.5) / np.float32(seeds))
    angle = k * np.float32(np.pi * (3.0 - np.sqrt(5.0)))
    seed_x, seed_y = reach * np.cos(angle), reach * np.sin(angle)
    inside = cover > 0.0
    gaps = np.hypot(layer.x[inside][:, None] - seed_x, layer.y[inside][:, None] - seed_y).min(1)
    grain = np.zeros_like(distance)
    grain[inside] = 1.0 - np.clip(gaps / np.float32(radius * 0.9 / np.sqrt(seeds)), 0.0, 1.0)
    lit = (layer.x * np.float32(np.cos(light)) + layer.y * np.float32(np.sin(light))) / np.float32(radius)
    shade = 0.72 + 0.5 * grain + 0.18 * np.clip(lit, -1.0, 1.0)
    veil = np.clip((radius * 1.18 - distance) / np.float32(radius * 0.18), 0.0, 1.0) * 0.4
    layer.colour *= (1.0 - veil * (1.0 - cover))[..., None]
    layer.colour += (dome * shade[..., None] - layer.colour) * cover[..., None]
    np.maximum(layer.alpha, cover, out=layer.alpha)
