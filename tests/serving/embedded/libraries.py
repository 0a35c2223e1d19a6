"""What the tests of a library share: a library in an event loop, and its models asked without a protocol between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.serving.embedded.asking import InferInput, InferRequest, RequestedOutput
from nanocv_cli.serving.embedded.background import SmallestFirstExecutor
from nanocv_cli.serving.embedded.budget import Budget
from nanocv_cli.serving.embedded.exchange import Exchange
from nanocv_cli.serving.embedded.faults import Fault
from nanocv_cli.serving.embedded.inference import complete
from nanocv_cli.serving.embedded.library import Library
from nanocv_cli.serving.embedded.limits import DEFAULT_LIMITS, ModelLimits
from tests.serving.models import entry_config

SOON = 20.0  # seconds: far more than anything here takes, unless it hangs
AMPLE = 1 << 30  # bytes: room for whatever is asked here
X = np.array([[1, 2, 3, 4]], np.uint8)


@asynccontextmanager
async def opened(repository: Path, limits: ModelLimits = DEFAULT_LIMITS) -> AsyncIterator[Library]:
    """A library, ended with the test, however that ends."""
    library = Library(repository, limits)
    try:
        yield library
    finally:
        assert await asyncio.wait_for(library.close(), 2 * SOON)


def doubling_config(name: str = "doubling", **changes: int) -> pb.ModelConfig:
    """A config for the graph `doubling`, in ONNX Runtime's backend."""
    return entry_config(name, "doubling", backend="onnxruntime", **changes)


async def ask(library: Library, name: str, x: np.ndarray = X, tensor: str = "x", classes: int = 0) -> list[np.ndarray]:
    """The outputs of a model for one input.

    Raises:
        Fault: the model's answer.
        TimeoutError: it has none.
    """
    kind = {"uint8": "UINT8", "int64": "INT64"}[str(x.dtype)]
    model = library.find(name)
    wanted = [RequestedOutput(output.name, classes) for output in model.config.output] if classes else []
    request = InferRequest("", [InferInput(tensor, kind, x.shape, x.tobytes())], wanted)
    holding = Budget(AMPLE).holding()
    try:
        answer = complete(model, request, holding, SmallestFirstExecutor(), Exchange())
        return [output.array for output in await asyncio.wait_for(answer, SOON)]
    finally:
        holding.release()


async def refusal(library: Library, name: str, override: str = "") -> str:
    """Why a load is refused; empty if it is not.

    Raises:
        TimeoutError: it neither succeeds nor fails.
    """
    try:
        await asyncio.wait_for(library.load(name, override), SOON)
    except Fault as fault:
        assert "\n" not in fault.message
        assert fault.message
        return fault.message
    return ""
