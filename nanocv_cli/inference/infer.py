"""The spine of `nanocv infer`: a stream of pictures, in small batches, through one graph."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.errors import RequestError
from nanocv_cli.files import atomic_path
from nanocv_cli.inference.images import UnreadableImageError, open_image, resize_to_square
from nanocv_cli.inference.runner import Runner
from nanocv_cli.inference.sources import Source


@dataclass(frozen=True)
class Answer:
    """One picture's outcome: the graph's outputs for it, or why it could not be read.

    Attributes:
        source: the picture.
        image: uint8 [H,W,3] as opened; None where unreadable.
        outputs: the graph's outputs, each with a leading axis of 1; empty where unreadable.
        problem: why it was skipped; empty where it was not.
    """

    source: Source
    image: NDArray[np.uint8] | None
    outputs: dict[str, NDArray[Any]]
    problem: str = ""


def answers(runner: Runner, sources: Iterable[Source], batch_size: int) -> Iterator[Answer]:
    """Answers pictures in order, holding at most one batch of them in memory.

    Args:
        runner: a loaded graph.
        sources: pictures; consumed as answers are taken.
        batch_size: readable and unreadable pictures per batch.
    """
    stream = iter(sources)
    while group := list(islice(stream, batch_size)):
        opened = [(source, *_open(source)) for source in group]
        readable = [image for _, image, _ in opened if image is not None]
        outputs: dict[str, NDArray[Any]] = {}
        if readable:
            card = runner.card
            outputs = runner.run(
                np.stack([resize_to_square(image, card.input_size, card.resize) for image in readable])
            )
        row = 0
        for source, image, problem in opened:
            if image is None:
                yield Answer(source, None, {}, problem)
                continue
            yield Answer(source, image, {name: value[row : row + 1] for name, value in outputs.items()})
            row += 1


def _open(source: Source) -> tuple[NDArray[np.uint8] | None, str]:
    try:
        return open_image(source.content), ""
    except UnreadableImageError as error:
        return None, error.message


class AnnotatedCopies:
    """Writes annotated pictures below a folder; never over an input and never over one another.

    Args:
        folder: made where it is missing.
        arguments: what the user named as pictures.

    Raises:
        RequestError: the folder is one of the inputs' own, or lies within one.
    """

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        named = [Path(argument) for argument in arguments if Path(argument).exists()]
        beside_files = {path.resolve().parent for path in named if path.is_file()}
        within_folders = [path.resolve() for path in named if path.is_dir()]
        target = folder.resolve()
        if target in beside_files or any(target.is_relative_to(path) for path in within_folders):
            raise RequestError(f"--out {folder} lies among the pictures themselves", "choose a folder outside of them")
        self.folder = folder
        self._taken: set[Path] = set()

    def write(self, source: Source, image: NDArray[np.uint8]) -> Path:
        """Writes uint8 [H,W,3] under the source's own relative name: JPEG as JPEG, everything else as PNG.

        Raises:
            StorageError: the folder cannot be written.
        """
        from PIL import Image

        jpeg = source.relative.suffix.lower() in (".jpg", ".jpeg")
        target = self._free(source.relative if jpeg else source.relative.with_suffix(".png"))
        with atomic_path(target) as temporary:
            Image.fromarray(image).save(temporary, "JPEG" if jpeg else "PNG", **({"quality": 92} if jpeg else {}))
        return target

    def _free(self, relative: Path) -> Path:
        """`name.jpg`, else `name-2.jpg` and so on, where another picture of this call has it."""
        for number in range(1, 1_000_000):
            stem = relative.stem if number == 1 else f"{relative.stem}-{number}"
            target = self.folder / relative.with_name(stem + relative.suffix)
            if target not in self._taken:
                self._taken.add(target)
                return target
        raise AssertionError("a million pictures of one name")
