"""The gRPC service without a connection: what it knows of messages that it has answered before."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as pb

from nanocv_cli.serving.embedded.access import Access
from nanocv_cli.serving.embedded.asking import Asked, InferRequest, checked
from nanocv_cli.serving.embedded.background import SmallestFirstExecutor
from nanocv_cli.serving.embedded.budget import Budget
from nanocv_cli.serving.embedded.exchange import Exchange
from nanocv_cli.serving.embedded.faults import Fault
from nanocv_cli.serving.embedded.grpc import service as module
from nanocv_cli.serving.embedded.grpc.service import GrpcService
from nanocv_cli.serving.embedded.image_reading import ImageReader
from nanocv_cli.serving.embedded.library import Library
from nanocv_cli.serving.embedded.limits import Limits
from nanocv_cli.serving.embedded.model import LoadedModel
from tests.serving.embedded.libraries import AMPLE, X, doubling_config, opened
from tests.serving.models import write_model

TEXTS = 3  # of one length
Ask = Callable[[str], Awaitable[Exchange]]


def message(model: str) -> bytes:
    """A request with one raw tensor at its end, and no id."""
    asked = pb.ModelInferRequest(model_name=model, raw_input_contents=[X.tobytes()])
    asked.inputs.add(name="x", datatype="UINT8", shape=X.shape)
    return bytes(asked.SerializeToString())


def served(repository: Path, names: list[str], work: Callable[[Library, Ask], Awaitable[None]]) -> None:
    """Serves models, and has `work` ask them; what it asks with tells what the log is told."""

    async def run() -> None:
        for name in names:
            write_model(repository, doubling_config(name), "doubling")
        async with opened(repository) as library:
            for name in names:
                await library.load(name)
            access = Access("127.0.0.1", control="explicit")
            service = GrpcService(library, access, SmallestFirstExecutor(), ImageReader(Limits()))

            async def ask(name: str) -> Exchange:
                call: Any = SimpleNamespace(exchange=Exchange(), holding=Budget(AMPLE).holding())
                try:
                    await service.infer(message(name), AMPLE, call)
                except Fault as fault:
                    call.exchange.status = fault.status.grpc.name
                finally:
                    call.holding.release()
                return call.exchange

            await work(library, ask)

    asyncio.run(run())


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that requests were held against."""
    models = list[str]()

    def counted(model: LoadedModel, request: InferRequest) -> Asked:
        models.append(model.name)
        return checked(model, request)

    monkeypatch.setattr(module, "checked", counted)
    return models


def test_texts_of_one_length_are_checked_once_each(tmp_path: Path, checks: list[str]) -> None:
    names = [f"model{number}" for number in range(TEXTS)]

    async def work(_: Library, ask: Ask) -> None:
        for _round in range(3):
            for name in names:
                assert (await ask(name)).model == name

    served(tmp_path, names, work)
    assert checks == names


def test_texts_of_one_length_are_few(tmp_path: Path, checks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ALIKE", 2)
    names = [f"model{number}" for number in range(TEXTS)]

    async def work(_: Library, ask: Ask) -> None:
        for name in [*names, names[0], names[-1]]:
            await ask(name)

    served(tmp_path, names, work)
    assert checks == [*names, names[0]]  # the third let the others go, and one of them came back beside it


def test_a_text_that_comes_again_lets_no_other_go(
    tmp_path: Path, checks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_KNOWN", 2)

    async def work(library: Library, ask: Ask) -> None:
        await ask("one")
        await ask("longer")
        await library.load("one")  # it is a new model, which knows nothing
        for name in ("one", "longer", "one"):
            await ask(name)

    served(tmp_path, ["one", "longer"], work)
    assert checks == ["one", "longer", "one"]


def test_the_log_is_told_which_model_a_repeated_message_asks_that_is_gone(tmp_path: Path) -> None:
    async def work(library: Library, ask: Ask) -> None:
        await ask("one")
        await library.unload("one")
        told = await ask("one")
        assert (told.status, told.model) == ("NOT_FOUND", "one")

    served(tmp_path, ["one"], work)
