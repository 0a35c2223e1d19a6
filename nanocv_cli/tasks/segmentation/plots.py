"""Images beside their labels and answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from nanocv_cli.files import save_chart
from nanocv_cli.images.drawing import BACKGROUND, class_colour, overlay_classes
from nanocv_cli.untrusted import in_chart

if TYPE_CHECKING:
    from nanocv_cli.tasks.segmentation.metrics import Evaluated

OPACITY = 0.6
COLUMNS = ("image", "labels", "answer")


def draw_overlays(
    evaluated: Sequence["Evaluated"], images: NDArray[np.uint8], classes: tuple[str, ...], path: Path
) -> Path:
    """Draws images, their labels and their answers side by side, two images to a row.

    Args:
        evaluated: the images, at least one.
        images: uint8 [n,S,S,3] of the split.
        classes: class names in label order; a class `background` stays clear.
        path: PNG to write.
    """
    rows = -(-len(evaluated) // 2)
    figure = Figure(figsize=(2.3 * 6, 2.45 * rows + 0.7), layout="constrained")
    grid = figure.subplots(rows, 6, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    for place, entry in enumerate(evaluated):
        own = grid[place // 2, 3 * (place % 2) : 3 * (place % 2) + 3]
        image = images[entry.number]
        titles = (*COLUMNS[:2], f"{COLUMNS[2]}: {entry.right:.0%} right")
        masks = (overlay_classes(image, mask, classes, OPACITY, OPACITY) for mask in (entry.truth, entry.answer))
        for axes, title, panel in zip(own, titles, (image, *masks), strict=True):
            axes.imshow(panel)
            axes.set_title(title, fontsize=9)
    present = {int(label) for entry in evaluated for mask in (entry.truth, entry.answer) for label in np.unique(mask)}
    handles = [
        Patch(color=f"#{bytes(class_colour(label)).hex()}", label=in_chart(name))
        for label, name in enumerate(classes)
        if label in present and name != BACKGROUND
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(8, len(handles)), fontsize=9)
    return save_chart(figure, path, dpi=110)
