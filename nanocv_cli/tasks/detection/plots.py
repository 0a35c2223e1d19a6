"""Precision over recall, class by class, as an image."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from nanocv_cli.charts import in_chart, save_chart

if TYPE_CHECKING:
    from nanocv_cli.tasks.detection.metrics import Curves

IOU_50, IOU_75 = 0, 5
MOST_CLASSES = 20


def draw_precision_recall(curves: "Curves", classes: tuple[str, ...], path: Path) -> Path:
    """Draws one curve per class at IoU 0.5, solid, and at 0.75, dotted.

    Args:
        curves: of the split.
        classes: class names in label order; of more than twenty only the mean is drawn.
        path: PNG to write.
    """
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.add_subplot()
    recalls = np.linspace(0.0, 1.0, 101)
    shown = [label for label in range(len(classes)) if curves.precision[IOU_50, 0, label, 0] > -1]
    for place, label in enumerate(shown if len(shown) <= MOST_CLASSES else []):
        colour = f"C{place % 10}"
        for row, style, width in ((IOU_50, "-", 1.8), (IOU_75, ":", 1.3)):
            precision = curves.precision[row, :, label, 0]
            name = f"{in_chart(classes[label])}  AP50 {precision.mean():.3f}" if row == IOU_50 else None
            axes.plot(recalls, precision, style, color=colour, linewidth=width, label=name)
    if shown:
        mean = curves.precision[IOU_50][:, shown, 0].mean(1)
        axes.plot(recalls, mean, color="k", linewidth=2.4, alpha=0.6, label=f"mean  AP50 {mean.mean():.3f}")
        axes.plot([], [], "k:", label="at IoU 0.75")
        axes.legend(loc="lower left", fontsize=9)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.03), title="detections at IoU 0.5")
    axes.grid(alpha=0.3)
    return save_chart(figure, path)
