"""A tiny set of boxed objects: coloured rectangles on grey, in COCO's format."""

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"blue": (40, 60, 220), "red": (220, 40, 50)}


def write_boxed_set(folder: Path, counts: dict[str, int], size: tuple[int, int] = (96, 64)) -> Path:
    """Writes images of one to three rectangles; every seventh image is empty."""
    random = np.random.default_rng(0)
    width, height = size
    for split, count in counts.items():
        (folder / split).mkdir(parents=True, exist_ok=True)
        images, annotations = [], []
        for number in range(1, count + 1):
            image = Image.fromarray(random.integers(90, 130, (height, width, 3), np.uint8))
            pen = ImageDraw.Draw(image)
            for _ in range(int(random.integers(1, 4)) if number % 7 else 0):
                label = int(random.integers(2))
                w, h = int(random.integers(16, 40)), int(random.integers(16, 32))
                x, y = int(random.integers(0, width - w)), int(random.integers(0, height - h))
                pen.rectangle((x, y, x + w - 1, y + h - 1), fill=list(COLOURS.values())[label])
                annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": 10 + label,
                                    "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0})  # fmt: skip
            image.save(folder / split / f"{number:03d}.png")
            images.append({"id": number, "file_name": f"{number:03d}.png", "width": width, "height": height})
        categories = [{"id": 10 + label, "name": name} for label, name in enumerate(COLOURS)]
        document = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(document))
    return folder
