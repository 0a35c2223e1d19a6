"""Counts against the figures that torchvision publishes with its weights."""

import pytest

from nanocv_cli.analysis.analysed_model import (
    DETECTOR_INPUT,
    AnalysedModel,
    analyse,
    build_published,
    published,
    published_inputs,
)
from nanocv_cli.config.torchvision_names import TORCHVISION_CLASSIFIERS, TORCHVISION_DETECTORS, TORCHVISION_SEGMENTERS
from nanocv_cli.models.registry import without_weights

pytestmark = pytest.mark.slow(60)

# torchvision rounds to a million multiply-adds, which is more than half a percent of the smallest networks.
ROUNDING = 0.5e6
# A detector reports at most a hundred things. In torchvision's noise this one saw a person (its older weights saw
# none, and were counted at 133.924 GMACs, which is our least).
MOST_FOUND = 100
FOUND_IN_NOISE = {"keypointrcnn_resnet50_fpn": 1}


def analysed(name: str) -> AnalysedModel:
    its_own = published(name)
    return AnalysedModel(
        name,
        its_own.input_size,
        lambda: build_published(name, its_own.input_size, its_own.classes),
        lambda device, batch: published_inputs(name, its_own.input_size, device, batch),
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TORCHVISION_CLASSIFIERS + TORCHVISION_SEGMENTERS)
def test_classifiers_and_segmenters_agree_with_their_publisher(name: str) -> None:
    macs = published(name).macs
    model = analyse(analysed(name))
    assert model.macs == pytest.approx(macs, rel=0.005, abs=ROUNDING)
    assert model.assumptions == ()
    assert model.uncounted() == {}
    assert sum(layer.params for layer in model.layers) <= model.params


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TORCHVISION_DETECTORS)
def test_detectors_agree_with_their_publisher_at_one_end_of_what_images_decide(name: str) -> None:
    """torchvision ran them on noise: where the count depends on what is found, it is our most or our least."""
    macs = published(name).macs
    model = analyse(analysed(name))
    assert published(name).input_size == DETECTOR_INPUT
    assert model.least_macs is not None
    assert model.least_macs <= model.macs
    found = (model.macs - model.least_macs) / MOST_FOUND * FOUND_IN_NOISE.get(name, 0)
    assert any(ours == pytest.approx(macs, rel=0.005) for ours in (model.macs, model.least_macs + found))
    assert model.assumptions


def test_the_known_hard_cases() -> None:
    assert 2 * analyse(analysed("vit_b_16")).macs == pytest.approx(35.1e9, rel=0.005)
    assert analyse(analysed("swin_t")).macs == pytest.approx(4.49e9, rel=0.005)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["vit_h_14", "regnet_y_128gf", "swin_v2_b"])
def test_nothing_is_allocated(name: str) -> None:
    its_own = published(name)
    network = without_weights(lambda: build_published(name, its_own.input_size, its_own.classes))
    assert {tensor.device.type for tensor in (*network.parameters(), *network.buffers())} == {"meta"}
    assert sum(parameter.numel() for parameter in network.parameters()) == its_own.params
