"""Clients that keep to no rule, one sort after the other, beside the honest ones."""

import contextlib
import json
import random
import socket
import struct
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import numpy as np

from nanocv_cli.untrusted import first_line
from tests.images.test_resize import png_that_claims
from tests.serving.embedded.attackers import GRPC, HTTP, METRICS, Attacker, Habit, head
from tests.serving.embedded.grpc.floods import FLOODS
from tests.serving.mutations import mutated
from tests.serving.soak.honest import Tally, as_message
from tests.serving.soak.keyed import KeyedAttacker, KeyedServer, with_key
from tests.serving.soak.pace import Pace
from tests.serving.soak.questions import doubled, image_files, looked_up

PAUSE = 0.05  # seconds, at a pace of 1
STEP_SECONDS = 0.05  # of attackers that drip: no slower, or they would be no load at all
MOST_ATTACKERS, KEYED = 40, 0.8
HOARDERS = 40
FLOOD = 300  # connections: more than any client needs, fewer than the server takes
ABORTING = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST
METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH")
PATHS = (
    "/", "*", "/%00", "/metrics", "/v2/" + "x" * 9000, "/v2/models/nobody/infer", "/v2/models/..%2f..%2fetc/config",
    "/v2/models/doubling/versions/99999999999999999999/infer",
)  # fmt: skip
IMAGES = image_files()

ABUSE_ROUNDS = "rounds of abuse"

Abuse = Callable[[KeyedServer, random.Random], None]


def abuse(server: KeyedServer, phase_seconds: float, tally: Tally, pace: Pace, seed: int) -> None:
    """Goes through all habits and all of `SINGLE`, in random order, again and again, until the soak ends.

    Args:
        server: whom.
        phase_seconds: how long one sort of them is at it.
        tally: counts phases, rounds of all of them, and failures to abuse: whoever cannot connect finds no server.
        pace: how often.
        seed: of the order, and of what is sent.
    """
    chance = random.Random(seed)
    while not pace.is_over:
        phases = [(habit.__name__, partial(_attack, habit)) for habit in (*HTTP, *METRICS, *GRPC, *FLOODS)]
        phases += [(single.__name__, partial(_again_and_again, single)) for single in SINGLE]
        chance.shuffle(phases)
        for name, act in phases:
            tally.doing = name
            try:
                act(server, phase_seconds, pace, chance)
                tally.did("phases of abuse")
            except Exception as error:
                tally.failed("abuse failed", f"{name}: {type(error).__name__}: {first_line(error)}")
            if pace.is_over:
                return
        tally.did(ABUSE_ROUNDS)


def _attack(habit: Habit, server: KeyedServer, seconds: float, pace: Pace, chance: random.Random) -> None:
    address = server.grpc if habit in (*GRPC, *FLOODS) else server.metrics if habit in METRICS else server.http
    # All others are refused for having no key, which they may try as they like.
    crowd = [
        KeyedAttacker(server, address, habit) if chance.random() < KEYED else Attacker(address, habit)
        for _ in range(chance.randint(4, MOST_ATTACKERS))
    ]
    end, turn = time.monotonic() + seconds, 0
    try:
        while (not turn or time.monotonic() < end) and not pace.wait(STEP_SECONDS):
            for one in crowd:
                if not one.is_closed:
                    one.step()
            turn += 1
            if crowd[turn % len(crowd)].is_closed:
                crowd[turn % len(crowd)].connect()
    finally:
        for one in crowd:
            one.close()


def _again_and_again(single: Abuse, server: KeyedServer, seconds: float, pace: Pace, chance: random.Random) -> None:
    """At least once, however short the phase is."""
    end = time.monotonic() + seconds
    single(server, chance)
    while time.monotonic() < end and not pace.wait(PAUSE):
        single(server, chance)


def mutated_http(server: KeyedServer, chance: random.Random) -> None:
    """A request that was right, with some bytes changed."""
    _say(server, mutated(good_request(server, chance), chance), end=True)


def mutated_grpc(server: KeyedServer, chance: random.Random) -> None:
    """The same by gRPC."""
    content = as_message(chance.choice((doubled, looked_up))(chance)).SerializeToString()
    with server.channel() as channel:
        call: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for _ in range(5):
            try:
                call(mutated(content, chance), timeout=20, metadata=server.metadata)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    raise


def bad_values(server: KeyedServer, chance: random.Random) -> None:
    """Rows that there are not, which fail in the graph, in a batch with those of honest clients."""
    index = np.array([[chance.choice([-11, 10, 1 << 40])]], np.int64)
    _say(server, binary_request(server, "looking_up", "index", "INT64", index))


