"""Distances against sums by hand and against plain loops; the features they are taken in, FID's among them."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from nanocv_cli.errors import ModelError
from nanocv_cli.tasks.generation import distances
from nanocv_cli.tasks.generation.distances import NEIGHBOURS, features, frechet, neighbourhoods


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def test_frechet_distance_by_hand() -> None:
    # In one dimension: (difference of means)^2 + (difference of deviations)^2.
    assert frechet(column(0, 2, 4), column(3, 3, 3)) == pytest.approx(1 + 4)
    rows = np.random.default_rng(0).normal(size=(50, 4)) @ np.random.default_rng(1).normal(size=(4, 4))
    assert frechet(rows, rows) == pytest.approx(0.0, abs=1e-9)
    # Twice as wide about its mean, then moved by 3: tr(C + 4C - 2 * 2C) = tr(C).
    wider = 2 * (rows - rows.mean(0)) + rows.mean(0) + np.array([3.0, 0.0, 0.0, 0.0])
    assert frechet(rows, wider) == pytest.approx(9 + np.trace(np.cov(rows, rowvar=False)))
    # More dimensions than rows: the covariances are singular.
    assert frechet(np.eye(3, 10), np.eye(3, 10) + 1.0) == pytest.approx(10.0)


def means(real: np.ndarray, made: np.ndarray, k: int = NEIGHBOURS) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in neighbourhoods(real, made, k).items()}


def test_neighbourhoods_by_hand() -> None:
    # Each real neighbourhood reaches 1; the first sample lies in those of 0 and 1, the second in none.
    found = means(column(0, 1, 2, 3), column(0.5, 10), k=1)
    assert found == {"precision": 0.5, "recall": 1.0, "density": 1.0, "coverage": 0.5}


def test_the_same_set_twice_is_perfect_and_a_far_one_is_not() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 3))
    assert {name: means(rows, rows)[name] for name in ("precision", "recall", "coverage")} == {
        "precision": 1.0,
        "recall": 1.0,
        "coverage": 1.0,
    }
    assert means(rows, rows + 100) == {"precision": 0.0, "recall": 0.0, "density": 0.0, "coverage": 0.0}


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 100_000), k=st.integers(1, 4))
def test_neighbourhoods_are_those_of_plain_loops(seed: int, k: int) -> None:
    random = np.random.default_rng(seed)
    real, made = random.normal(size=(9, 2)), random.normal(size=(7, 2))

    def reaches(rows: np.ndarray) -> list[float]:
        return [sorted(float(np.linalg.norm(row - other)) for other in rows)[k] for row in rows]

    def inside(centre: np.ndarray, reach: float, row: np.ndarray) -> bool:
        return float(np.linalg.norm(centre - row)) <= reach

    around_real = [[inside(a, reach, b) for b in made] for a, reach in zip(real, reaches(real), strict=True)]
    around_made = [[inside(b, reach, a) for b, reach in zip(made, reaches(made), strict=True)] for a in real]
    found = means(real, made, k)
    assert found["precision"] == pytest.approx(np.mean([any(row[b] for row in around_real) for b in range(7)]))
    assert found["recall"] == pytest.approx(np.mean([any(row) for row in around_made]))
    assert found["density"] == pytest.approx(sum(map(sum, around_real)) / (k * 7))
    assert found["coverage"] == pytest.approx(np.mean([any(row) for row in around_real]))


def test_features_are_the_documented_ones() -> None:
    """Figures can be compared over the years only while these stay."""
    ramp = 4 * np.arange(32, dtype=np.uint8)[None, :, None, None] * np.ones((1, 1, 32, 3), np.uint8)
    found = features(ramp)
    assert found.shape == (1, 448)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found[0, [3, 100, 400]], SOME_OF_A_RAMP, rtol=1e-4)
    np.testing.assert_allclose(features(np.concatenate([ramp, ramp * 2]))[0], found[0], atol=1e-5)
    # Area means: an enlarged image has the features of the small one.
    np.testing.assert_allclose(features(ramp.repeat(2, 1).repeat(2, 2)), found, atol=1e-5)


SOME_OF_A_RAMP = (0.0406098, 0.425763, 0.102797)


def untrained_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureExtractorInceptionV3:
    """The published architecture with random weights."""
    nothing = folder / "nothing.pth"
    torch.save({}, nothing)
    with monkeypatch.context() as patched:
        patched.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        return FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(nothing))


@pytest.mark.slow(3)
def test_features_are_those_of_the_weights_in_torchs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = untrained_network(tmp_path, monkeypatch)
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(network.state_dict(), cache / "weights.pth")
    digest = hashlib.sha256((cache / "weights.pth").read_bytes()).hexdigest()[:8]
    (cache / "weights.pth").rename(cache / f"weights-{digest}.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(distances, "weights_url", lambda: f"http://127.0.0.1:9/weights-{digest}.pth")
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    found = distances.inception_features(images)
    assert found.shape == (3, 2048)
    (expected,) = network(torch.from_numpy(images).permute(0, 3, 1, 2))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)


def test_without_network_and_weights_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert distances.weights_url().startswith("https://")
    monkeypatch.setattr(distances, "weights_url", lambda: "http://127.0.0.1:9/weights-00000000.pth")
    with pytest.raises(ModelError, match="could not be had") as caught:
        distances.inception_features(np.zeros((2, 8, 8, 3), np.uint8))
    assert "leave --online out" in caught.value.hint
