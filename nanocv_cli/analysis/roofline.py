"""The roofline of a device: how long each layer should take and why, and how that moves with batch and data type.

S. Williams, A. Waterman, D. Patterson, Roofline: an insightful visual performance model (CACM 52, 2009); thresholds,
tiles and waves after NVIDIA's Deep Learning Performance guide.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nanocv_cli.analysis.layer import Layer, Model
from nanocv_cli.config.schema import GpuConfig
from nanocv_cli.errors import RequestError

MEMORY, CACHE, COMPUTE, LATENCY = "memory-bound", "depends on the cache", "compute-bound", "latency-bound"

# A block of threads makes a tile of 64 x 64 results, over at most 256 steps of a dot product (split-K); of other work
# it takes 1,024 values. Fewer blocks than processors leave processors idle.
TILE = 64
SPLIT = 256
VALUES_PER_BLOCK = 1024
LARGEST_BATCH = 2**20


@dataclass(frozen=True)
class Estimate:
    """What the roofline says of one layer at one batch size.

    Attributes:
        intensity: operations per byte.
        verdict: one of the four above.
        blocks: of threads that the work divides into.
        roof_seconds: time at the roof: the longer of arithmetic at the peak and bytes at the bandwidth.
        seconds: predicted time: the same with processors that the last wave of blocks leaves idle, plus the launch.
    """

    intensity: float
    verdict: str
    blocks: int
    roof_seconds: float
    seconds: float


class Roofline:
    """A device at one data type.

    Args:
        gpu: its peaks.
        dtype: of values and arithmetic.

    Raises:
        RequestError: the device has no peak for that type.
    """

    def __init__(self, gpu: GpuConfig, dtype: str) -> None:
        peak = getattr(gpu.peak, dtype)
        if peak is None:
            known = [name for name, value in gpu.peak.model_dump().items() if value is not None]
            raise RequestError(f"{gpu.title} has no {dtype} peak", f"--dtype {' or '.join(known)}")
        self.gpu, self.dtype, self.peak = gpu, dtype, float(peak)

    @property
    def thresholds(self) -> tuple[float | None, float]:
        """Operations per byte above which the L2 cache (None: its bandwidth is unknown) and memory keep up."""
        l2 = self.gpu.l2_bandwidth
        return (self.peak / l2 if l2 else None, self.peak / self.gpu.memory_bandwidth)

    def estimate(self, layer: Layer, batch: int = 1) -> Estimate:
        """Verdict and time of a layer for a whole batch."""
        blocks = blocks_of(layer, batch)
        idle = -(-blocks // self.gpu.processors) * self.gpu.processors / blocks
        # What is no matrix product runs on the ordinary units.
        arithmetic = layer.flops(batch) / self.peak
        arithmetic += (layer.operations(batch) - layer.flops(batch)) / self.gpu.peak.fp32
        memory = layer.bytes(self.dtype, batch) / self.bandwidth(layer, batch)
        return Estimate(
            intensity=layer.intensity(self.dtype, batch),
            verdict=self.verdict(layer, batch),
            blocks=blocks,
            roof_seconds=max(arithmetic, memory),
            seconds=max(arithmetic * idle, memory) + self.gpu.launch_seconds,
        )

    def bandwidth(self, layer: Layer, batch: int) -> float:
        """Bytes per second: of the L2 cache for a layer whose values fit into it all at once, else of memory."""
        fits = layer.bytes(self.dtype, batch) <= self.gpu.l2_size
        return self.gpu.l2_bandwidth if fits and self.gpu.l2_bandwidth else self.gpu.memory_bandwidth

    def verdict(self, layer: Layer, batch: int) -> str:
        """Too few blocks to fill the device: latency-bound; else by intensity against the two thresholds."""
        if blocks_of(layer, batch) < self.gpu.processors:
            return LATENCY
        return self.verdict_of(layer.intensity(self.dtype, batch))

    def verdict_of(self, intensity: float) -> str:
        """By intensity alone."""
        l2, memory = self.thresholds
        if intensity > memory:
            return COMPUTE
        return CACHE if l2 is not None and intensity >= l2 else MEMORY


def blocks_of(layer: Layer, batch: int) -> int:
    """Blocks of threads that a layer's work divides into."""
    if layer.product:
        product = layer.product.batched(batch) if layer.per_image else layer.product
        tiles = -(-product.rows // TILE) * -(-product.columns // TILE)
        return max(1, tiles * -(-product.depth // SPLIT) * product.count)
    values = max(layer.inputs.bytes("int8"), layer.outputs.bytes("int8"))
    return max(1, -(-values * (batch if layer.per_image else 1) // VALUES_PER_BLOCK))


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
