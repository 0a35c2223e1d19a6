"""The end of a training: the graph of its best weights, and the summary that makes the run a finished one."""

from pathlib import Path
from typing import Any

from nanocv_cli.exporting.onnx_file import export_onnx, parity_images
from nanocv_cli.training.context import TrainContext
from nanocv_cli.training.train import Trained


def finish_run(context: TrainContext, trained: Trained, root: Path) -> dict[str, Any]:
    """Exports the best weights into the run folder and writes its `summary.json`.

    Returns:
        the summary, as `nanocv train --json` prints it.

    Raises:
        ExportError: the graph does not match; the checkpoints stay, and the run can be resumed to try again.
    """
    run, config = context.run, context.config
    exported = export_onnx(run.best, run.graph, parity_images(run.best, None, root, context.display.say))
    summary: dict[str, Any] = {
        "run": str(run.path),
        "model": config.model.name,
        "data": config.data.name,
        "checkpoint": str(run.best),
        "onnx": str(run.graph),
        "epochs": trained.epochs,
        "seconds": trained.seconds,
        "images_per_second": trained.images_per_second,
        "split": trained.split,
        "metric": context.task.best.name,
        "metrics": trained.metrics,
        "pictures": [str(path) for path in trained.images],
        "parity": {"max_abs_error": exported.parity.max_abs_error, "n": exported.parity.n},
    }
    run.finish(summary)
    return summary
