"""An inference asked for by HTTP: by tensors, by tensors of image files, or by one image as it is."""

from nanocv_cli.serving.embedded.asking import Asked, checked
from nanocv_cli.serving.embedded.background import SmallestFirstExecutor
from nanocv_cli.serving.embedded.encoded import answer_files
from nanocv_cli.serving.embedded.http import codec
from nanocv_cli.serving.embedded.http.image_door import ImageDoor, PostprocessorFor, is_image
from nanocv_cli.serving.embedded.http.messages import Body, HttpAnswer, HttpRequest, uncompressed
from nanocv_cli.serving.embedded.image_reading import ImageReader, expect_no_image
from nanocv_cli.serving.embedded.inference import InferOutput, answered
from nanocv_cli.serving.embedded.limits import Limits
from nanocv_cli.serving.embedded.model import LoadedModel
from nanocv_cli.serving.embedded.outlines import LONGEST_TEXT


class Inferring:
    """What stands at `infer` of every model.

    Args:
        limits: of requests.
        executor: where long work on them is done.
        reader: decodes images.
        postprocessor_for: see `ImageDoor`.
    """

    def __init__(
        self,
        limits: Limits,
        executor: SmallestFirstExecutor,
        reader: ImageReader,
        postprocessor_for: PostprocessorFor,
    ) -> None:
        self._limits, self._executor, self._reader = limits, executor, reader
        self._image_door = ImageDoor(reader, executor, postprocessor_for)

    async def answer(self, model: LoadedModel, request: HttpRequest) -> HttpAnswer:
        """A model's answer.

        Raises:
            Fault: the request is not one that the model can answer, the model fails, or there is no room.
        """
        body = await uncompressed(request, self._limits.message_bytes, self._executor)
        if is_image(request):
            return await self._image_door.answer(model, body, request)
        expect_no_image(body)
        length = codec.json_length(body, request.headers.get(codec.HEADER_LENGTH), self._limits.text_bytes)
        outputs, request_id = await self._outputs(model, body, length, request)
        text = codec.text_bytes(outputs, self._limits.message_bytes)
        content, length_told = await self._executor.run(text, codec.render_answer, model, request_id, outputs)
        if length_told is None:
            return HttpAnswer(content)
        headers = (("Inference-Header-Content-Length", str(length_told)),)
        return HttpAnswer(content, content_type="application/octet-stream", headers=headers)

    async def _outputs(
        self, model: LoadedModel, body: Body, length: int, request: HttpRequest
    ) -> tuple[list[InferOutput], str]:
        """What the model answers, and what the client calls its request."""
        executor, holding, exchange = self._executor, request.holding, request.exchange
        if model.takes_files:
            sent = await executor.run(length, codec.parse_request, body, length, model)
            return await answer_files(model, sent, holding, executor, exchange, self._reader), sent.request_id
        asked = await self._asked(model, body, length)
        return await answered(model, asked, holding, executor, exchange), asked.request_id

    async def _asked(self, model: LoadedModel, body: Body, length: int) -> Asked:
        text = bytes(body[:length]) if length <= LONGEST_TEXT else b""
        if (known := model.outlines.find(text, len(body) - length)) is not None:
            return known.filled(body, length)
        request = await self._executor.run(length, codec.parse_request, body, length, model)
        asked = await self._executor.run(request.worked_on, checked, model, request)
        model.outlines.keep(text, request, asked)
        return asked
