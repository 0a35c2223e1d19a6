"""Numbers that requests name beside their tensors: bounded by the entry, and each request's own."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
import tritonclient.http as http
from tritonclient.grpc import model_config_pb2 as pb
from tritonclient.utils import InferenceServerException

from nanocv_cli.engine.signature import GraphSignature, TensorSignature
from nanocv_cli.errors import ModelError
from nanocv_cli.serving.embedded.asking import checked
from nanocv_cli.serving.embedded.background import SmallestFirstExecutor
from nanocv_cli.serving.embedded.budget import Budget
from nanocv_cli.serving.embedded.exchange import Exchange
from nanocv_cli.serving.embedded.faults import Fault
from nanocv_cli.serving.embedded.graph_settings import Setting, named, offered
from nanocv_cli.serving.embedded.http.codec import parse_request
from nanocv_cli.serving.embedded.inference import answered
from nanocv_cli.serving.embedded.model import LoadedModel
from nanocv_cli.serving.launch import started
from nanocv_cli.serving.repository.model_config import SETTINGS_KEY
from nanocv_cli.serving.repository.pbtxt import read_config
from tests.serving.embedded.libraries import AMPLE, opened
from tests.serving.page.task_graphs import SIDE, write_repository

SIGNATURE = GraphSignature((), (), (
    TensorSignature("steps", "tensor(int64)", ()),
    TensorSignature("guidance", "tensor(float)", ()),
    TensorSignature("heun", "tensor(bool)", ()),
    TensorSignature("weights", "tensor(float)", (3,)),
))  # fmt: skip
SETTINGS = {"steps": Setting(np.int64, 1, 100), "guidance": Setting(np.float32, 0, 20)}


def config(text: str) -> pb.ModelConfig:
    return pb.ModelConfig(name="maker", parameters={SETTINGS_KEY: pb.ModelParameter(string_value=text)})


def test_an_entry_says_what_may_be_named() -> None:
    assert offered(config('{"steps": [1, 100], "guidance": [0, 20]}'), SIGNATURE) == SETTINGS
    assert offered(config(""), SIGNATURE) == offered(pb.ModelConfig(name="maker"), SIGNATURE) == {}


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        "[" * 5000,
        '{"steps": 3}',
        '{"steps": [3]}',
        '{"steps": [9, 3]}',
        '{"steps": [1, NaN]}',
        '{"steps": [1, 1e400]}',
        f'{{"steps": [1, {10**400}]}}',
        '{"steps": [true, 3]}',
        '{"noise": [1, 2]}',
        '{"heun": [0, 1]}',
        '{"weights": [0, 1]}',
        json.dumps({f"x{n}": [0, 1] for n in range(17)}),
    ],
)
def test_what_no_entry_may_say(text: str) -> None:
    with pytest.raises(ModelError, match=SETTINGS_KEY):
        offered(config(text), SIGNATURE)


def test_a_request_names_numbers_within_bounds() -> None:
    assert named(SETTINGS, {"guidance": 2, "other": "x", "steps": 8.0}) == (("steps", 8.0), ("guidance", 2.0))
    assert named(SETTINGS, {"timeout": 3}) == named({}, {"steps": 8}) == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("steps", value) for value in (0, 101, 1.5, 1 << 80, 10**400, True, "8", None)),
        *(("guidance", value) for value in (-0.1, float("nan"), float("inf"), -(10**400), [1])),
    ],
    ids=lambda value: str(value)[:16],
)
def test_and_no_others(name: str, value: Any) -> None:
    with pytest.raises(Fault, match=f"parameter '{name}'"):
        named(SETTINGS, {name: value})


@asynccontextmanager
async def maker(folder: Path) -> AsyncIterator[LoadedModel]:
    async with opened(write_repository(folder / "repository")) as library:
        await library.load("sampler")
        yield library.find("sampler")


def body(**parameters: Any) -> bytes:
    noise = {"name": "noise", "datatype": "FP32", "shape": [1, 3, SIDE, SIDE], "data": [1.0] * (3 * SIDE * SIDE)}
    label = {"name": "label", "datatype": "INT64", "shape": [1, 1], "data": [0]}
    return json.dumps({"inputs": [noise, label], "parameters": parameters}).encode()


def test_each_request_is_run_by_its_own(tmp_path: Path) -> None:
    """All wait in one queue, and batches are of two."""

    async def ask(model: LoadedModel, **parameters: Any) -> int:
        sent = body(**parameters)
        asked, holding = checked(model, parse_request(sent, len(sent), model)), Budget(AMPLE).holding()
        (output,) = await answered(model, asked, holding, SmallestFirstExecutor(), Exchange())
        holding.release()
        return int(output.array.max())

    async def main() -> list[int]:
        async with maker(tmp_path) as model:
            wanted: list[dict[str, Any]] = [
                {},
                {"steps": 9},
                {"guidance": 1},
                {"steps": 9},
                {"steps": 1, "guidance": 0},
            ]
            return await asyncio.gather(*(ask(model, **one) for one in wanted * 3))

    assert asyncio.run(main()) == [141, 165, 102, 165, 92] * 3


@pytest.mark.slow(2)
def test_by_either_protocol_also_of_what_was_asked_before(tmp_path: Path) -> None:
    """Raw tensors behind the same text, as clients send them: such a text is read once."""
    noise, label = np.ones((1, 3, SIDE, SIDE), np.float32), np.zeros((1, 1), np.int64)
    with started(write_repository(tmp_path / "repository"), "embedded", "none") as server:
        for client, address in ((http, server.http), (grpc, server.grpc)):
            sent = [client.InferInput("noise", noise.shape, "FP32"), client.InferInput("label", label.shape, "INT64")]
            sent[0].set_data_from_numpy(noise)
            sent[1].set_data_from_numpy(label)
            with contextlib.closing(client.InferenceServerClient(address)) as open_client:
                levels = [
                    int(open_client.infer("sampler", sent, parameters={"steps": steps}).as_numpy("image").max())
                    for steps in (9, 1, 9, 9, 1)
                ]
                assert levels == [165, 133, 165, 165, 133]
                with pytest.raises(InferenceServerException, match="parameter 'steps' is 51, not from 1 to 50"):
                    open_client.infer("sampler", sent, parameters={"steps": 51})


def test_config_written_for_a_sampler_offers_its_settings(tmp_path: Path) -> None:
    repository = write_repository(tmp_path / "repository")
    written = read_config(repository / "sampler" / "config.pbtxt").parameters[SETTINGS_KEY].string_value
    assert json.loads(written) == {"steps": [1, 50], "guidance": [0, 20]}
    for other in ("classifier", "detector", "segmenter"):
        assert SETTINGS_KEY not in read_config(repository / other / "config.pbtxt").parameters
