"""Made-up rows."""

from typing import Any

from nanocv_cli.bench.measure import Figures
from nanocv_cli.bench.sweep import Row, Setting


def row(throughput: float, p99_us: float, *, delay: int = 0, **changes: Any) -> Row:
    """A row with these two figures."""
    values: dict[str, Any] = dict.fromkeys(Figures.__dataclass_fields__)
    values |= {"p50_us": p99_us / 2, "p90_us": p99_us, "p95_us": p99_us, "p99_us": p99_us, "mean_us": p99_us / 2}
    values |= {"throughput": throughput, "requests": 100, "errors": 0, "stable": True, "windows": 3, "client_cpu": 0.1}
    return Row(Setting(4, delay, 1), 4, Figures(**{**values, **changes}))
