"""What an evaluator has to show, as markup: matrices as tables, curves as charts, images inside the page."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nanocv_cli.images.resize import open_image
from nanocv_cli.report.line_chart import Line, line_chart
from nanocv_cli.report.markup import Html, element, joined, note, table
from nanocv_cli.report.section import attempt
from nanocv_cli.tasks.exhibits import Captioned, Curves, Exhibits, Gallery, Matrix

MOST_CLASSES = 30  # of a matrix that is shown whole
MOST_CONFUSIONS = 10
SHADES = 10
MOST_LINES = 20
QUALITY = 86  # of JPEG
TINY = 96  # pixels; a smaller image is enlarged without being smoothed


def figures_markup(exhibits: Exhibits) -> list[Html]:
    """Matrices and curves."""
    return [matrix_markup(matrix) for matrix in exhibits.matrices] + [curves_markup(each) for each in exhibits.curves]


def matrix_markup(matrix: Matrix) -> Html:
    """The matrix, if it can be taken in, and the most frequent confusions in words."""
    parts: list[Html] = [element("h3", matrix.title)]
    shares = matrix.counts / np.maximum(matrix.counts.sum(1, keepdims=True), 1)
    if len(matrix.names) <= MOST_CLASSES:
        head = element("tr", element("td"), *(element("th", name, scope="col") for name in matrix.names))
        rows = [
            element("tr", element("th", name, scope="row"), *(
                element("td", _cell_text(matrix, shares, row, column), class_=f"shade-{_shade(shares[row, column])}")
                for column in range(len(matrix.names))))
            for row, name in enumerate(matrix.names)
        ]  # fmt: skip
        caption = element("caption", "Rows: the true class; columns: the answer" + _unit(matrix))
        whole = element("table", caption, element("thead", head), element("tbody", *rows), class_="matrix")
        parts.append(element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=matrix.title))
    if confusions := _confusions(matrix, shares):
        parts.append(element("h3", "Most frequent confusions"))
        parts.append(table(["is", "answer", "share of the class", "count"], confusions, words=(0, 1)))
    return joined(parts)


def _unit(matrix: Matrix) -> str:
    return ", % of the row" if matrix.are_many else ""


def _cell_text(matrix: Matrix, shares: NDArray[np.float64], row: int, column: int) -> str:
    if not matrix.counts[row, column]:
        return "·"
    return f"{100 * shares[row, column]:.1f}" if matrix.are_many else f"{matrix.counts[row, column]:,}"


def _shade(share: float) -> int:
    """A class of the style sheet; the least share is seen."""
    return 0 if share == 0 else max(1, round(share * SHADES))


def _confusions(matrix: Matrix, shares: NDArray[np.float64]) -> list[tuple[object, ...]]:
    off = matrix.counts.copy()
    np.fill_diagonal(off, 0)
    places = np.argsort(-off, axis=None, kind="stable")[:MOST_CONFUSIONS]
    return [
        (matrix.names[row], matrix.names[column], f"{shares[row, column]:.1%}", int(off[row, column]))
        for row, column in zip(*np.unravel_index(places, off.shape), strict=True)
        if off[row, column]
    ]


def curves_markup(curves: Curves) -> Html:
    """Lines between 0 and 1; of too many to be told apart their mean alone."""
    lines = [Line(curve.name, _points(curve.across, curve.up)) for curve in curves.curves]
    if len(lines) > MOST_LINES:
        mean = np.mean([curve.up for curve in curves.curves], axis=0)
        lines = [Line(f"mean of {len(lines)}", _points(curves.curves[0].across, mean))]
    chart = line_chart(curves.title, curves.across, lines, (0.0, 1.02))
    return element("div", chart, class_="pair")


def _points(across: NDArray[np.float64], up: NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    return tuple((float(x), float(y)) for x, y in zip(across, up, strict=True))


def gallery_markup(gallery: Gallery) -> Html:
    """The images with their captions."""
    return joined(
        [
            element("h3", gallery.title),
            note(f"From left to right: {', '.join(gallery.parts)}.") if gallery.parts else "",
            _colours(gallery.colours) if gallery.colours else "",
            element("div", *map(_captioned, gallery.images), class_=_layout(gallery)),
        ]
    )


def _layout(gallery: Gallery) -> str:
    is_small = all(len(shown.image) <= TINY for shown in gallery.images)
    return f"gallery{' small' if is_small else ''} parts-{len(gallery.parts)}"


def _colours(colours: Sequence[tuple[str, str]]) -> Html:
    swatches = [
        element(
            "li", element("svg", element("rect", width=12, height=12, rx=3, fill=colour), viewBox="0 0 12 12"), name
        )
        for name, colour in colours
    ]
    return element("ul", *swatches, class_="legend")


def _captioned(shown: Captioned) -> Html:
    lines = [element("span", line) for line in shown.lines]
    return element(
        "figure",
        image_markup(shown.image, "; ".join(shown.lines) or "image"),
        element("figcaption", *lines) if lines else None,
    )


def image_markup(image: NDArray[np.uint8], words: str) -> Html:
    """An image uint8 [H,W,3] inside the page.

    Args:
        image: of any size.
        words: what it shows, for who cannot see it.
    """
    height, width = image.shape[:2]
    is_tiny = height <= TINY
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG" if is_tiny else "JPEG", quality=QUALITY)
    kind = "png" if is_tiny else "jpeg"
    source = f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
    return element("img", src=source, alt=words, width=width, height=height, class_="tiny" if is_tiny else None)


def file_markup(path: Path) -> Html:
    """An image of a run folder inside the page, or why it cannot be."""
    found = attempt(lambda: open_image(path))
    return note(found.why_not) if found.value is None else image_markup(found.value, path.stem.replace("_", " "))


def galleries_markup(galleries: Sequence[Gallery]) -> Html:
    """All of them."""
    return joined(map(gallery_markup, galleries))
