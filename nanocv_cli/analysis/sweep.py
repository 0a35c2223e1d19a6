"""How intensity and verdict move with the batch and the data type, and from which batch on a layer is compute-bound."""

from collections.abc import Sequence
from dataclasses import dataclass

from nanocv_cli.analysis.layer import Layer, Model
from nanocv_cli.analysis.roofline import COMPUTE, Estimate, Roofline
from nanocv_cli.config.schema import GpuConfig

LARGEST_BATCH = 2**20


@dataclass(frozen=True)
class Point:
    """A model at one batch size and data type.

    Attributes:
        batch: images.
        dtype: of values and arithmetic.
        layers: one estimate per layer.
        intensity: of the whole model, operations per byte.
        verdict: by that intensity.
        seconds: predicted for the batch.
    """

    batch: int
    dtype: str
    layers: tuple[Estimate, ...]
    intensity: float
    verdict: str
    seconds: float

    @property
    def throughput(self) -> float:
        """Predicted images per second."""
        return self.batch / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Turn:
    """From which batch on a layer is compute-bound.

    Attributes:
        batch: the smallest; None if there is none.
        reason: why there is none.
    """

    batch: int | None
    reason: str = ""


def point(model: Model, roofline: Roofline, batch: int) -> Point:
    """The whole model at one batch size."""
    layers = tuple(roofline.estimate(layer, batch) for layer in model.layers)
    intensity = model.intensity(roofline.dtype, batch)
    seconds = sum(layer.seconds for layer in layers)
    return Point(batch, roofline.dtype, layers, intensity, roofline.verdict_of(intensity), seconds)


def sweep(model: Model, gpu: GpuConfig, dtypes: Sequence[str], batches: Sequence[int]) -> list[Point]:
    """Every data type at every batch size.

    Raises:
        RequestError: the device has no peak for a type.
    """
    return [point(model, Roofline(gpu, dtype), batch) for dtype in dtypes for batch in batches]


def compute_bound_from(layer: Layer, roofline: Roofline) -> Turn:
    """The smallest batch that makes a layer compute-bound, or why none does.

    With weights W bytes and i + o bytes per image, N images have the intensity N*F / (W + N*(i + o)): it grows
    towards F / (i + o), where weights no longer count.
    """
    threshold = roofline.thresholds[1]
    if not layer.operations():
        return Turn(None, "it only moves values")
    if not layer.per_image:
        batch = 1 if roofline.verdict(layer, 1) == COMPUTE else None
        return Turn(batch, "" if batch else "it does not depend on the batch")
    moved = layer.inputs.bytes(roofline.dtype) + layer.outputs.bytes(roofline.dtype)
    limit = layer.operations() / moved if moved else float("inf")
    if limit <= threshold:
        return Turn(None, f"its intensity tends to {limit:.3g}, below {threshold:.0f}")
    low, high = 1, LARGEST_BATCH
    if roofline.verdict(layer, high) != COMPUTE:
        return Turn(None, f"not up to a batch of {LARGEST_BATCH:,}")
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if roofline.verdict(layer, middle) == COMPUTE else (middle + 1, high)
    return Turn(low)
