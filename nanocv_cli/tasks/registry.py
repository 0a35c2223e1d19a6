"""The table of tasks on the training side; `readers.py` is its torch-free counterpart."""

from nanocv_cli.errors import ModelError
from nanocv_cli.tasks.base import Task
from nanocv_cli.tasks.classification.task import Classification
from nanocv_cli.tasks.detection.task import Detection
from nanocv_cli.tasks.generation.task import Generation
from nanocv_cli.tasks.segmentation.task import Segmentation

TASKS: dict[str, Task] = {task.name: task for task in (Classification(), Detection(), Segmentation(), Generation())}


def task_for(name: str) -> Task:
    """The task of a model config or card.

    Raises:
        ModelError: this nanocv has no such task.
    """
    if name not in TASKS:
        raise ModelError(f"unknown task {name!r}", f"this nanocv knows {', '.join(TASKS)}; a newer one may know more")
    return TASKS[name]
