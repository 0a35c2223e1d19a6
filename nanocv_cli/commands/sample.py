"""`nanocv sample`."""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nanocv_cli.commands.options import (
    DebugFlag,
    EngineDeviceOption,
    EngineOption,
    JsonFlag,
    PrecisionOption,
    ThreadsOption,
    complete_ref,
    number_option,
)
from nanocv_cli.output import emit, tell

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanocv_cli.tasks.sampler import Sampler

MOST_IN_A_GRID = 1024
MOST_IN_A_ROW = 16
FLOAT = 4  # bytes


def sample(
    ref: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="REF",
            help="A generative model: name, run folder, file, URL.",
            autocompletion=complete_ref,
        ),
    ] = "nanoflow",
    classes: Annotated[
        list[str] | None, typer.Option("--class", metavar="NAME", help="What to make; may be repeated. Default: all.")
    ] = None,
    count: Annotated[int, number_option("-n", low=1, high=1_000_000, text="Images of each class.")] = 16,
    seed: Annotated[int, number_option(low=0, high=2**63 - 1, text="The same images for the same seed.")] = 0,
    steps: Annotated[
        int | None, number_option(low=1, high=1000, text="From noise to image; default: the model's.")
    ] = None,
    guidance: Annotated[
        float | None,
        number_option(low=0.0, high=100.0, text="1: the class alone; more: exaggerated. Default: the model's."),
    ] = None,
    solver: Annotated[Literal["euler", "heun"] | None, typer.Option(help="Default: the model's.")] = None,
    out: Annotated[Path, typer.Option(help="A .png for a grid; else a folder of single images.")] = Path("samples.png"),
    trajectory: Annotated[bool, typer.Option("--trajectory", help="Also a strip from noise to image.")] = False,
    engine: EngineOption = "onnx",
    device: EngineDeviceOption = "auto",
    batch_size: Annotated[int, number_option(low=1, high=4096, text="Images at a time.")] = 16,
    threads: ThreadsOption = 0,
    precision: PrecisionOption = "fp32",
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Make images of a class, from noise.

    The same seed makes the same images, by the checkpoint as by the graph. More --steps take longer and stray less;
    more --guidance gives more typical and less varied images.

    \b
    Examples:
      nanocv sample --class daisy -n 16 --seed 0 --out daisies.png
      nanocv sample --model runs/flow --trajectory
    """
    import numpy as np

    from nanocv_cli.api.model import known_classes
    from nanocv_cli.config.project import project_root
    from nanocv_cli.display import Display
    from nanocv_cli.engine.engine import open_engine
    from nanocv_cli.engine.hub import hub_origin
    from nanocv_cli.engine.reference import find_checkpoint
    from nanocv_cli.engine.runtimes import AUTO, by_engine
    from nanocv_cli.errors import RequestError
    from nanocv_cli.files import expect_file, expect_folder
    from nanocv_cli.images.drawing import write_grid, write_image
    from nanocv_cli.machine import expect_room
    from nanocv_cli.tasks.table import graph_sampler_for
    from nanocv_cli.untrusted import safe_names

    in_one = out.suffix.lower() == ".png"
    if not in_one and out.suffix:
        raise RequestError(f"--out {out}: grids are written as .png", f"--out {out.with_suffix('.png')}")
    (expect_file if in_one else expect_folder)(out)
    root = project_root()
    run_settings = by_engine(engine, device, threads, precision)
    if run_settings and run_settings.runtime == AUTO:
        given = trajectory or any(value is not None for value in (steps, guidance, solver))
        run_settings = replace(run_settings, with_defaults=given)
    if run_settings:
        opened = open_engine(ref, root, run_settings)
        sampler: Sampler = graph_sampler_for(opened.card.task)(opened)
        file, runtime = opened.origin, opened.runtime
    else:
        checkpoint = find_checkpoint(ref, root)
        sampler = _by_torch(checkpoint, device)
        file, runtime = str(checkpoint), engine
    card = sampler.card
    settings = sampler.settings(steps, guidance, solver)
    labels = [card.classes.index(name) for name in known_classes(classes or list(card.classes), card)]
    names = [card.classes[label] for label in labels]
    folders = safe_names(card.classes)
    total = count * len(labels)
    if in_one and total > MOST_IN_A_GRID:
        raise RequestError(
            f"{total} images are too many for one grid; the most is {MOST_IN_A_GRID}",
            f"--out {out.with_suffix('')} writes single images",
        )
    side = card.input_size
    expect_room(
        min(batch_size, count) * 3 * side * side * FLOAT,
        f"{batch_size:,} images at a time",
        "ask for fewer with --batch-size",
    )
    if in_one:
        expect_room(total * 3 * side * side, f"{total:,} images in one grid", "ask for fewer with -n")
    made: dict[int, list[NDArray[np.uint8]]] = {label: [] for label in labels}
    written: list[Path] = []
    done = 0
    with Display().bar("sampling") as progress:
        progress(0, total)
        for label, first, images in sampler.samples(labels, count, seed, settings, batch_size):
            done += len(images)
            progress(done, total, card.classes[label])
            if in_one:
                made[label].append(images)
                continue
            for number, image in enumerate(images, start=first):
                written.append(write_image(image, out / folders[card.classes[label]] / f"{seed}-{number:05d}.png"))
    if in_one:
        columns = math.ceil(math.sqrt(count)) if len(labels) == 1 else min(count, MOST_IN_A_ROW)
        written.append(write_grid([np.concatenate(made[label]) for label in labels], out, names, columns))
    strip = None
    if trajectory:
        strip = out.with_name(f"{out.stem}-trajectory.png") if in_one else out / "trajectory.png"
        write_grid([sampler.trajectory(label, seed, settings) for label in labels], strip, names)
    if as_json:
        document = {
            "model": card.name,
            "file": file,
            "hub": hub_origin(Path(file)),
            "engine": engine,
            "runtime": runtime,
            "classes": names,
            "seed": seed,
            "n": total,
        }
        told = {
            "steps": settings.steps,
            "guidance": settings.guidance,
            "solver": settings.solver,
        }
        files = {"pictures": [str(path) for path in written], "trajectory": str(strip) if strip else None}
        emit({**document, **told, **files})
        return
    tell(f"{out}: {total} images of {', '.join(names)}")
    if strip:
        tell(f"{strip}: from noise to image")


def _by_torch(file: Path, device: str) -> "Sampler":
    from nanocv_cli.models.checkpoint import read_card
    from nanocv_cli.models.device import pick_device
    from nanocv_cli.tasks.table import checkpoint_sampler_for

    return checkpoint_sampler_for(read_card(file).task)(file, pick_device(device))
