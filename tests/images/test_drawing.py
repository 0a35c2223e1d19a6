"""Score cards fit any image; class colours can be told apart."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont

from nanocv_cli.images.drawing import class_colour, draw_score_card, fit_text, plain_letters, text_height

ROWS = [("daisy", 0.9, (255, 200, 0)), ("rose", 0.1, (0, 200, 255)), ("a rather long name", 0.0, (200, 0, 255))]


def test_colours_are_stable_bright_and_differ() -> None:
    colours = [class_colour(label) for label in range(24)]
    assert colours == [class_colour(label) for label in range(24)]
    assert min(max(colour) for colour in colours) >= 180
    pairs = itertools.combinations(np.array(colours, float), 2)
    assert min(np.abs(first - second).max() for first, second in pairs) >= 20


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 400), height=st.integers(1, 400), count=st.integers(1, 3))
def test_any_size_of_image_can_be_drawn_on(width: int, height: int, count: int) -> None:
    image = Image.new("RGB", (width, height), "white")
    draw_score_card(image, ROWS[:count])
    assert image.size == (width, height)


@pytest.mark.parametrize("size", [(64, 64), (640, 480), (1200, 900)])
@pytest.mark.parametrize("ground", ["white", "black"])
def test_the_card_stands_below_and_leaves_the_upper_half(size: tuple[int, int], ground: str) -> None:
    image = Image.new("RGB", size, ground)
    draw_score_card(image, ROWS)
    pixels = np.asarray(image)
    upper, lower = np.split(pixels, [size[1] // 2])
    assert (upper == (255 if ground == "white" else 0)).all()
    assert lower.min() < 100  # the card's ground
    assert lower.max() > 200  # its text


def test_a_bar_is_as_long_as_its_share() -> None:
    colour = (0, 255, 0)

    def length(share: float) -> int:
        image = Image.new("RGB", (600, 600))
        draw_score_card(image, [("x", share, colour)])
        return int((np.asarray(image) == colour).all(-1).any(0).sum())

    assert length(0.0) <= 1
    assert length(0.5) == pytest.approx(length(1.0) / 2, abs=1)


def test_a_image_too_small_for_a_word_stays_as_it_is() -> None:
    image = Image.new("RGB", (16, 12), "white")
    draw_score_card(image, ROWS)
    assert (np.asarray(image) == 255).all()


def test_text_grows_with_the_image() -> None:
    assert text_height(32, 32) == 9
    assert text_height(4000, 3000) > 100


def test_text_is_shortened_to_its_room() -> None:
    face = ImageFont.load_default(12)
    assert fit_text("daisy", face, 200) == "daisy"
    shortened = fit_text("a rather long name", face, 60)
    assert shortened.endswith("…")
    assert face.getlength(shortened) <= 60
    assert fit_text("daisy", face, 1) == ""


def test_accents_that_the_font_lacks_are_left_out() -> None:
    assert plain_letters("Blutkörperchen é") == "Blutkorperchen e"
