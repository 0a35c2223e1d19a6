"""`nanocv train`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from nanocv_cli.commands.completion import completing, run_names
from nanocv_cli.commands.options import (
    BatchSizeOption,
    DataOption,
    DebugFlag,
    EpochsOption,
    JsonFlag,
    ModelOption,
    NameOption,
    RateOption,
    RecipeOption,
    SeedOption,
    SetOption,
    complete_ref,
    number_option,
)
from nanocv_cli.output import emit, say, tell


def train(
    data: DataOption = None,
    model: ModelOption = None,
    recipe: RecipeOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchSizeOption = None,
    lr: RateOption = None,
    seed: SeedOption = None,
    name: NameOption = None,
    overrides: SetOption = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="REF",
            help="Start from a trained model: a name, run or .safetensors; what fits is taken over.",
            autocompletion=complete_ref,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Continue a run as it was begun: its folder or name.",
            autocompletion=completing(run_names),
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to write; default: runs/<model>-<data>-<time>.")] = None,
    nproc: Annotated[int, number_option(low=1, high=64, text="Processes on this machine, one per device.")] = 1,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Train a model; write a run folder and the graph.

    The run folder holds the resolved config, checkpoints, curves, the task's pictures, summary.json and, at the
    end, the exported graph model.onnx. Ctrl-C or a kill loses at most the epoch under way: --resume goes on to the
    very weights an undisturbed run would have had. `nanocv config show` tells what a command would train with.

    \b
    Examples:
      nanocv train --data flowers --model lenet --epochs 5
      nanocv train --data path/to/photos --model nanores --out runs/mine
      nanocv train --data path/to/more --from nanores --epochs 10
      nanocv train --resume runs/mine
    """
    if not debug:
        # What goes wrong between processes is told in one line; torch's own are pages of its C++.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    from nanocv_cli.api.training import run_training
    from nanocv_cli.config.overrides import TrainOptions
    from nanocv_cli.training.context import TrainRequest
    from nanocv_cli.training.distributed import is_member

    if nproc > 1 and not is_member():
        from nanocv_cli.training.launch import launch

        raise typer.Exit(launch(nproc, sys.argv[1:], device))
    options = TrainOptions(epochs, batch_size, lr, seed, name)
    request = TrainRequest(data, model, recipe, tuple(overrides or ()), out, resume, start, options)
    done = run_training(request, device)
    if done is None:  # this process is not the group's main one
        return
    if as_json:
        emit(done.summary)
        return
    score = f"{done.split} {done.metric} {done.score}"
    say(f"{score} after {done.epochs} epochs, {done.seconds:.0f} s of training")
    tell(f"run         {done.folder}")
    tell(f"checkpoint  {done.checkpoint}")
    tell(f"graph       {done.graph}")
    tell(f"images      {', '.join(done.summary['pictures'])}")
