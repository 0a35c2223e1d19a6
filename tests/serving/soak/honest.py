"""Clients that play by the rules and check every bit that they are answered."""

import contextlib
import json
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from nanocv_cli.untrusted import first_line
from tests.serving.soak.keyed import KeyedServer
from tests.serving.soak.pace import Pace
from tests.serving.soak.questions import RARE, Question, Questions

PAUSE = 0.02  # seconds, at a pace of 1
WAYS = ("http", "grpc", "stream", "image")
ASKED_BY_ONE = 200  # requests, after which a client leaves and another one comes
ASKED_IN_A_STREAM = 8
MOST_AS_JSON = 2000  # bytes of an answer that is asked for as JSON at times
MOST_TOLD = 20  # failures that are described
TIMEOUT = 60.0


@dataclass
class Tally:
    """What came of the requests of all honest clients.

    Attributes:
        counts: right, wrong and failed answers; and what managers did.
        failures: descriptions of the first that were not right.
        doing: the abuse that is going on.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    doing: str = ""
    _seconds: list[float] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def right(self, way: str, seconds: float) -> None:
        """One was answered right, after so long."""
        with self._lock:
            self.counts["right"] += 1
            self.counts[f"right by {way}"] += 1
            self._seconds.append(seconds)

    def did(self, what: str) -> None:
        """Something else happened as it should."""
        with self._lock:
            self.counts[what] += 1

    def failed(self, kind: str, what: str) -> None:
        """One was answered wrong, or not at all."""
        with self._lock:
            self.counts[kind] += 1
            if len(self.failures) < MOST_TOLD and f"{kind}: {what}" not in self.failures:
                self.failures.append(f"{kind}: {what}")

    def latencies(self) -> list[float]:
        """Of right answers since the last call, in seconds."""
        with self._lock:
            taken, self._seconds = self._seconds, []
        return taken


def ask_on(way: str, server: KeyedServer, questions: Questions, tally: Tally, pace: Pace, seed: int) -> None:
    """Asks and checks until the soak ends.

    Args:
        way: one of `WAYS`.
        server: whom.
        questions: what.
        tally: takes what came of it.
        pace: how often.
        seed: of what is asked, and in which order.
    """
    chance = random.Random(seed)
    while not pace.is_over and (way != "image" or questions.of_images):
        try:
            ask = {"stream": _in_streams, "image": _by_images}.get(way, _one_by_one)
            ask(way, server, questions, tally, pace, chance)
        except Exception as error:
            what = f"{error.code()}: {error.details()}" if isinstance(error, grpc.Call) else first_line(error)
            tally.failed("failed", f"{way}, beside {tally.doing}: {type(error).__name__}: {what}")


def _one_by_one(
    way: str, server: KeyedServer, questions: Questions, tally: Tally, pace: Pace, chance: random.Random
) -> None:
    client = server.client(way)
    try:
        for _ in range(ASKED_BY_ONE):
            question = questions.draw(chance)
            wanted = None
            size = sum(array.nbytes for array in question.outputs.values())
            if way == "http" and size <= MOST_AS_JSON and chance.random() < 0.2:
                wanted = [client.wanted(name, binary_data=False) for name in question.outputs]
            start = time.monotonic()
            answer = client.infer(question.model, question.inputs, wanted)
            seconds = time.monotonic() - start
            _check(way, question, {name: answer.as_numpy(name) for name in question.outputs}, seconds, tally)
            if pace.wait(PAUSE):
                return
    finally:
        client.raw.close()


def _in_streams(
    way: str, server: KeyedServer, questions: Questions, tally: Tally, pace: Pace, chance: random.Random
) -> None:
    to_send: queue.Queue[Any] = queue.Queue()
    with server.channel() as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answers: Iterator[Any] = stub.ModelStreamInfer(
            iter(to_send.get, None), timeout=TIMEOUT, metadata=server.metadata
        )
        for _ in range(ASKED_IN_A_STREAM):
            question = questions.draw(chance)
            start = time.monotonic()
            to_send.put(as_message(question))
            answer = next(answers)
            seconds = time.monotonic() - start
            if answer.error_message:
                tally.failed("failed", f"{way}: {question.model}: {answer.error_message}")
                continue
            _check(way, question, _arrays(question, answer.infer_response), seconds, tally)
            if pace.wait(PAUSE):
                break
        to_send.put(None)
        for _ in answers:
            tally.failed("wrong", f"{way}: an answer to no question")


def _by_images(
    way: str, server: KeyedServer, questions: Questions, tally: Tally, pace: Pace, chance: random.Random
) -> None:
    with contextlib.closing(HTTPConnection(server.http, timeout=TIMEOUT)) as connection:
        for _ in range(ASKED_BY_ONE):
            question = chance.choice(questions.of_images)
            headers = {"Content-Type": "image/any", "Authorization": server.authorization}
            start = time.monotonic()
            connection.request("POST", f"/v2/models/{question.model}/infer", question.file, headers)
            answer = connection.getresponse()
            document = json.loads(answer.read())
            seconds = time.monotonic() - start
            if answer.status != 200:
                tally.failed("failed", f"{way}: {question.model}: {answer.status} {document}")
            elif document != question.document:
                tally.failed("wrong", f"{way}: {question.model}: {document}, not {question.document}")
            else:
                tally.right(way, seconds)
            if pace.wait(RARE * PAUSE):
                return


def as_message(question: Question) -> Any:
    """The request in gRPC, with raw tensors."""
    request = service_pb2.ModelInferRequest(model_name=question.model)
    for name, array in question.inputs.items():
        kind = {"uint8": "UINT8", "int64": "INT64", "float32": "FP32"}[str(array.dtype)]
        request.inputs.add(name=name, datatype=kind, shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return request


def _arrays(question: Question, response: Any) -> dict[str, np.ndarray | None]:
    raw = dict(zip([output.name for output in response.outputs], response.raw_output_contents, strict=True))
    shapes = {output.name: tuple(output.shape) for output in response.outputs}
    return {
        name: np.frombuffer(raw[name], right.dtype).reshape(shapes[name])
        for name, right in question.outputs.items()
        if name in raw
    }


def _check(way: str, question: Question, found: dict[str, Any], seconds: float, tally: Tally) -> None:
    for name, right in question.outputs.items():
        array = found.get(name)
        if array is None or array.shape != right.shape or array.dtype != right.dtype:
            tally.failed("wrong", f"{way}: {question.model}: {name} has another shape or type")
            return
        if array.tobytes() != right.tobytes():
            tally.failed("wrong", f"{way}: {question.model}: {name} differs in {np.sum(array != right)} values")
            return
    tally.right(way, seconds)
