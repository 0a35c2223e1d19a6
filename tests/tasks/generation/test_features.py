"""FID's features: the published network's where it is at hand, one clear line where it is not."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from nanocv_cli.errors import ModelError
from nanocv_cli.tasks.generation import features, metrics
from nanocv_cli.tasks.generation.distances import frechet
from nanocv_cli.tasks.generation.metrics import GenerationEvaluator
from tests.conftest import Command, TrainedRun

pytestmark = pytest.mark.slow(14)


def untrained_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureExtractorInceptionV3:
    """The published architecture with random weights."""
    nothing = folder / "nothing.pth"
    torch.save({}, nothing)
    with monkeypatch.context() as patched:
        patched.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        return FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(nothing))


def test_features_are_those_of_the_weights_in_torchs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = untrained_network(tmp_path, monkeypatch)
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(network.state_dict(), cache / "weights.pth")
    digest = hashlib.sha256((cache / "weights.pth").read_bytes()).hexdigest()[:8]
    (cache / "weights.pth").rename(cache / f"weights-{digest}.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(features, "weights_url", lambda: f"http://127.0.0.1:9/weights-{digest}.pth")
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    found = features.inception_features(images)
    assert found.shape == (3, 2048)
    (expected,) = network(torch.from_numpy(images).permute(0, 3, 1, 2))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)


def test_without_network_and_weights_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert features.weights_url().startswith("https://")
    monkeypatch.setattr(features, "weights_url", lambda: "http://127.0.0.1:9/weights-00000000.pth")
    with pytest.raises(ModelError, match="could not be had") as caught:
        features.inception_features(np.zeros((2, 8, 8, 3), np.uint8))
    assert "leave --online out" in caught.value.hint


def test_fid_is_the_distance_in_these_features_and_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "inception_features", lambda images: images.reshape(len(images), -1).astype(float))
    real, made = np.random.default_rng(0).integers(0, 256, (2, 9, 4, 4, 3), np.uint8)
    for online in (True, False):
        evaluator = GenerationEvaluator(("a",), online=online)
        evaluator.update({"image": made}, np.zeros(9, np.int64), real)
        found = evaluator.compute()
        assert ("fid" in found) is online
        if online:
            assert found["fid"] == pytest.approx(frechet(real.reshape(9, -1) / 1.0, made.reshape(9, -1) / 1.0))


def test_online_is_refused_where_nothing_needs_a_download(nanocv: Command, trained: TrainedRun) -> None:
    refused = nanocv("eval", "--model", trained.folder, "--data", trained.data, "--online")
    assert refused.code == 2
    assert "no figure of classification needs a download" in refused.err
