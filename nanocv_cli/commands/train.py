"""`nanocv train`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from nanocv_cli.commands.common import (
    DataOption,
    DebugFlag,
    JsonFlag,
    ModelOption,
    RecipeOption,
    SetOption,
    number_option,
)
from nanocv_cli.output import emit, say, tell


def train(
    data: DataOption = None,
    model: ModelOption = None,
    recipe: RecipeOption = None,
    overrides: SetOption = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Continue a run: its folder or name.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to write; default: runs/<model>-<data>-<time>.")] = None,
    nproc: Annotated[int, number_option(low=1, high=64, text="Processes on this machine, one per device.")] = 1,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Train a model; write a run folder and the graph."""
    from nanocv_cli.commands.workplace import cache_folder
    from nanocv_cli.config.project import project_root
    from nanocv_cli.export.run import finish_run
    from nanocv_cli.models.device import pick_device
    from nanocv_cli.training.distributed import is_member, joined_group, launch
    from nanocv_cli.training.start_run import TrainRequest, start_run
    from nanocv_cli.training.train import train as run_training

    root, chosen = project_root(), pick_device(device)
    if nproc > 1 and not is_member():
        raise typer.Exit(launch(nproc, sys.argv[1:]))
    request = TrainRequest(data, model, recipe, tuple(overrides or ()), out, resume)
    with joined_group(chosen) as group, start_run(request, root, cache_folder(root), chosen, group) as context:
        trained = run_training(context)
        if trained is None:  # this process does not lead
            return
        summary = finish_run(context, trained, root)
    if as_json:
        emit(summary)
        return
    metric = context.task.best.name
    score = f"{trained.split} {metric} {trained.metrics[metric]:.2%}"
    say(f"{score} after {trained.epochs} epochs, {trained.seconds:.0f} s of training")
    tell(f"run         {context.run.path}")
    tell(f"checkpoint  {context.run.best}")
    tell(f"graph       {context.run.graph}")
    tell(f"images    {', '.join(summary['pictures'])}")
