"""A training that torchrun starts again goes on with the run that it has begun, and with no other."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nanocv_cli.errors import RequestError
from nanocv_cli.training.context import TrainRequest, start_run
from nanocv_cli.training.distributed import ALONE, ProcessGroup

CPU = torch.device("cpu")
AGAIN = ProcessGroup(restarts=1)


def started(project: Path, request: TrainRequest, group: ProcessGroup) -> Path:
    """Begins or goes on with a run, which is left before anything is learnt; its folder."""
    with start_run(request, project, project / "cache", CPU, group) as context:
        return context.run.path


def test_a_restart_goes_on_with_its_own_run_and_refuses_that_of_another(project: Path, tiny_set: Path) -> None:
    request = TrainRequest(str(tiny_set), "lenet32", overrides=("train.epochs=2",), out=Path("run"))
    assert started(project, request, AGAIN) == Path("run")  # lost before it had begun
    config = Path("run/config.yaml").read_text()
    assert started(project, request, AGAIN) == Path("run")
    for other in (replace(request, overrides=("train.epochs=3",)), replace(request, model="lenet")):
        with pytest.raises(RequestError, match="run is not empty"):
            started(project, other, AGAIN)
    with pytest.raises(RequestError, match="run is not empty"):
        started(project, request, ALONE)
    assert Path("run/config.yaml").read_text() == config


def test_a_restart_without_a_folder_does_not_know_its_run(project: Path, tiny_set: Path) -> None:
    with pytest.raises(RequestError, match="does not know the run that was begun") as raised:
        started(project, TrainRequest(str(tiny_set), "lenet32"), AGAIN)
    assert "--out" in raised.value.hint
