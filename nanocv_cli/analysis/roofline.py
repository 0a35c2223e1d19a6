"""The roofline of one device at one data type: thresholds, verdicts, and how long a layer should take.

S. Williams, A. Waterman, D. Patterson, Roofline: an insightful visual performance model (CACM 52, 2009); thresholds,
tiles and waves after NVIDIA's Deep Learning Performance guide.
"""

from dataclasses import dataclass

from nanocv_cli.analysis.layer import Layer
from nanocv_cli.config.schema import GpuConfig
from nanocv_cli.errors import RequestError

MEMORY, CACHE, COMPUTE, LATENCY = "memory-bound", "depends on the cache", "compute-bound", "latency-bound"

# A block of threads makes a tile of 64 x 64 results, over at most 256 steps of a dot product (split-K); of other work
# it takes 1,024 values. Fewer blocks than processors leave processors idle.
TILE = 64
SPLIT = 256
VALUES_PER_BLOCK = 1024


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
