"""A run learns the same weights from streamed images as from cached ones."""

from pathlib import Path

import pytest

from tests.conftest import TINY, Command
from tests.training.weights import same_weights


@pytest.mark.slow(6)
def test_streamed_and_cached_images_give_the_same_weights(nanocv: Command, project: Path, tiny_set: Path) -> None:
    (tiny_set / "train" / "red" / "000.png").unlink()
    sets = [word for pair in [*TINY, "train.balance=0.5"] for word in ("--set", pair)]
    for name, bound in (("streamed", 0), ("cached", 1)):
        bounded = ["--set", f"data.cache_gb={bound}", "--out", name]
        outcome = nanocv("train", "--data", tiny_set, "--model", "lenet32", *sets, *bounded)
        assert outcome.code == 0, outcome.err
        assert [split in outcome.err for split in ("train streams", "val streams", "test streams")] == [not bound] * 3
    for kind in ("last", "best"):
        files = [project / name / "checkpoints" / f"{kind}.safetensors" for name in ("streamed", "cached")]
        assert same_weights(*files)
