"""An image as the whole body of a request, and what a model says of it as the JSON document of `nanocv infer`.

What the outputs mean is for the model's task to say, by a function that the server is given: this side knows no task.
"""

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.errors import ModelError
from nanocv_cli.serving.embedded.asking import InferInput, InferRequest
from nanocv_cli.serving.embedded.background import SmallestFirstExecutor
from nanocv_cli.serving.embedded.encoding import ENCODE
from nanocv_cli.serving.embedded.faults import Fault, Status, shown
from nanocv_cli.serving.embedded.http.messages import Body, HttpAnswer, HttpRequest
from nanocv_cli.serving.embedded.image_reading import ImageReader, card_of
from nanocv_cli.serving.embedded.inference import complete
from nanocv_cli.serving.embedded.model import LoadedModel

MOST_ANSWERS = 100_000  # of an image, as in `nanocv infer --top`
MOST_OPTIONS = 8
NUMBER = re.compile("[0-9]{1,9}")  # more digits are not even read
STDIN = "-"  # what `nanocv infer` calls an image that has no path


class Result(Protocol):
    """What a model says of one image; see `tasks.postprocessor.Result`."""

    def to_json(self) -> dict[str, Any]: ...

    def attached(self) -> dict[str, NDArray[np.uint8]]: ...


class Postprocessor(Protocol):
    """What understands a graph's outputs; see `tasks.postprocessor.Postprocessor`."""

    top: ClassVar[int]

    def postprocess(
        self, outputs: Mapping[str, NDArray[Any]], card: ModelCard, top: int, sizes: Sequence[tuple[int, int]]
    ) -> Sequence[Result]: ...


PostprocessorFor = Callable[[str], Postprocessor]


class ImageDoor:
    """Answers images that are sent as they are.

    Args:
        reader: decodes them.
        executor: where long work on requests is done.
        postprocessor_for: what understands the outputs of a task that a card names; raises ModelError where none does.
    """

    def __init__(
        self, reader: ImageReader, executor: SmallestFirstExecutor, postprocessor_for: PostprocessorFor
    ) -> None:
        self._reader, self._executor, self._postprocessor_for = reader, executor, postprocessor_for

    async def answer(self, model: LoadedModel, body: Body, request: HttpRequest) -> HttpAnswer:
        """What `nanocv infer --json -` prints for the image.

        The query may hold `top`, the most answers, and `attached=true`: images that belong to the answer, such as a
        mask, then stand in it as `data:` URLs of PNG files.

        Args:
            model: the one that is asked.
            body: the image's file, uncompressed.
            request: it came in.

        Raises:
            Fault: it is no image, or none for this model; the model fails; there is no such option.
        """
        top, attached = _options(request.target)
        card = card_of(model)
        try:
            postprocessor = self._postprocessor_for(card.task)
        except ModelError as error:
            raise Fault(error.message) from error
        tensor = _images_input(model, card)
        square, size = await self._reader.square(bytes(body), card, request.holding)
        request.holding.add(square.nbytes)
        rows = (1,) if model.config.max_batch_size else ()
        asked = InferRequest(
            "",
            [InferInput(tensor, "UINT8", (*rows, *square.shape), np.ascontiguousarray(square).data.cast("B"))],
            binary=True,  # outputs are counted by their bytes: they are read here, and not written as JSON
        )
        outputs = await complete(model, asked, request.holding, self._executor, request.exchange)
        found = {output.name: output.array if rows else output.array[np.newaxis] for output in outputs}

        def described() -> bytes:
            result = postprocessor.postprocess(found, card, top or postprocessor.top, [size])[0]
            images = {name: _data_url(image) for name, image in result.attached().items()} if attached else {}
            return ENCODE({"path": STDIN, "task": card.task, **images, **result.to_json()}).encode()

        try:
            return HttpAnswer(await self._reader.run(request.holding, described))
        except ModelError as error:
            raise Fault(error.message, Status.INTERNAL) from error


def is_image(request: HttpRequest) -> bool:
    """Whether a request says that its body is an image."""
    return request.headers.get("content-type", "").lower().startswith("image/")


def _images_input(model: LoadedModel, card: ModelCard) -> str:
    """The name of a model's one input, if it reads images as its card promises."""
    entries = model.inputs
    sizes = (card.input_size, card.input_size, 3)
    fits = (
        len(entries) == 1
        and len(entries[0].dims) == len(sizes)
        and all(dim in (-1, size) for dim, size in zip(entries[0].dims, sizes, strict=True))
    )
    if not fits:
        raise Fault(f"model '{model.name}' does not read images; send its tensors")
    return str(entries[0].name)


def _options(target: bytes) -> tuple[int | None, bool]:
    """The most answers, and whether images come with them, from the query of a request."""
    top, attached = None, False
    try:
        options = (
            parse_qsl(
                target.partition(b"?")[2].decode(),
                keep_blank_values=True,
                strict_parsing=True,
                max_num_fields=MOST_OPTIONS,
            )
            if b"?" in target
            else []
        )
    except ValueError as error:
        raise Fault("the query cannot be parsed") from error
    for name, value in options:
        if name == "top" and NUMBER.fullmatch(value) and 1 <= int(value) <= MOST_ANSWERS:
            top = int(value)
        elif name == "attached" and value in ("true", "false"):
            attached = value == "true"
        else:
            raise Fault(
                f"'{shown(name)}={shown(value)}' is no option of an image; "
                f"top=N, from 1 to {MOST_ANSWERS:,}, and attached=true are"
            )
    return top, attached


def _data_url(image: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
