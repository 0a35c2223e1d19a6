"""Lines over an axis as inline SVG; the page's script reads the figures under the pointer from its attributes."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from nanocv_cli.report.markup import Html, element, figure_text, joined
from nanocv_cli.untrusted import escaped

WIDTH, HEIGHT = 460.0, 270.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 20.0, 10.0, 40.0
TICKS = 5
COLOURS = 10  # of the style sheet: line-0 to line-9
STEPS = (1.0, 2.0, 5.0, 10.0)
MOST_DOTS = 40


@dataclass(frozen=True)
class Line:
    """A named line; points are x and y, from left to right."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` laid over pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """Where a value lies, pixels."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values, about `TICKS` of them."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(step * power for step in STEPS if step * power >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def spread(values: Sequence[float], is_share: bool = False) -> tuple[float, float]:
    """Bounds of an axis that shows all values: a little room around them, shares within 0 and 1."""
    low, high = min(values), max(values)
    # Values that differ by a rounding error are drawn as the one value that they are.
    is_one = high - low <= 1e-9 * max(abs(low), abs(high))
    room = 0.05 * (abs(high) or 1.0) if is_one else 0.06 * (high - low)
    return (max(0.0, low - room), min(1.0, high + room)) if is_share and high > 0.0 else (low - room, high + room)


def line_chart(
    title: str, across: str, lines: Sequence[Line], bounds: tuple[float, float], whole_steps: bool = False
) -> Html:
    """A chart with its legend.

    Args:
        title: what the lines show.
        across: name of the horizontal axis.
        lines: at least one with a point.
        bounds: of the vertical axis.
        whole_steps: whether the horizontal axis counts.
    """
    xs = sorted({x for line in lines for x, _ in line.points})
    low, high = (xs[0], xs[-1]) if xs[0] < xs[-1] else (xs[0] - 0.5, xs[0] + 0.5)
    horizontal = Axis(low, high, LEFT, WIDTH - RIGHT)
    vertical = Axis(bounds[0], bounds[1] if bounds[1] > bounds[0] else bounds[0] + 1.0, HEIGHT - BOTTOM, TOP)
    drawn = element(
        "svg",
        _grid(horizontal, vertical, whole_steps),
        *(_line(line, number, horizontal, vertical) for number, line in enumerate(lines)),
        element("text", across, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 6, class_="axis"),
        element("g", class_="cursor"),
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        tabindex="0",
        aria_label=f"{title}; arrow keys read the figures",
        data_chart=_figures(across, lines, xs, horizontal, vertical),
    )
    return element("figure", element("figcaption", title), drawn, legend([line.name for line in lines]), class_="chart")


def legend(names: Sequence[str]) -> Html:
    """Names with the colours of their lines."""
    swatches = [
        element(
            "li",
            element("svg", element("rect", width=12, height=12, rx=3), class_=_colour(number), viewBox="0 0 12 12"),
            name,
        )
        for number, name in enumerate(names)
    ]
    return element("ul", *swatches, class_="legend")


def _colour(number: int) -> str:
    return f"line-{number % COLOURS}"


def _grid(horizontal: Axis, vertical: Axis, whole_steps: bool) -> Html:
    parts = []
    for tick in vertical.ticks():
        y = vertical.place(tick)
        parts += [
            element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"),
            element("text", f"{tick:.4g}", x=LEFT - 6, y=y + 4, class_="tick left"),
        ]
    for tick in horizontal.ticks():
        if whole_steps and tick != round(tick):
            continue
        x = horizontal.place(tick)
        parts += [
            element("line", x1=x, x2=x, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM + 4, class_="grid"),
            element("text", f"{tick:.4g}", x=x, y=HEIGHT - BOTTOM + 17, class_="tick"),
        ]
    return joined(parts)


def _line(line: Line, number: int, horizontal: Axis, vertical: Axis) -> Html:
    places = [(horizontal.place(x), vertical.place(y)) for x, y in line.points]
    way = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places) if places else None
    dots = places if len(places) <= MOST_DOTS else ()
    return element(
        "g",
        element("path", d=way, class_="way") if way else None,
        *(element("circle", cx=round(x, 1), cy=round(y, 1), r=2.5) for x, y in dots),
        class_=_colour(number),
    )


def _figures(across: str, lines: Sequence[Line], xs: Sequence[float], horizontal: Axis, vertical: Axis) -> str:
    """What the script shows: for every place on the axis its name and pixel, for every line its figure and pixel."""
    told = []
    for line in lines:
        at = dict(line.points)
        told.append(
            {
                "name": escaped(line.name),
                "texts": [figure_text(at[x]) if x in at else None for x in xs],
                "ys": [round(vertical.place(at[x]), 1) if x in at else None for x in xs],
            }
        )
    document = {
        "across": across,
        "texts": [f"{x:g}" for x in xs],
        "xs": [round(horizontal.place(x), 1) for x in xs],
        "top": TOP,
        "bottom": HEIGHT - BOTTOM,
        "lines": told,
    }
    return json.dumps(document)
