"""Unmodified `tritonclient` over each protocol, behind one call."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from nanocv_cli.serving.launch import Server

PROTOCOLS = ("http", "grpc")


@dataclass(frozen=True)
class Refusal:
    """An error answer: the status as each protocol names it, and Triton's words."""

    status: str
    message: str


class Client:
    """One protocol's client.

    Args:
        server: to ask.
        protocol: http or grpc.
    """

    def __init__(self, server: Server, protocol: str) -> None:
        self.server, self.protocol = server, protocol
        self.module: Any = http_client if protocol == "http" else grpc_client
        address = server.http if protocol == "http" else server.grpc
        self.raw = self.module.InferenceServerClient(address)

    def tensor(self, name: str, array: np.ndarray, datatype: str | None = None, shape: Any = None) -> Any:
        """An input; type and shape may be made to lie."""
        tensor = self.module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        if shape is not None:
            tensor.set_shape(list(shape))
        if datatype is not None and self.protocol == "grpc":
            tensor._input.datatype = datatype
        elif datatype is not None:
            tensor._datatype = datatype
        return tensor

    def infer(self, model: str, inputs: dict[str, np.ndarray], outputs: Any = None, **options: Any) -> Any:
        """The result object of a request."""
        tensors = [self.tensor(name, array) for name, array in inputs.items()]
        return self.raw.infer(model, tensors, outputs=outputs, **options)

    def wanted(self, name: str, **options: Any) -> Any:
        """A requested output."""
        return self.module.InferRequestedOutput(name, **options)

    def json(self, method: str, *arguments: str) -> Any:
        """A description as a plain document, from either protocol."""
        if self.protocol == "http":
            return getattr(self.raw, method)(*arguments)
        return getattr(self.raw, method)(*arguments, as_json=True)


def refusal(ask: Callable[[], Any]) -> Refusal:
    """What the server says no with.

    Raises:
        AssertionError: it said yes.
    """
    try:
        answer = ask()
    except InferenceServerException as error:
        return Refusal(str(error.status()), error.message())
    raise AssertionError(f"answered {answer}")
