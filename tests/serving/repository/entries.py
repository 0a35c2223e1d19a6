"""What the tests of entries share: settings, and small graphs that differ."""

from pathlib import Path
from typing import Any

from nanocv_cli.config.schema import ServeConfig
from tests.engine.graphs import colour_card, write_graph


def settings(**changes: Any) -> ServeConfig:
    """The schema's defaults, with some changed."""
    return ServeConfig(name="test", **changes)


def graph(folder: Path, strength: float = 0.05, **card: Any) -> Path:
    """A graph `colours`; another strength is another content with the same tensors."""
    return write_graph(folder / f"graph-{strength}.onnx", colour_card(**card), strength=strength)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
