"""Whether an exported graph answers like the checkpoint it came from, on real images at several batch sizes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.errors import ExportError
from nanocv_cli.tasks.evaluator import Outputs

# A model as a function of images uint8 [N,S,S,3].
AnswersImages = Callable[[NDArray[np.uint8]], Outputs]
ParityError = Callable[[Outputs, Outputs], float]

BATCH_SIZES = (1, 3, 8)


@dataclass(frozen=True)
class Parity:
    """How far the graph strays.

    Attributes:
        max_abs_error: largest error of the outputs of any batch, as the task measures it.
        n: images compared.
        batch_sizes: at which they were compared.
    """

    max_abs_error: float
    n: int
    batch_sizes: tuple[int, ...]


def check_parity(
    expected: AnswersImages,
    actual: AnswersImages,
    images: NDArray[np.uint8],
    tolerance: float,
    parity_error: ParityError,
    batch_sizes: Sequence[int] = BATCH_SIZES,
) -> Parity:
    """Compares two models on the same images.

    Args:
        expected: the checkpoint, uint8 [N,S,S,3] to named outputs.
        actual: the graph, likewise.
        images: uint8 [n,S,S,3].
        tolerance: the largest error that passes.
        parity_error: of two models' outputs.
        batch_sizes: images per call; every batch is a fresh slice of `images`, starting over where they end.

    Raises:
        ExportError: outputs differ by more than the tolerance, in name, in shape or by a value that is no number.
    """
    worst, count = 0.0, 0
    for size in batch_sizes:
        batch = np.take(images, range(count, count + size), axis=0, mode="wrap")
        count += size
        left, right = expected(batch), actual(batch)
        if left.keys() != right.keys():
            raise ExportError(f"the graph returns {sorted(right)}, the checkpoint {sorted(left)}")
        for name, wanted in left.items():
            if wanted.shape != right[name].shape:
                shapes = f"{right[name].shape} in the graph, {wanted.shape} in the checkpoint"
                raise ExportError(f"{name} has shape {shapes}")
        error = parity_error(left, right)
        if not error <= tolerance:
            raise ExportError(
                f"the graph strays from the checkpoint by {error:.2g} at batch {size} (allowed {tolerance:g}); nothing "
                "was written",
                "report this with the model's name; another torch or onnxruntime version may do better",
            )
        worst = max(worst, error)
    return Parity(worst, count, tuple(batch_sizes))
