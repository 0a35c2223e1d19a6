"""What a key means, on the command line and on the page."""

import pytest

from nanocv_cli.config.explain import explained, page
from nanocv_cli.errors import ConfigError
from tests.conftest import REPOSITORY, Command


def test_the_page_is_current() -> None:
    """`python scripts/config_page.py` writes it."""
    assert (REPOSITORY / "docs" / "config.md").read_text() == page()


def test_every_key_is_explained() -> None:
    for key in explained(""):
        assert key.meaning, key.name
        assert key.takes and key.owner


def test_a_key_says_meaning_range_default_and_owner(nanocv: Command) -> None:
    told = nanocv("config", "explain", "train.epochs")
    assert told.code == 0
    assert told.out.splitlines() == [
        "train.epochs  (the training loop)",
        "    times that every training image is trained on",
        "    takes a whole number >= 1 and <= 100000; default 20",
    ]


def test_a_key_with_several_readers_is_told_of_each(nanocv: Command) -> None:
    document = nanocv("config", "explain", "train.label_smoothing", "--json").document
    assert [row["owner"] for row in document["keys"]] == ["classification", "segmentation"]


def test_a_section_is_all_its_keys() -> None:
    assert {key.name for key in explained("model.sampling")} == {
        "model.sampling.steps", "model.sampling.guidance", "model.sampling.solver"
    }  # fmt: skip
    assert [key.default for key in explained("model.name")] == [""]


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [("flip", "did you mean train.augment.flip?"), ("train.epoch", "did you mean train.epochs?"), ("zzz", "lists all")],
)
def test_an_unknown_key_names_the_nearest(wanted: str, hint: str) -> None:
    with pytest.raises(ConfigError, match="no key") as refused:
        explained(wanted)
    assert hint in (refused.value.hint or "")
