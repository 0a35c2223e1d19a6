"""Models side by side: which differences are told to exceed the noise, and how that is found out."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nanocv_cli.evaluation.bootstrap import RESAMPLES, drawn_counts
from nanocv_cli.evaluation.evidence import Evidence
from nanocv_cli.report.comparison import noise
from nanocv_cli.tasks.exhibits import Exhibits
from tests.conftest import Command, TrainedRun, write_tiny_set
from tests.report.pages import colour_model

IMAGES = 200


def evidence(right: np.ndarray) -> Evidence:
    """That of a model which answers these of the images rightly."""
    resampled = np.concatenate([counts @ right / IMAGES for counts in drawn_counts(IMAGES)])
    return Evidence("set", "test", IMAGES, "same", {"top1": float(right.mean())}, {"top1": resampled}, Exhibits())


def test_a_paired_difference_is_found_that_intervals_would_hide() -> None:
    answers = np.random.default_rng(0).random(IMAGES) < 0.7
    better = answers | (np.arange(IMAGES) % 6 == 0)  # a few images more, and none less
    left, right = evidence(answers), evidence(better)
    paired = noise(left, right, "top1")
    assert paired is not None and paired[1] == "paired"
    assert not paired[0].holds(0.0) and paired[0].holds(float(better.mean() - answers.mean()))
    apart = noise(left, replace(right, fingerprint="other"), "top1")
    assert apart is not None and apart[1] == "apart"
    assert apart[0].holds(0.0)
    assert apart[0].high - apart[0].low > 2 * (paired[0].high - paired[0].low)


def test_a_model_differs_from_itself_by_nothing() -> None:
    own = evidence(np.random.default_rng(0).random(IMAGES) < 0.5)
    found = noise(own, own, "top1")
    assert found is not None and (found[0].low, found[0].high) == (0.0, 0.0)
    assert len(own.resampled["top1"]) == RESAMPLES


def test_what_was_not_measured_or_is_no_matter_of_images_has_no_noise() -> None:
    own = evidence(np.ones(IMAGES))
    assert noise(own, None, "top1") is None
    assert noise(own, own, "frechet") is None


@pytest.mark.slow(10)
def test_a_page_of_several_tells_what_is_beyond_the_noise(trained: TrainedRun, nanocv: Command, tmp_path: Path) -> None:
    wrong = colour_model(tmp_path / "wrong.onnx", trained.data, strength=-0.05)
    done = nanocv("report", trained.folder, wrong, trained.folder, "--out", tmp_path / "page.html", "--json")
    assert done.code == 0, done.err
    assert [model["name"] for model in done.document["models"]] == ["run", "wrong", "run"]
    assert all(section["told"] for section in done.document["sections"])
    page = (tmp_path / "page.html").read_text()
    row = re.search(r"<tr><td[^>]*>wrong</td><td[^>]*>top1</td>.*?</tr>", page)
    assert row and "beyond the noise, worse" in row[0] and "paired" in row[0]
    row = re.search(r"<tr><td[^>]*>3: [^<]*</td><td[^>]*>top1</td>.*?</tr>", page)
    assert row and "within the noise" in row[0]
    assert '<td class="word">model.name</td><td class="word">lenet</td><td class="word">colours</td>' in page


def test_one_that_cannot_be_measured_stands_beside_the_others(nanocv: Command, tmp_path: Path) -> None:
    data = write_tiny_set(tmp_path / "set", {"train": 2, "val": 1, "test": 2})
    known = colour_model(tmp_path / "known.onnx", data)
    gone = colour_model(tmp_path / "gone.onnx", tmp_path / "nowhere", metrics={"top1": 0.25})
    done = nanocv("report", known, gone, "--out", tmp_path / "page.html", "--json")
    assert done.code == 0, done.err
    page = (tmp_path / "page.html").read_text()
    assert "gone could not be measured now: the images of colours are not here" in page
    row = re.search(r"<tr><td[^>]*>gone</td><td[^>]*>top1</td>.*?</tr>", page)
    assert row and "not known" in row[0] and "-0.7500" in row[0]
