"""`nanocv eval`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nanocv_cli.commands.options import (
    DataOption,
    DebugFlag,
    EngineDeviceOption,
    EngineOption,
    JsonFlag,
    PrecisionOption,
    ServedRefOption,
    number_option,
    one_of,
)
from nanocv_cli.output import emit, tell


def evaluate(
    ref: ServedRefOption = None,
    data: DataOption = None,
    split: Annotated[str | None, typer.Option(help="train, val or test; default: test where the set has one.")] = None,
    engine: EngineOption = "torch",
    device: EngineDeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    batch_size: Annotated[int, number_option(low=1, high=4096, text="Images per call.")] = 32,
    online: Annotated[
        bool, typer.Option("--online", help="Also the metrics that need a download, as FID does (extra `fid`).")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the task's images.")] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Measure a model: the task's standard metrics.

    By default torch runs the checkpoint; with another --engine the exported graph is measured, also that of a
    served model. --out keeps the task's pictures: a confusion matrix, precision over recall, the worst mistakes.

    \b
    Examples:
      nanocv eval --model runs/first --data flowers --split test
      nanocv eval --model lenet-flowers --engine onnx --out drawn
    """
    from nanocv_cli.api import training
    from nanocv_cli.data.dataset import SPLITS
    from nanocv_cli.engine.hub import hub_origin
    from nanocv_cli.files import expect_folder

    if split is not None:
        one_of("--split", split, SPLITS)
    if out:
        expect_folder(out)
    measured = training.evaluate(
        ref,
        data,
        split=split,
        engine=engine,
        device=device,
        precision=precision,
        batch_size=batch_size,
        online=online,
    )
    metrics = measured.metrics
    images = [str(path) for path in measured.evaluator.draw(out, measured.images)] if out else []
    if as_json:
        emit(
            {
                "model": measured.card.name,
                "file": measured.file,
                "hub": hub_origin(Path(measured.file)),
                "data": measured.data,
                "split": measured.split,
                "engine": engine,
                "runtime": measured.runtime,
                "n": len(measured.images),
                "metrics": metrics,
                "pictures": images,
            }
        )
        return
    tell(f"{measured.file} ({engine}) on {measured.data} {measured.split}, {len(measured.images)} images")
    _print_metrics(metrics)
    for path in images:
        tell("", path)


def _print_metrics(metrics: dict[str, Any]) -> None:
    """Single figures first, then tables (a mapping of mappings) with a row for each name."""
    for key, value in metrics.items():
        if not isinstance(value, dict):
            tell(f"{key:18} {_figure(value)}")
    for key, rows in metrics.items():
        if isinstance(rows, dict):
            columns = list(next(iter(rows.values())))
            width = max(len(key), *(len(name) for name in rows))
            tell("", f"{key:{width}} " + " ".join(f"{column:>10}" for column in columns))
            for name, row in rows.items():
                tell(f"{name:{width}} " + " ".join(f"{_figure(row[column]):>10}" for column in columns))


def _figure(value: float | None) -> str:
    """A whole number as it is, a share to four places, what nothing decided as a dash."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"
