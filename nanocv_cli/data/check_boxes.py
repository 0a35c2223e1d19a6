"""What is wrong with boxes: outside the image, without area, drawn twice, crowds and difficult objects."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from nanocv_cli.data.boxes import Boxes
from nanocv_cli.data.dataset import Sample
from nanocv_cli.data.problem import Problem

# Annotations may round to a whole pixel beyond the edge.
TOLERANCE = 1.0


def check_boxes(split: str, sample: Sample[Any], size: tuple[int, int]) -> Iterator[Problem]:
    """Looks at one image's boxes; a label that is no `Boxes` has none.

    Args:
        split: of the sample.
        sample: the image and its label.
        size: width and height of the image's file.
    """
    boxes = sample.label
    if not isinstance(boxes, Boxes):
        return

    def finding(level: str, kind: str, what: str) -> Problem:
        return Problem(level, kind, f"{split}: {sample.path}: {what}", (str(sample.path),))

    if boxes.size != size:
        yield finding("error", "size", f"annotated for {boxes.size[0]}x{boxes.size[1]} pixels, is {size[0]}x{size[1]}")
    width, height = boxes.size
    for number, (x0, y0, x1, y1) in enumerate(boxes.corners, start=1):
        place = f"box {number} ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
        if x1 <= x0 or y1 <= y0:
            yield finding("error", "no_area", f"{place} has no area")
        elif x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
            yield finding("error", "outside", f"{place} lies outside the image")
        elif min(x0, y0) < -TOLERANCE or x1 > width + TOLERANCE or y1 > height + TOLERANCE:
            yield finding("warning", "border", f"{place} reaches over the image's edge and is cut there")
    twice = [entry for entry, count in Counter(zip(boxes.corners, boxes.labels, strict=True)).items() if count > 1]
    for (x0, y0, x1, y1), _ in twice:
        yield finding("warning", "twice", f"the box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) is there more than once")


def count_boxes(split: str, samples: tuple[Sample[Any], ...]) -> Iterator[Problem]:
    """What is no mistake but good to know: how many images have no object, how many objects are left alone."""
    labels = [sample.label for sample in samples if isinstance(sample.label, Boxes)]
    counts = {
        "empty": (sum(not label.corners for label in labels), "images without an object"),
        "crowd": (sum(sum(label.crowd) for label in labels), "boxes of crowds, neither learnt nor counted as missed"),
        "difficult": (sum(sum(label.difficult) for label in labels), "difficult objects, treated like crowds"),
    }
    for kind, (count, what) in counts.items():
        if count:
            yield Problem("warning", kind, f"{split}: {count} {what}")
