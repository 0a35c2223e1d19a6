"""A run learns the same weights from streamed images as from cached ones, from files and from tar shards."""

import signal
from itertools import count
from pathlib import Path

import pytest

from nanocv_cli.data.ranged import RangedFile
from tests.conftest import TINY, Command
from tests.data.shards import shards_of
from tests.training.weights import same_weights


@pytest.mark.slow(9)
def test_streamed_and_cached_images_give_the_same_weights(
    nanocv: Command, project: Path, tiny_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiny_set / "train" / "red" / "000.png").unlink()
    shards = shards_of(tiny_set, project / "shards", 10)
    sets = [word for pair in [*TINY, "train.balance=0.5"] for word in ("--set", pair)]
    arguments = ["train", "--model", "lenet32", *sets]
    for name, data, bound in (("streamed", tiny_set, 0), ("cached", tiny_set, 1)):
        outcome = nanocv(*arguments, "--data", data, "--set", f"data.cache_gb={bound}", "--out", name)
        assert outcome.code == 0, outcome.err
        assert [split in outcome.err for split in ("train streams", "val streams", "test streams")] == [not bound] * 3
    # Ctrl-C comes as the second epoch reads its images.
    reads, original = count(1), RangedFile.read

    def read(file: RangedFile, start: int, length: int) -> bytes:
        if next(reads) == 32 + 12 + 5:
            signal.raise_signal(signal.SIGINT)
        return original(file, start, length)

    with monkeypatch.context() as patch:
        patch.setattr(RangedFile, "read", read)
        outcome = nanocv(*arguments, "--data", shards, "--set", "data.cache_gb=0", "--out", "parts")
    assert outcome.code == 130 and "stopped in epoch 2 of 2" in outcome.err, outcome.err
    outcome = nanocv("train", "--resume", "parts")
    assert outcome.code == 0, outcome.err
    for kind in ("last", "best"):
        files = [project / name / "checkpoints" / f"{kind}.safetensors" for name in ("streamed", "cached", "parts")]
        assert same_weights(files[0], files[1]) and same_weights(files[1], files[2])
