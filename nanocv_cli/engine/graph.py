"""Runs an exported graph by ONNX Runtime: raw images in, named outputs back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.engine import EXPORT_AGAIN, Engine, graph_source, rows_at_a_time
from nanocv_cli.engine.runtimes import RunSettings
from nanocv_cli.engine.sessions import CPU, Device, new_session, pick_session_device, session_options, stoppable
from nanocv_cli.engine.signature import GraphSignature, TensorSignature
from nanocv_cli.errors import ModelError, RequestError
from nanocv_cli.untrusted import first_line


class Graph(Engine):
    """A graph loaded into this process; see `Engine`.

    Args:
        path: an `.onnx` file with a model card.
        threads: ONNX Runtime's intra-op threads; 0: it chooses, but no more than this process may use.
        device: where it runs.
        spinning, whole_numbers: see `sessions.session_options`.

    Attributes:
        path: as given.

    Raises:
        ModelError: the file is missing, damaged or not ours.
        RequestError: the device cannot be used.
    """

    def __init__(
        self, path: Path, threads: int = 0, device: Device = CPU, spinning: bool = True, whole_numbers: bool = True
    ) -> None:
        source = graph_source(path)
        try:
            self._session = new_session(
                source, session_options(threads, spinning=spinning, whole_numbers=whole_numbers), device
            )
        except RequestError:
            raise
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise ModelError(f"{path} cannot be loaded as an ONNX graph: {first_line(error)}", EXPORT_AGAIN) from error
        self._run_options = stoppable()
        self.path = path
        try:
            metadata = self._session.get_modelmeta().custom_metadata_map
            signature = graph_signature(self._session)
        except UnicodeDecodeError as error:
            raise ModelError(f"{path} holds names that are no UTF-8 text", EXPORT_AGAIN) from error
        card = ModelCard.from_metadata(metadata, str(path))
        super().__init__(str(path), card, signature, rows_at_a_time(signature), "onnxruntime", device.name)
        self._outputs = [output.name for output in signature.outputs]

    def _run(self, graph_inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            outputs = self._session.run(None, dict(graph_inputs), self._run_options)
        except Exception as error:  # see above
            raise self._failure(graph_inputs, error) from error
        return dict(zip(self._outputs, outputs, strict=True))

    def _failure(self, graph_inputs: Mapping[str, NDArray[Any]], error: Exception) -> ModelError:
        count = max((len(array) for array in graph_inputs.values() if array.ndim), default=0)
        return ModelError(f"{self.path} failed on {count} images: {first_line(error)}", EXPORT_AGAIN)


def open_by_onnxruntime(path: Path, settings: RunSettings) -> Engine:
    """See `runtimes.Opener`; for devices `sessions.pick_session_device`."""
    device = pick_session_device(settings.device)
    return Graph(
        path, settings.threads, device, spinning=not settings.shares_processors, whole_numbers=settings.whole_numbers
    )


def graph_signature(session: Any) -> GraphSignature:
    """What a loaded `InferenceSession` takes and gives."""

    def told(argument: Any) -> TensorSignature:
        shape = tuple(size if isinstance(size, int) else None for size in argument.shape)
        return TensorSignature(argument.name, argument.type, shape)

    given, own = session.get_inputs(), session.get_overridable_initializers()
    return GraphSignature(tuple(map(told, given)), tuple(map(told, session.get_outputs())), tuple(map(told, own)))
