"""The stream of answers: in order, a batch at a time, unreadable images in their places."""

import io
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nanocv_cli.engine import infer
from nanocv_cli.engine.graph import Graph
from nanocv_cli.engine.infer import answers
from nanocv_cli.errors import RequestError
from nanocv_cli.images.sources import Source
from tests.engine.graphs import COLOURS, write_graph


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return Graph(write_graph(tmp_path_factory.mktemp("graph") / "model.onnx"), threads=1)


def source(name: str, colour: str | None) -> Source:
    """An image of one colour as bytes; None: no image at all."""
    buffer = io.BytesIO()
    if colour:
        Image.new("RGB", (12, 9), colour).save(buffer, "PNG")
    return Source(name, buffer.getvalue(), Path(name))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_every_image_gets_its_own_answer_in_order(graph: Graph, batch_size: int) -> None:
    colours = ["red", "blue", None, "lime", None, "red", "blue"]
    given = [source(str(index), colour) for index, colour in enumerate(colours)]
    found = list(answers(graph, given, batch_size))
    assert [answer.source for answer in found] == given
    for colour, answer in zip(colours, found, strict=True):
        if colour is None:
            assert (answer.problem, answer.outputs) == ("the file is empty", {})
        else:
            assert answer.problem == ""
            assert answer.outputs["probabilities"].shape == (1, 3)
            best = COLOURS[int(answer.outputs["probabilities"].argmax())]
            assert best == {"lime": "green"}.get(colour, colour)


def test_a_batch_without_a_readable_image(graph: Graph) -> None:
    assert [answer.problem for answer in answers(graph, [source("x", None)] * 3, 2)] == ["the file is empty"] * 3


def test_images_are_kept_only_where_they_are_asked_for(graph: Graph) -> None:
    (plain,) = answers(graph, [source("x", "red")], 8)
    (kept,) = answers(graph, [source("x", "red")], 8, keep_images=True)
    assert plain.image is None
    assert kept.image is not None
    assert np.array_equal(kept.image, np.full((9, 12, 3), (255, 0, 0), np.uint8))


def test_sources_are_taken_two_batches_ahead(graph: Graph) -> None:
    taken = 0

    def counted() -> Iterator[Source]:
        nonlocal taken
        for _ in range(40):
            taken += 1
            yield source("x", "red")

    stream = answers(graph, counted(), 4)
    next(stream)
    assert taken == 8
    for _ in range(4):
        next(stream)
    assert taken == 12


def test_the_next_images_are_decoded_while_the_graph_answers(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = [threading.Event() for _ in range(4)]
    run, decode = graph.run, infer.open_square

    def noted(content: Path | bytes, size: int, rule: str) -> object:
        square = decode(content, size, rule)
        next(event for event in decoded if not event.is_set()).set()
        return square

    monkeypatch.setattr(infer, "open_square", noted)
    monkeypatch.setattr(graph, "run", lambda images: decoded[3].wait(60) and run(images))
    assert len(list(answers(graph, [source(str(index), "red") for index in range(4)], 2))) == 4


def test_an_image_that_has_to_be_waited_for_does_not_hold_up_those_before(graph: Graph) -> None:
    read: list[str] = []
    bytes_of_blue = source("x", "blue").file

    def wait() -> bytes:
        read.append("-")
        assert isinstance(bytes_of_blue, bytes)
        return bytes_of_blue

    stream = answers(graph, [source("x", "red"), Source("-", wait, Path("-")), source("y", "lime")], 1)
    next(stream)
    assert read == []
    assert [answer.source.shown for answer in stream] == ["-", "y"]
    assert read == ["-"]


def test_images_before_a_folder_that_fails_are_answered(graph: Graph) -> None:
    def failing() -> Iterator[Source]:
        yield from (source(str(index), "red") for index in range(3))
        raise RequestError("the folder went away", "look for it")

    stream = answers(graph, failing(), 2)
    assert [next(stream).source.shown for _ in range(2)] == ["0", "1"]
    with pytest.raises(RequestError, match="went away"):
        list(stream)


@pytest.mark.parametrize("keep_images", [True, False])
def test_memory_holds_two_batches_however_many_images(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, keep_images: bool
) -> None:
    alive: weakref.WeakSet[Opened] = weakref.WeakSet()
    most = 0

    counting = threading.Lock()

    def opened() -> Opened:
        nonlocal most
        image = np.zeros((9, 9, 3), np.uint8).view(Opened)
        with counting:
            alive.add(image)
            most = max(most, len(alive))
        return image

    def both(_: bytes, size: int, rule: str) -> object:
        image = opened()
        return image[:size, :size], (9, 9), image

    monkeypatch.setattr(infer, "open_both", both)
    monkeypatch.setattr(infer, "open_square", lambda _, size, rule: (opened()[:size, :size], (9, 9)))
    for _ in answers(graph, (Source("x", b"", Path("x")) for _ in range(200)), 5, keep_images=keep_images):
        pass
    # Two batches, and the last image of the batch before, which is dropped when the next one takes its name.
    assert most <= 11


def test_a_batch_ends_where_its_images_come_to_the_bound(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [source(str(index), "blue") for index in range(7)]
    image = 12 * 9 * 3 + graph.card.input_size**2 * 3
    sizes: list[int] = []
    run = graph.run
    monkeypatch.setattr(graph, "run", lambda images: sizes.append(len(images)) or run(images))
    monkeypatch.setattr(infer, "BATCH_BYTES", 2 * image + 1)
    found = list(answers(graph, given, 100, keep_images=True))
    assert [answer.source for answer in found] == given
    assert sizes == [3, 3, 1]


class Opened(np.ndarray):
    """An array that can be counted: it hashes by identity and takes weak references."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:  # type: ignore[override]
        return self is other
