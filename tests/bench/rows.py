"""Made-up rows."""

from typing import Any

from nanocv_cli.bench.measure import Figures
from nanocv_cli.bench.model import ModelRow
from nanocv_cli.bench.sweep import Row, Setting


def row(throughput: float, p99_us: float, *, delay: int = 0, **changes: Any) -> Row:
    """A row with these two figures."""
    values: dict[str, Any] = dict.fromkeys(Figures.__dataclass_fields__)
    values |= {"p50_us": p99_us / 2, "p90_us": p99_us, "p95_us": p99_us, "p99_us": p99_us, "mean_us": p99_us / 2}
    values |= {"throughput": throughput, "requests": 100, "errors": 0, "stable": True, "windows": 3, "client_cpu": 0.1}
    return Row(Setting(4, delay, 1), 4, Figures(**{**values, **changes}))


def model_row(**changes: Any) -> ModelRow:
    """A row of a classifier in fp32, but for the changes."""
    values: dict[str, Any] = {
        "model": "x.onnx", "name": "lenet", "engine": "openvino", "precision": "fp32", "batch_size": 1, "threads": 1,
        "device": "cpu", "p50_us": 50.0, "p99_us": 100.0, "throughput": 10.0, "runs": 20, "bytes": 9, "sha256": "",
        "metrics": {"top1": 0.9}, "drop": 0.0, "task": "classification", "data": "flowers", "config_hash": "c",
        "split": "test", "before": {},
    }  # fmt: skip
    return ModelRow(**{**values, **changes})
