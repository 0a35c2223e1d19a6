"""What samples are worth: nearness to real images, the class that a classifier sees, and whether they are copies."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.tasks.evaluator import Evaluator, Metrics, Outputs
from nanocv_cli.tasks.generation.distances import features, frechet, inception_features, nearest, neighbourhoods

Images = NDArray[np.uint8]
Classify = Callable[[Images], NDArray[np.int64]]

SHOWN_PER_CLASS = 8
SMALLEST_SPREAD = 0.1


class GenerationEvaluator(Evaluator):
    """Collects a sample for each real image of a split, of the same class.

    Args:
        classes: class names in label order.
        classify: class indices [n] of images uint8 [n,S,S,3]; None where there is no classifier.
        learnt: uint8 [n,S,S,3] that the model was trained on; None: copies are not looked for.
        online: whether to measure FID, which downloads its network.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        classify: Classify | None = None,
        learnt: Images | None = None,
        online: bool = False,
    ) -> None:
        self.classes = classes
        self._classify = classify
        self._learnt = learnt
        self._online = online
        self._made: list[Images] = []
        self._real: list[Images] = []
        self._labels: list[NDArray[np.int64]] = []

    def update(self, outputs: Outputs, targets: NDArray[np.int64], images: Images) -> None:
        """Adds `outputs["image"]` uint8 [N,S,S,3], labels int64 [N] and real images uint8 [N,S,S,3]."""
        self._made.append(np.asarray(outputs["image"], np.uint8))
        self._real.append(np.array(images))
        self._labels.append(np.asarray(targets, np.int64))

    def compute(self) -> Metrics:
        """All metrics; what cannot be measured is null.

        Returns:
            `frechet` (distance), `precision`, `recall`, `density`, `coverage` in the features of `distances.py`, each
            in units of its deviation among the real images, but at least `SMALLEST_SPREAD` of their mean; `fid`;
            `class_accuracy` of samples and `classifier_accuracy` of real images under the classifier; `copies`: the
            share of samples that lie nearer to a training image than any real image of this split does, pixel by
            pixel.
        """
        made, real, labels = np.concatenate(self._made), np.concatenate(self._real), np.concatenate(self._labels)
        own = features(real)
        # A feature that is the same in nearly all real images must not outweigh the others.
        spread = own.std(0)
        middle, scale = own.mean(0), spread.clip(max(SMALLEST_SPREAD * spread.mean(), 1e-6))
        left, right = (own - middle) / scale, (features(made) - middle) / scale
        metrics: Metrics = {"frechet": frechet(left, right)}
        if self._online:
            metrics["fid"] = frechet(inception_features(real), inception_features(made))
        metrics |= neighbourhoods(left, right)
        metrics |= {"class_accuracy": None, "classifier_accuracy": None, "copies": None}
        per_class: dict[str, dict[str, float]] = {}
        if self._classify:
            asked_for = self._classify(made) == labels
            metrics["class_accuracy"] = float(asked_for.mean())
            metrics["classifier_accuracy"] = float((self._classify(real) == labels).mean())
            per_class = {
                name: {"class_accuracy": float(asked_for[labels == label].mean())}
                for label, name in enumerate(self.classes)
                if (labels == label).any()
            }
        if self._learnt is not None:
            closest_real = nearest(real, self._learnt)[0].min()
            metrics["copies"] = float((nearest(made, self._learnt)[0] < closest_real).mean())
        return {**metrics, "per_class": per_class}

    def draw(self, folder: Path, images: Images) -> list[Path]:
        """Writes `samples.png`, a row of samples for each class, and `nearest.png`, samples above the training
        images that they are nearest to."""
        from nanocv_cli.images.drawing import write_grid

        rows = self._rows()
        drawn = [write_grid(rows, folder / "samples.png", self.classes)]
        if self._learnt is not None:
            pairs = [np.concatenate([row, np.array(self._learnt[nearest(row, self._learnt)[1]])]) for row in rows]
            titles = [f"{name}: samples, and below each the nearest training image" for name in self.classes]
            drawn.append(write_grid(pairs, folder / "nearest.png", titles, max(len(row) for row in rows)))
        return drawn

    def snapshot(self, folder: Path, epoch: int) -> None:
        """Writes `samples/epoch-0001.png`."""
        from nanocv_cli.images.drawing import write_grid

        write_grid(self._rows(), folder / "samples" / f"epoch-{epoch:04d}.png", self.classes)

    def _rows(self) -> list[Images]:
        made, labels = np.concatenate(self._made), np.concatenate(self._labels)
        return [made[labels == label][:SHOWN_PER_CLASS] for label in range(len(self.classes))]
