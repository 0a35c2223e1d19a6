"""Who runs the server: loads, unloads, hangs up, scrapes and asks how it is, in the midst of it all."""

import contextlib
import os
import random
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.utils import InferenceServerException

from nanocv_cli.files import write_text
from nanocv_cli.serving.key_file import add_key
from nanocv_cli.untrusted import first_line
from tests.serving.conformance.clients import Client, refusal
from tests.serving.soak.honest import Tally
from tests.serving.soak.keyed import KeyedServer
from tests.serving.soak.pace import Pace
from tests.serving.soak.questions import BROKEN, LOADED_AGAIN, PASSING, doubled

HANGUP_SECONDS = 20.0
MANAGING_ROUNDS = "rounds of managing"

Act = Callable[[KeyedServer, Client, random.Random], None]


def manage(server: KeyedServer, repository: Path, pause: float, tally: Tally, pace: Pace, seed: int) -> None:
    """Does one of its acts after each pause, until the soak ends; counts them by name, and rounds of all.

    Args:
        server: under explicit control.
        repository: what it serves.
        pause: in seconds, whatever the pace.
        tally: takes what came of it.
        pace: tells the end.
        seed: of what is done, and in which order.
    """
    chance = random.Random(seed)
    (repository / BROKEN / "1" / "model.onnx").write_bytes(b"rubbish")
    acts: list[Act] = [load_again, load_again, unload_and_load, load_what_is_broken, scrape, describe]
    if catches(server.pid, signal.SIGHUP):
        acts.append(hang_up)
    to_do: list[Act] = []
    while not pace.rest(pause):
        to_do = to_do or chance.sample(acts, len(acts))
        act = to_do.pop()
        client = server.client(chance.choice(["http", "grpc"]))
        try:
            act(server, client, chance)
            tally.did(act.__name__.replace("_", " "))
        except Exception as error:
            tally.failed("managing failed", f"{act.__name__}: {type(error).__name__}: {first_line(error)}")
        finally:
            client.raw.close()
        if not to_do:
            tally.did(MANAGING_ROUNDS)


def load_again(server: KeyedServer, client: Client, chance: random.Random) -> None:
    """A model that is being asked."""
    client.raw.load_model(chance.choice(LOADED_AGAIN))


def unload_and_load(server: KeyedServer, client: Client, chance: random.Random) -> None:
    """A model goes, is not there, comes back, and answers right at once."""
    question = doubled(chance, PASSING)
    client.raw.unload_model(PASSING)
    refusal(lambda: client.infer(PASSING, question.inputs))
    client.raw.load_model(PASSING)
    answer = client.infer(PASSING, question.inputs).as_numpy("y")
    assert answer.tobytes() == question.outputs["y"].tobytes()


def load_what_is_broken(server: KeyedServer, client: Client, chance: random.Random) -> None:
    """A graph that is none is refused, and the former one serves on."""
    question = doubled(chance, BROKEN)
    assert "cannot be loaded" in refusal(lambda: client.raw.load_model(BROKEN)).message
    answer = client.infer(BROKEN, question.inputs).as_numpy("y")
    assert answer.tobytes() == question.outputs["y"].tobytes()


def scrape(server: KeyedServer, client: Client, chance: random.Random) -> None:
    """All metrics, which are what Prometheus reads."""
    asked = urllib.request.Request(f"http://{server.metrics}/metrics", headers={"Authorization": server.authorization})
    with urllib.request.urlopen(asked, timeout=20) as answer:
        families = {family.name for family in text_string_to_metric_families(answer.read().decode())}
    assert "nv_inference_request_success" in families


def describe(server: KeyedServer, client: Client, chance: random.Random) -> None:
    """Health, index, metadata, config and statistics."""
    assert client.raw.is_server_live()
    assert client.raw.is_server_ready()
    for method in ("get_model_metadata", "get_model_config", "get_inference_statistics"):
        assert client.json(method, "doubling")
    assert client.json("get_model_repository_index")


def hang_up(server: KeyedServer, client: Client, chance: random.Random) -> None:
    """A key is made and taken away again: each is so after a SIGHUP, and nobody else notices."""
    former = server.key_file.read_text(encoding="utf-8")
    new = server.client(client.protocol, add_key(server.key_file, "new", ["infer"], None))
    try:
        _hang_up_until(server, new.raw.is_model_ready)
        write_text(server.key_file, former)
        _hang_up_until(server, lambda name: bool(refusal(lambda: new.raw.get_model_config(name))))
    finally:
        new.raw.close()


def _hang_up_until(server: KeyedServer, is_so: Callable[[str], bool]) -> None:
    """Sends SIGHUP, and asks about a model until that has had its effect."""
    os.kill(server.pid, signal.SIGHUP)
    deadline = time.monotonic() + HANGUP_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(InferenceServerException, AssertionError):
            if is_so("doubling"):
                return
        time.sleep(0.05)
    raise TimeoutError(f"a SIGHUP had no effect in {HANGUP_SECONDS:g} s")


def catches(process: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal, as far as this platform tells."""
    status = Path(f"/proc/{process}/status")
    if not status.exists() or not psutil.pid_exists(process):
        return False
    caught = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)
