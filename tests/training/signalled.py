"""A training that sends itself a signal as it is about to learn a given step: no test then waits for the right moment.

Run as a module, it is the command line for processes that torchrun starts.
"""

import os
from pathlib import Path
from typing import Any

from nanocv_cli.training import launch
from nanocv_cli.training.learner import Learner

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = "tests.training.signalled"
VARIABLE = "NANOCV_TEST_SIGNAL"


def signal_at(sent: Path, number: int, rank: int, epoch: int, step: int = 0) -> dict[str, str]:
    """The variables of a process that sends itself a signal, once however often it is started.

    Args:
        sent: a file that is there from then on.
        number: of the signal.
        rank: of the process; others of its group send none.
        epoch: from 0.
        step: of that epoch, from 0.
    """
    paths = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    # The third as the command line sets it before it imports torch, which this module does earlier.
    return {VARIABLE: f"{number:d} {rank} {epoch} {step} {sent}", "PYTHONPATH": paths, "TORCH_CPP_LOG_LEVEL": "FATAL"}


def arm() -> None:
    """Makes this process, and those that `--nproc` starts, do as the variable says."""
    number, rank, epoch, step, sent = os.environ[VARIABLE].split(maxsplit=4)
    learn, run_group = Learner.learn, launch.run_group

    def signalled(learner: Learner, images: Any, targets: Any, *place: Any) -> Any:
        is_here = place[:2] == (int(epoch), int(step)) and os.environ.get("RANK", "0") == rank
        if is_here and not Path(sent).exists():
            Path(sent).touch()
            os.kill(os.getpid(), int(number))
        return learn(learner, images, targets, *place)

    def armed_group(command: list[str], count: int) -> int:
        return run_group([command[0], "-m", MODULE, *command[3:]], count)

    Learner.learn = signalled  # type: ignore[method-assign]
    launch.run_group = armed_group


if __name__ == "__main__":
    from nanocv_cli.app import main

    arm()
    main()
