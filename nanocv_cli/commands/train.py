"""`nanocv train`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nanocv_cli.commands.common import DataOption, DebugFlag, JsonFlag, ModelOption, SetOption, emit, say


def train(
    data: DataOption = None,
    model: ModelOption = None,
    recipe: Annotated[
        str | None, typer.Option("--train", help="A recipe's name or file; default: the model's own.")
    ] = None,
    overrides: SetOption = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Continue a run: its folder or name.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to write; default: runs/<model>-<data>-<time>.")] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Train a model; write a run folder and the graph."""
    from nanocv_cli.commands.workplace import cache_folder
    from nanocv_cli.config.loader import load_resolved, resolve
    from nanocv_cli.config.project import project_root
    from nanocv_cli.data.sources import picture_folder
    from nanocv_cli.errors import RequestError
    from nanocv_cli.export.onnx_file import export_onnx, parity_pictures
    from nanocv_cli.files import write_text
    from nanocv_cli.tasks.registry import task_for
    from nanocv_cli.training.device import pick_device
    from nanocv_cli.training.display import Display
    from nanocv_cli.training.run_directory import RunDirectory
    from nanocv_cli.training.train import train as run_training

    root, display = project_root(), Display()
    chosen = pick_device(device)
    if resume:
        if any((data, model, recipe, overrides, out)):
            raise RequestError(
                "--resume continues a run as it was begun", f"nanocv train --resume {resume}, without other options"
            )
        run = RunDirectory.existing(root, resume)
        if run.finished():
            raise RequestError(f"{run.path} is finished", "start a new run, with other --set values perhaps")
        config = load_resolved(run.config)
        dataset = task_for(config.model.task).read(config.data, picture_folder(config.data, root, display.say))
    else:
        resolved = resolve(data=data, model=model, train=recipe, overrides=overrides or ())
        config = resolved.config
        dataset = task_for(config.model.task).read(config.data, picture_folder(config.data, root, display.say))
        run = RunDirectory.create(root, out, config.model.name, config.data.name)
        write_text(run.config, resolved.to_yaml())
    with run:
        for note in dataset.notes:
            display.say(f"note: {note}")
        trained = run_training(config, run, dataset, cache_folder(root), chosen, display)
        exported = export_onnx(run.best, run.graph, parity_pictures(run.best, None, root, display.say))
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
            "metrics": trained.metrics,
            "parity": {"max_abs_error": exported.parity.max_abs_error, "n": exported.parity.n},
        }
        run.finish(summary)
    if as_json:
        emit(summary)
        return
    metric = task_for(config.model.task).best_metric
    score = f"{trained.split} {metric} {trained.metrics[metric]:.2%}"
    say(f"{score} after {trained.epochs} epochs, {trained.seconds:.0f} s of training")
    typer.echo(f"run         {run.path}")
    typer.echo(f"checkpoint  {run.best}")
    typer.echo(f"graph       {run.graph}")
    typer.echo(f"pictures    {run.curves}, {run.path / 'confusion.png'}")
