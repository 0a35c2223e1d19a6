"""What samples are worth: nearness to real images, the class that a classifier sees, and whether they are copies."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.tasks.evaluator import Evaluator, ImageRows, Metrics, Outputs
from nanocv_cli.tasks.exhibits import Captioned, Exhibits, Gallery, side_by_side
from nanocv_cli.tasks.generation.distances import features, frechet, inception_features, nearest, neighbourhoods

Images = NDArray[np.uint8]
Classify = Callable[[Images], NDArray[np.int64]]

SHOWN_PER_CLASS = 8
EXHIBITED_PER_CLASS, NEAREST_PER_CLASS, MISTAKES_SHOWN = 6, 2, 12
SMALLEST_SPREAD = 0.1


class GenerationEvaluator(Evaluator):
    """Collects a sample for each real image of a split, of the same class.

    Args:
        classes: class names in label order.
        classify: class indices [n] of images uint8 [n,S,S,3]; None where there is no classifier.
        train_images: uint8 [n,S,S,3] that the model was trained on; None: copies are not looked for.
        online: whether to measure FID, which downloads its network.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        classify: Classify | None = None,
        train_images: ImageRows | None = None,
        online: bool = False,
    ) -> None:
        self.classes = classes
        self._classify = classify
        self._train_images = train_images
        self._online = online
        self._made: list[Images] = []
        self._real: list[Images] = []
        self._labels: list[NDArray[np.int64]] = []
        self._by_row: dict[str, NDArray[Any]] | None = None  # what `compute` told of each sample or real image
        self._seen_as: NDArray[np.int64] | None = None  # classes that the classifier gave the samples

    def update(self, outputs: Outputs, targets: NDArray[np.int64], images: Images) -> None:
        """Adds `outputs["image"]` uint8 [N,S,S,3], labels int64 [N] and real images uint8 [N,S,S,3]."""
        self._made.append(np.asarray(outputs["image"], np.uint8))
        self._real.append(np.array(images))
        self._labels.append(np.asarray(targets, np.int64))
        self._by_row = self._seen_as = None

    def state(self) -> Any:
        return self._made, self._real, self._labels

    def absorb(self, state: Any) -> None:
        made, real, labels = state
        self._made += made
        self._real += real
        self._labels += labels
        self._by_row = self._seen_as = None

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
        by_row = neighbourhoods(left, right)
        metrics |= dict.fromkeys((*by_row, "class_accuracy", "classifier_accuracy", "copies"))
        per_class: dict[str, dict[str, float]] = {}
        if self._classify:
            self._seen_as = self._classify(made)
            asked_for = self._seen_as == labels
            by_row["class_accuracy"], by_row["classifier_accuracy"] = asked_for, self._classify(real) == labels
            per_class = {
                name: {"class_accuracy": float(asked_for[labels == label].mean())}
                for label, name in enumerate(self.classes)
                if (labels == label).any()
            }
        if self._train_images is not None:
            by_row["copies"] = nearest(made, self._train_images)[0] < nearest(real, self._train_images)[0].min()
        self._by_row = by_row
        return {**metrics, **{name: float(values.mean()) for name, values in by_row.items()}, "per_class": per_class}

    def resampled(self, counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """What is told of single samples or real images, each beside the whole sets; see `Evaluator`."""
        if self._by_row is None:
            self.compute()
        return {name: counts @ values / counts.sum(1) for name, values in (self._by_row or {}).items()}

    def exhibits(self, images: ImageRows) -> Exhibits:
        """Samples of each class, those that the classifier takes for another, and what they are nearest to."""
        if self._by_row is None:
            self.compute()
        galleries = [
            Gallery("Samples of each class", tuple(
                Captioned(sample, (name,))
                for name, row in zip(self.classes, self._rows(), strict=True) for sample in row[:EXHIBITED_PER_CLASS])),
        ]  # fmt: skip
        if self._train_images is not None:
            rows = [row[:NEAREST_PER_CLASS] for row in self._rows()]
            pairs = [
                Captioned(side_by_side([sample, np.array(self._train_images[place])]), (name,))
                for name, row in zip(self.classes, rows, strict=True)
                for sample, place in zip(row, nearest(row, self._train_images)[1] if len(row) else (), strict=True)
            ]
            title = "Beside the training images that they are nearest to, pixel by pixel"
            galleries.append(Gallery(title, tuple(pairs), parts=("sample", "training image")))
        return Exhibits(galleries=(*galleries, *self._mistaken()))

    def _mistaken(self) -> list[Gallery]:
        """The first samples that the classifier takes for another class than was asked for."""
        if self._seen_as is None:
            return []
        made, labels = np.concatenate(self._made), np.concatenate(self._labels)
        wrong = np.flatnonzero(self._seen_as != labels)
        shown = [
            Captioned(made[place], (f"asked for {self.classes[labels[place]]}", f"seen as {self._name(place)}"))
            for place in wrong[:MISTAKES_SHOWN]
        ]
        title = f"Samples that the classifier takes for another class: {len(wrong)} of {len(labels)}"
        return [Gallery(title, tuple(shown), are_mistakes=True)] if shown else []

    def _name(self, place: int) -> str:
        seen_as = -1 if self._seen_as is None else int(self._seen_as[place])
        return self.classes[seen_as] if seen_as >= 0 else "something else"

    def draw(self, folder: Path, images: ImageRows) -> list[Path]:
        """Writes `samples.png`, a row of samples for each class, and `nearest.png`, samples above the training
        images that they are nearest to."""
        from nanocv_cli.images.drawing import write_grid

        rows = self._rows()
        drawn = [write_grid(rows, folder / "samples.png", self.classes)]
        if self._train_images is not None:
            pairs = [
                np.concatenate([row, np.array(self._train_images[nearest(row, self._train_images)[1]])]) for row in rows
            ]
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
