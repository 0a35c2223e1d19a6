"""Models whose answers are known, and whose names mean harm, for pages."""

from pathlib import Path

from nanocv_cli.engine.card import ModelCard
from tests.conftest import COLOURS
from tests.engine.graphs import colour_card, write_graph

SIDE = 16
# As class folders may be called: without the slash that no file name holds.
HOSTILE = (
    '<img src=x onerror="window.hit=1">',
    "\"'><script>window.hit=1<script>",
    "&lt;b&gt; ' onfocus='window.hit=1",
)


def colour_model(path: Path, data: Path, strength: float = 0.05, **changes: object) -> Path:
    """A graph whose answer is the image's strongest channel, with a card that knows its set.

    Args:
        path: `.onnx` to write.
        data: folder of the set.
        strength: logit per grey level; below 0 the weakest channel is the answer.
        changes: of the card.
    """
    card = colour_card(classes=("red", "green", "blue"), input_size=SIDE, config=colour_config(data), **changes)
    return write_graph(path, card, shape=("batch", SIDE, SIDE, 3), strength=strength)


def colour_config(data: Path) -> dict[str, object]:
    return {
        "model": {"name": "colours", "architecture": "lenet", "input_size": SIDE},
        "data": {"name": "colours", "path": str(data)},
    }


def hostile_model(path: Path, data: Path) -> ModelCard:
    """A graph whose classes, those of its set, and the metrics of its card are called `HOSTILE`.

    Args:
        path: `.onnx` to write.
        data: folder of a set of colours; its class folders are renamed.
    """
    for split in data.iterdir():
        for colour, name in zip(sorted(COLOURS), HOSTILE, strict=True):
            (split / colour).rename(split / name)
    metrics = {"\x1b[31mred\x1b[0m</td><script>window.hit=1</script>": 0.5}
    card = colour_card(name="</title><script>window.hit=1</script>", classes=HOSTILE, input_size=SIDE,
                       config=colour_config(data), metrics=metrics)  # fmt: skip
    write_graph(path, card, shape=("batch", SIDE, SIDE, 3))
    return card