def halved(server: KeyedServer, chance: random.Random) -> None:
    """A request that ends in its midst."""
    whole = good_request(server, chance)
    _say(server, whole[: chance.randrange(len(whole))], end=chance.random() < 0.5)


def resetting(server: KeyedServer, chance: random.Random) -> None:
    """A connection reset somewhere between its beginning and its answer."""
    whole = good_request(server, chance) * chance.randint(1, 3)
    with _connect(server) as one:
        one.sendall(whole[: chance.randrange(len(whole) + 1)])
        if chance.random() < 0.5:
            time.sleep(chance.random() * 0.01)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORTING)


def cancelling(server: KeyedServer, chance: random.Random) -> None:
    """Calls that are cancelled before they are answered."""
    message = as_message(doubled(chance)).SerializeToString()
    with server.channel() as channel:
        call: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        futures = [call.future(message, timeout=20, metadata=server.metadata) for _ in range(10)]
        for future in futures:
            future.cancel()


def flooding(server: KeyedServer, chance: random.Random) -> None:
    """Many connections at once, some of which have begun to say something."""
    crowd: list[socket.socket] = []
    try:
        for _ in range(FLOOD):
            crowd.append(_connect(server))
            if chance.random() < 0.3:
                crowd[-1].sendall(good_request(server, chance)[: chance.randrange(200)])
        time.sleep(0.5)
    finally:
        for one in crowd:
            one.close()


def hoarding(server: KeyedServer, chance: random.Random) -> None:
    """Requests that together are more than there is room for, and none of them whole."""
    with contextlib.ExitStack() as crowd:
        for _ in range(HOARDERS):
            one = crowd.enter_context(_connect(server))
            one.settimeout(1)
            with contextlib.suppress(OSError):  # it may lose what it has sent
                one.sendall(with_key(head("Content-Length: 1000000"), server) + bytes(900_000))
        time.sleep(0.2)


def wandering(server: KeyedServer, chance: random.Random) -> None:
    """Paths, methods and models that there are not."""
    _say(server, with_key(head("Content-Length: 0", method=chance.choice(METHODS), path=chance.choice(PATHS)), server))


def bad_images(server: KeyedServer, chance: random.Random) -> None:
    """Images that are damaged, and some that claim to be as large as a bomb."""
    file = png_that_claims(chance.choice([1, 7000, 60_000, 1 << 31]), chance.choice([1, 7000, 60_000]))
    if chance.random() < 0.7:
        file = mutated(chance.choice(IMAGES), chance)
    model = chance.choice(["lenet", "nanospot", "nanoseg", "doubling"])
    line = head("Content-Type: image/png", f"Content-Length: {len(file)}", path=f"/v2/models/{model}/infer")
    _say(server, with_key(line, server) + file)


SINGLE: tuple[Abuse, ...] = (
    mutated_http, mutated_grpc, bad_values, halved, resetting, cancelling, flooding, hoarding, wandering, bad_images
)  # fmt: skip


def good_request(server: KeyedServer, chance: random.Random) -> bytes:
    """A whole request by HTTP, as JSON or binary."""
    x = doubled(chance).inputs["x"]
    if chance.random() < 0.5:
        return binary_request(server, "doubling", "x", "UINT8", x)
    body = json.dumps({"inputs": [_tensor("x", "UINT8", x, data=x.ravel().tolist())]}).encode()
    return with_key(head(f"Content-Length: {len(body)}", path="/v2/models/doubling/infer"), server) + body


def binary_request(server: KeyedServer, model: str, name: str, datatype: str, array: np.ndarray) -> bytes:
    """A whole request by HTTP with one binary tensor."""
    tensor = _tensor(name, datatype, array, parameters={"binary_data_size": array.nbytes})
    text = json.dumps({"inputs": [tensor]}).encode()
    lengths = f"Content-Length: {len(text) + array.nbytes}", f"Inference-Header-Content-Length: {len(text)}"
    return with_key(head(*lengths, path=f"/v2/models/{model}/infer"), server) + text + array.tobytes()


def _tensor(name: str, datatype: str, array: np.ndarray, **more: object) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": list(array.shape), **more}


def _connect(server: KeyedServer) -> socket.socket:
    host, port = server.http.split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def _say(server: KeyedServer, content: bytes, end: bool = False) -> None:
    """Says it, and takes the beginning of an answer if there is one soon."""
    with _connect(server) as one:
        try:
            one.sendall(content)
            if end:
                one.shutdown(socket.SHUT_WR)
            one.settimeout(0.5)
            one.recv(4096)
        except OSError:  # closed by the server, as it may, or silent because it waits for more
            pass
