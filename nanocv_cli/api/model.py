"""A model that answers: opened by name, asked by Python. No torch."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nanocv_cli.config.nearest import nearest
from nanocv_cli.config.project import project_root
from nanocv_cli.errors import DataError, RequestError

if TYPE_CHECKING:
    from nanocv_cli.engine.card import ModelCard
    from nanocv_cli.engine.engine import Engine
    from nanocv_cli.engine.infer import Answer
    from nanocv_cli.images.sources import Source
    from nanocv_cli.tasks.postprocessor import Result

STDIN = "-"
ImageLike = str | Path | NDArray[np.uint8]


class Model:
    """An exported model that answers; `load` opens one.

    Attributes:
        card: its model card: name, task, classes, input size, metrics.
        origin: the file or URL it was opened from.
    """

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self.card: ModelCard = engine.card
        self.origin = engine.origin

    def predict(
        self, images: ImageLike | Iterable[ImageLike], top: int | None = None, batch_size: int = 8, tile: int = 0
    ) -> list["Result"]:
        """Answers images, in their order.

        Args:
            images: one or several of: a file; a folder or a glob, which stand for their images; an array uint8 [H,W,3]
                RGB of any size.
            top: most answers per image, at least 1; None: the task's own number.
            batch_size: images in memory at a time, at least 1.
            tile: side of the squares that images are cut into, pixels; 0: they are read whole.

        Returns:
            one typed result per image, as the task has them: `.predictions`, `.to_json()`, `.to_text()`.

        Raises:
            RequestError: an argument is no image, names none, or is out of its range.
            ModelError: the model makes images and reads none, or fails.
            DataError: an image cannot be read.
        """
        results = []
        for answer, result in self.stream(_sources(images), top, batch_size, tile):
            if result is None:
                raise DataError(f"{answer.source.shown} cannot be read: {answer.problem}", "leave it out")
            results.append(result)
        return results

    def stream(
        self,
        sources: Iterable["Source"],
        top: int | None = None,
        batch_size: int = 8,
        tile: int = 0,
        keep_images: bool = False,
        decoders: int = 0,
    ) -> Iterator[tuple["Answer", "Result | None"]]:
        """Answers a stream of any length; see `predict`.

        Args:
            sources, top, batch_size, tile: as there.
            keep_images: whether answers carry the images as opened.
            decoders: threads that decode images; 0: as many as there are processors.

        Yields:
            the graph's answer to each image, and the typed result of it: None where the image cannot be read, which
            `answer.problem` tells.
        """
        from nanocv_cli.engine.infer import answers
        from nanocv_cli.engine.tiles import Tiling
        from nanocv_cli.tasks.table import postprocessor_for

        for name, number, least in (("top", top, 1), ("batch_size", batch_size, 1), ("tile", tile, 0)):
            _expect_at_least(name, number, least)
        postprocessor = postprocessor_for(self.card.task)
        tiling = Tiling(tile, postprocessor.tile_merger(self.card)) if tile else None
        most = top or postprocessor.top
        for answer in answers(self._engine, sources, batch_size, keep_images, tiling, decoders):
            if answer.problem:
                yield answer, None
            else:
                yield answer, postprocessor.postprocess(answer.outputs, self.card, most, [answer.size])[0]

    def line(self, answer: "Answer", result: "Result | None", **written: str) -> dict[str, Any]:
        """An answer of `stream` as the JSON line of `nanocv infer`.

        Args:
            answer, result: as they were yielded.
            written: files that were made of it, by their keys.
        """
        said = {"error": answer.problem} if result is None else result.to_json()
        return {"path": answer.source.shown, "task": self.card.task, **written, **said}

    def draw(self, image: NDArray[np.uint8], result: "Result") -> NDArray[np.uint8]:
        """The image uint8 [H,W,3] with a result of `predict` drawn on it, of the same size."""
        from nanocv_cli.tasks.table import postprocessor_for

        return postprocessor_for(self.card.task).draw(image, result, self.card)

    def sample(
        self,
        classes: Sequence[str] | None = None,
        n: int = 16,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        solver: Literal["euler", "heun"] | None = None,
        batch_size: int = 16,
    ) -> dict[str, NDArray[np.uint8]]:
        """Makes images of classes, from noise.

        Args:
            classes: names; None: all that the model knows.
            n: images of each, at least 1.
            seed: of the noise; image k of a seed is the same whatever `n` and `batch_size`.
            steps: from noise to image, 1..1000; None: the model's own.
            guidance: 1 follows the class alone, more exaggerates, 0..100; None: the model's own.
            solver: None: the model's own.
            batch_size: images at a time.

        Returns:
            uint8 [n,S,S,3] RGB by class name.

        Raises:
            RequestError: the model knows no such class, or a number is out of its range.
            ModelError: the model reads images and makes none, or fails.
        """
        from nanocv_cli.tasks.table import graph_sampler_for

        for name, number, least in (("n", n, 1), ("seed", seed, 0), ("steps", steps, 1), ("batch_size", batch_size, 1)):
            _expect_at_least(name, number, least)
        sampler = graph_sampler_for(self.card.task)(self._engine)
        settings = sampler.settings(steps, guidance, solver)
        names = known_classes(list(classes) if classes is not None else list(self.card.classes), self.card)
        labels = [self.card.classes.index(name) for name in names]
        made: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in names}
        for label, _, images in sampler.samples(labels, n, seed, settings, batch_size):
            made[self.card.classes[label]].append(images)
        return {name: np.concatenate(batches) for name, batches in made.items()}


def load(
    ref: str | Path | None = None,
    *,
    engine: str | None = None,
    device: str = "auto",
    threads: int = 0,
    precision: str = "fp32",
) -> Model:
    """Opens a model; imports no torch.

    Args:
        ref: a name (`lenet`: the newest finished run of that model, else its pulled weights), a run folder, a
            `.safetensors` or `.onnx` file, a hub's model (`hf://owner/name`), the URL of a served model
            (`http://127.0.0.1:8000/lenet`); None: the project's default model.
        engine: what runs a graph in this process: onnxruntime, openvino, or auto, which measures once which of those
            that are installed is faster here; None: onnxruntime.
        device: auto, cpu, or of ONNX Runtime: cuda, cuda:1 or coreml; auto takes a GPU where it has one.
        threads: 0: the engine chooses, but no more than this process may use.
        precision: what a graph is computed in: fp32, or, by OpenVINO where the processor can, bf16.

    Raises:
        RequestError: there is nothing of that name, no such engine or device, or the engine is not installed.
        ModelError: the file is damaged, no graph was exported yet, or a served model carries no card.
        ServingError: the server does not answer, or has no such model.
    """
    from nanocv_cli.engine.engine import open_engine
    from nanocv_cli.engine.runtimes import RunSettings

    settings = RunSettings(engine, device, threads, precision, shares_processors=True)  # `stream` decodes beside it
    return Model(open_engine(None if ref is None else str(ref), project_root(), settings))


def _expect_at_least(name: str, number: int | None, least: int) -> None:
    """Lets an argument pass that is None or a whole number from `least` on.

    Raises:
        RequestError: it is something else.
    """
    if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < least):
        raise RequestError(f"{name} is {number!r}", f"give a whole number from {least} on")


def known_classes(wanted: list[str], card: "ModelCard") -> list[str]:
    """Class names, each once, if the model knows them.

    Raises:
        RequestError: it does not know one.
    """
    for name in wanted:
        if name not in card.classes:
            known = ", ".join(card.classes[:20]) + (", …" if len(card.classes) > 20 else "")
            raise RequestError(
                f"{card.name} knows no class {name!r}", nearest(name.lower(), card.classes) or f"it knows {known}"
            )
    return list(dict.fromkeys(wanted))


def _sources(images: ImageLike | Iterable[ImageLike]) -> Iterator["Source"]:
    """What `predict` was given, as a stream of images; what names none is refused at once."""
    from nanocv_cli.images.sources import Images, Source

    given = [images] if isinstance(images, str | Path | np.ndarray) else list(images)
    for number, image in enumerate(given):
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise RequestError(
                    f"image {number} is an array {image.dtype} {list(image.shape)}", "give uint8 [H,W,3] RGB"
                )
            yield Source(f"image {number}", image, Path(f"{number}.png"))
        elif str(image) == STDIN:
            raise RequestError("- names no image here", "give a path, or an array uint8 [H,W,3]")
        else:
            yield from Images([str(image)])
