"""What requests say beside the numbers of their tensors, read and checked once for all that say the same.

A client sends the same text (the JSON of HTTP, all but the raw tensors of gRPC) with each of its images. Equal bytes
that ask the same model are the same request, but for the numbers: those are used where they lie in the message.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nanocv_cli.serving.embedded.asking import Asked, InferRequest, RequestedOutput
from nanocv_cli.serving.embedded.encoding import Buffer
from nanocv_cli.serving.embedded.graph_settings import Named

LONGEST_TEXT = 1 << 11  # bytes of one that is kept
MOST_KNOWN = 64  # of a model; then all are let go, and those that are still sent come back


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a tensor lies behind the text."""

    name: str
    kind: np.dtype[Any]
    shape: tuple[int, ...]
    start: int


@dataclass(frozen=True, slots=True)
class Outline:
    """A request without its numbers.

    Attributes:
        placed: the tensors, in the config's order.
        size: bytes of all of them.
        rows, wanted, timeout_ns, settings: see `Asked`.
    """

    placed: tuple[Placed, ...]
    size: int
    rows: int
    wanted: Sequence[RequestedOutput]
    timeout_ns: int
    settings: Named

    def filled(self, content: Buffer, start: int) -> Asked:
        """The request whose tensors lie in `content`, from `start` on."""
        inputs = {one.name: np.ndarray(one.shape, one.kind, content, start + one.start) for one in self.placed}
        return Asked("", inputs, self.rows, self.wanted, self.timeout_ns, 0, self.settings)


class Outlines:
    """The texts that a model was asked by, and what they say."""

    def __init__(self) -> None:
        self._known: dict[bytes, Outline] = {}

    def find(self, text: bytes, size: int) -> Outline | None:
        """What a text says that was checked before.

        Args:
            text: of a request.
            size: bytes of tensors that follow it.
        """
        found = self._known.get(text)
        return found if found is not None and found.size == size else None

    def keep(self, text: bytes, request: InferRequest, asked: Asked) -> None:
        """Keeps what was found right, if it may be asked again: it has no id, and its numbers are not in the text.

        Args:
            text: of the request; the tensors follow in the order in which it names them.
            request: as it was read.
            asked: as it was checked.
        """
        if request.request_id or request.remade or not 0 < len(text) <= LONGEST_TEXT:
            return
        starts, size = dict[str, int](), 0
        for tensor in request.inputs:
            starts[tensor.name] = size
            size += asked.inputs[tensor.name].nbytes
        placed = tuple(Placed(name, array.dtype, array.shape, starts[name]) for name, array in asked.inputs.items())
        if text not in self._known and len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[text] = Outline(placed, size, asked.rows, asked.wanted, asked.timeout_ns, asked.settings)
