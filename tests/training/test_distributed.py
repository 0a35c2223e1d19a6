"""Processes meet, or say within a stated time why they do not; batches divide among them, or are refused."""

import socket
from datetime import timedelta

import pytest
import torch

from nanocv_cli.config.loader import resolve
from nanocv_cli.errors import RequestError, TrainingError
from nanocv_cli.training import distributed
from nanocv_cli.training.distributed import ALONE, ProcessGroup, is_lost_process, joined_group

CPU = torch.device("cpu")


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    monkeypatch.setattr(distributed, "JOINING", timedelta(seconds=1))
    return monkeypatch


@pytest.mark.parametrize("rank", ["0", "1"])
def test_others_that_never_come_are_waited_for_no_longer_than_stated(member: pytest.MonkeyPatch, rank: str) -> None:
    member.setenv("RANK", rank)
    with pytest.raises(TrainingError, match="did not meet within 1 s") as raised, joined_group(CPU):
        pass
    assert "MASTER_ADDR" in raised.value.hint


@pytest.mark.parametrize(("variable", "value"), [("MASTER_ADDR", ""), ("MASTER_PORT", "x"), ("RANK", "first")])
def test_an_environment_that_does_not_say_how_to_meet_is_one_line(
    member: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    member.setenv(variable, value)
    with pytest.raises(RequestError, match="does not say how"), joined_group(CPU):
        pass


def test_a_gpu_that_is_not_there_is_refused(member: pytest.MonkeyPatch) -> None:
    member.setenv("LOCAL_RANK", "1")
    member.setattr(torch.cuda, "device_count", lambda: 1)
    message = "process 1 of this machine asks for a GPU of its own, and there are 1"
    with pytest.raises(RequestError, match=message), joined_group(torch.device("cuda")):
        pass


def test_a_process_that_no_group_is_named_to_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with joined_group(CPU) as group:
        assert group == ALONE
        assert group.sums(1.5, 2.0) == (1.5, 2.0)


def test_the_loss_of_another_process_is_told_from_other_failures() -> None:
    gone = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:4096"
    assert is_lost_process(RuntimeError(gone))
    assert is_lost_process(torch.distributed.DistBackendError("NCCL error"))
    assert not is_lost_process(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize(
    ("world", "accumulate", "hint"),
    [(3, 1, "--batch-size 33, or 2 processes"), (4, 3, "--batch-size 36"), (1, 5, "--batch-size 30"),
     (64, 1, "--batch-size 64, or 32 processes")],
)  # fmt: skip
def test_a_batch_that_does_not_divide_is_refused_with_the_nearest_that_does(
    world: int, accumulate: int, hint: str
) -> None:
    train = resolve(overrides=["train.batch_size=32", f"train.accumulate={accumulate}"]).config.train
    with pytest.raises(RequestError, match="does not divide") as raised:
        ProcessGroup(0, world).expect_even_shares(train)
    assert raised.value.hint == hint


def test_a_batch_that_divides_is_taken() -> None:
    ProcessGroup(0, 4).expect_even_shares(resolve(overrides=["train.batch_size=32", "train.accumulate=2"]).config.train)
