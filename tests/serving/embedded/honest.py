"""Honest clients beside bad ones: each answer is right, and comes in a time that is generous on a busy machine."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from nanocv_cli.serving.launch import Server
from tests.serving.embedded.grpc.raw_http2 import METHOD

PATIENCE = 30.0  # seconds for an answer
PAUSE = 0.01
ROW = 4


@contextlib.contextmanager
def honest_clients(server: Server) -> Iterator[None]:
    """One client of each protocol asks the model `doubling` and checks its answers, for as long as the context lasts.

    Raises:
        AssertionError: one got no answer, or a wrong one.
    """
    done, failed = threading.Event(), list[BaseException]()

    def ask_on(ask: Callable[[Server, np.ndarray], np.ndarray]) -> None:
        chance = np.random.default_rng(1)
        try:
            while True:
                x = chance.integers(0, 256, (1, ROW), np.uint8)
                np.testing.assert_array_equal(ask(server, x), 2.0 * x)
                if done.wait(PAUSE):
                    return
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask_on, args=(ask,)) for ask in (by_http, by_grpc)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failed, failed


def by_http(server: Server, x: np.ndarray) -> np.ndarray:
    """An answer in JSON, on a connection of its own."""
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "UINT8", "data": x.ravel().tolist()}
    connection = HTTPConnection(server.http, timeout=PATIENCE)
    try:
        connection.request("POST", "/v2/models/doubling/infer", json.dumps({"inputs": [tensor]}))
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        return np.array(json.loads(content)["outputs"][0]["data"]).reshape(x.shape)
    finally:
        connection.close()


def by_grpc(server: Server, x: np.ndarray) -> np.ndarray:
    """An answer in raw bytes, on a connection of its own."""
    asked = pb.ModelInferRequest(model_name="doubling", raw_input_contents=[x.tobytes()])
    asked.inputs.add(name="x", datatype="UINT8", shape=x.shape)
    with grpc.insecure_channel(server.grpc, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        answer = channel.unary_unary(METHOD + "ModelInfer")(asked.SerializeToString(), timeout=PATIENCE)
    found = pb.ModelInferResponse.FromString(answer).raw_output_contents[0]
    return np.frombuffer(found, np.float32).reshape(x.shape)
