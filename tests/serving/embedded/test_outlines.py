"""Texts that were checked before, and how many of them are kept."""

import numpy as np

from nanocv_cli.serving.embedded.asking import Asked, InferInput, InferRequest
from nanocv_cli.serving.embedded.outlines import MOST_KNOWN, Outlines


def keep(outlines: Outlines, text: bytes, size: int) -> None:
    x = np.zeros(size, np.uint8)
    outlines.keep(text, InferRequest("", [InferInput("x", "UINT8", x.shape, x.data)]), Asked("", {"x": x}, 1, []))


def test_a_text_that_is_known_lets_no_other_go() -> None:
    outlines, texts = Outlines(), [b"%d" % number for number in range(MOST_KNOWN)]
    for text in [*texts, texts[0]]:
        keep(outlines, text, 4)
    assert all(outlines.find(text, 4) for text in texts)
    keep(outlines, texts[0], 5)  # numbers of another size
    assert [outlines.find(texts[0], size) is not None for size in (4, 5)] == [False, True]
    assert outlines.find(texts[1], 4)
    keep(outlines, b"another", 4)
    assert [outlines.find(text, 4) for text in texts] == [None] * MOST_KNOWN
    assert outlines.find(b"another", 4)
