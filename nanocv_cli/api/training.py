"""From images to a measured, exported model, as functions; torch is imported when one of them is called."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanocv_cli.config.project import cache_folder, project_root
from nanocv_cli.machine import versions

if TYPE_CHECKING:
    from nanocv_cli.evaluation.measure import Measured
    from nanocv_cli.exporting.graph_file import Exported
    from nanocv_cli.training.context import TrainContext, TrainRequest
    from nanocv_cli.training.recorders.recorders import Recorders
    from nanocv_cli.training.train import Trained


@dataclass(frozen=True)
class TrainedRun:
    """A finished training.

    Attributes:
        folder: the run folder.
        checkpoint: the kept weights, `.safetensors`.
        graph: the exported graph, `.onnx`.
        metric: name of the metric that the task is evaluated by.
        score: its value, for people.
        metrics: of the kept weights, by name.
        split: the split they were measured on.
        epochs: trained.
        seconds: spent on training steps.
        summary: what `nanocv train --json` prints.
    """

    folder: Path
    checkpoint: Path
    graph: Path
    metric: str
    score: str
    metrics: dict[str, Any]
    split: str
    epochs: int
    seconds: float
    summary: dict[str, Any]


def train(
    data: str | None = None,
    model: str | None = None,
    recipe: str | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    out: str | Path | None = None,
    resume: str | None = None,
    start: str | Path | None = None,
) -> TrainedRun:
    """Trains a model in this process and exports its graph: `nanocv train`.

    Args:
        data: a data config's name or file, or a folder of images; None: the project's default.
        model: a model config's name or file, torchvision's name of a network, or `timm/NAME`; None: the project's
            default.
        recipe: a train config's name or file; None: the model's own.
        settings: config values by dotted key, as `--set` gives them: `{"train.epochs": 5}`.
        device: auto, cpu, cuda or mps.
        out: the run folder to write; None: `runs/<model>-<data>-<time>`.
        resume: a run to continue, by its folder or name; excludes the others but for `device`.
        start: a trained model whose layers are taken over as far as they fit, see `load`; where `model` is None, the
            network is that model's too.

    Raises:
        ConfigError, RequestError: what was asked for cannot be.
        DataError: the set is not here or cannot be read.
        TrainingError: the loss became NaN, or another process trains in that folder.
        ExportError: the graph does not answer like the checkpoint; the run stays and can be resumed.
    """
    from nanocv_cli.training.context import TrainRequest

    overrides = tuple(
        f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in (settings or {}).items()
    )
    request = TrainRequest(
        data, model, recipe, overrides, Path(out) if out else None, resume, None if start is None else str(start)
    )
    done = run_training(request, device)
    assert done is not None, "a process that trains alone is the main one"
    return done


def run_training(request: "TrainRequest", device: str) -> TrainedRun | None:
    """Trains within the group of processes that the environment names; a lone process is a group of its own.

    Returns:
        the finished training; None in a process that is not the group's main one.

    Raises:
        as `train`.
    """
    from nanocv_cli.models.device import pick_device
    from nanocv_cli.training.context import start_run
    from nanocv_cli.training.distributed import joined_group
    from nanocv_cli.training.recorders.recorders import Recorders
    from nanocv_cli.training.train import train as train_to_the_end

    root, chosen = project_root(), pick_device(device)
    with (
        joined_group(chosen) as group,
        start_run(request, root, cache_folder(root), chosen, group) as context,
        Recorders(context, root) as recorders,
    ):
        trained = train_to_the_end(context, recorders)
        if trained is None:
            return None
        summary = _finish(context, trained, recorders, root)
    run, best = context.run, context.task.best
    return TrainedRun(
        folder=run.path,
        checkpoint=run.best,
        graph=run.graph,
        metric=best.name,
        score=best.shown(trained.metrics[best.name]),
        metrics=trained.metrics,
        split=trained.split,
        epochs=trained.epochs,
        seconds=trained.seconds,
        summary=summary,
    )


def _finish(context: "TrainContext", trained: "Trained", recorders: "Recorders", root: Path) -> dict[str, Any]:
    """Exports the best weights into the run folder, records them, and writes its `summary.json`.

    Returns:
        the summary, as `nanocv train --json` prints it.

    Raises:
        ExportError: the graph does not match; the checkpoints stay, and the run can be resumed to try again.
    """
    from nanocv_cli.exporting.graph_file import export_graph, parity_images

    run, config = context.run, context.config
    exported = export_graph(run.best, run.graph, parity_images(run.best, None, root, context.display))
    start = context.start
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
        "device": context.device.type,
        "start": start.summary() if start else None,
        "companions": context.companions(),
        "versions": versions(),
        "parity": {"max_abs_error": exported.parity.max_abs_error, "n": exported.parity.n},
    }
    recorders.add_model()
    run.finish(summary)
    return summary


def evaluate(
    ref: str | Path | None = None,
    data: str | None = None,
    *,
    split: str | None = None,
    engine: str = "torch",
    device: str = "auto",
    precision: str = "fp32",
    batch_size: int = 32,
    online: bool = False,
) -> "Measured":
    """Measures a model on a split by its task's standard metrics: `nanocv eval`.

    Args:
        ref: see `load`.
        data: a data config's name or file, or a folder of images; None: the project's default.
        split: train, val or test; None: test where the set has one, else val.
        engine: torch runs the checkpoint, onnx the exported graph, also that of a served model; onnxruntime, openvino
            and auto say what runs a graph in this process, see `load`.
        device: auto or cpu; of torch: cuda or mps; of onnxruntime: cuda, cuda:1 or coreml.
        precision: what a graph is computed in, see `load`.
        batch_size: images per call.
        online: measure also what needs a download.

    Returns:
        `.metrics` by name, `.card`, `.split`, `.images`, and `.evaluator`, which draws.

    Raises:
        RequestError: the set has other classes than the model, or no such split; there is no such engine.
        DataError: the set is not here or cannot be read.
        ModelError: the model file is damaged.
    """
    from nanocv_cli.config.loader import resolve
    from nanocv_cli.display import Display
    from nanocv_cli.engine.reference import find_checkpoint
    from nanocv_cli.engine.runtimes import by_engine
    from nanocv_cli.evaluation.measure import measure, open_checkpoint, open_graph

    root = project_root()
    name = None if ref is None else str(ref)
    settings = by_engine(engine, device, precision=precision)
    opened = open_graph(name, root, settings) if settings else open_checkpoint(find_checkpoint(name, root), device)
    config = resolve(data=data).config.data
    return measure(opened, config, split, batch_size, root, cache_folder(root), Display(), online)


def export(
    ref: str | Path | None = None,
    out: str | Path | None = None,
    *,
    data: str | None = None,
    any_size: bool = False,
    precision: str | None = None,
    max_drop: float = 1.0,
    target: str = "onnx",
) -> "Exported":
    """Writes a checkpoint as a self-contained graph, if the graph answers like it: `nanocv export onnx` or `openvino`.

    Args:
        ref: see `load`; its checkpoint is exported.
        out: the file to write, or a folder for OpenVINO's two; None: `<model>.onnx` or `.xml` (`<model>-int8.onnx` in
            int8) beside the checkpoint, or here where that came from a hub; of a run, `model-int8.onnx` beside its
            `model.onnx`.
        data: the set whose images both are compared on; None: the one the model was trained on.
        any_size: let the graph read images of any height and width (segmentation).
        precision: fp32, bf16, fp16 or int8; ranges of int8 are chosen by images of the training split. None: int8 of a
            run that was trained so (`train.quantise`), whose graph is in no other, else fp32.
        max_drop: the most that the task's metric may lose on the validation split for that, in points of a share (else
            in percent of its value).
        target: onnx, or openvino: an `.xml` with graph and model card, with its weights beside it in a `.bin`.

    Raises:
        ExportError: the graph does not answer like the checkpoint, or loses too much; nothing is written.
        RequestError: there is no such model, no image to compare on, or int8's extra is not installed.
        StorageError: the file cannot be written.
    """
    from nanocv_cli.display import Display
    from nanocv_cli.engine.engine import graph_files
    from nanocv_cli.engine.hub import hub_origin
    from nanocv_cli.engine.reference import GRAPH, find_checkpoint, reduced_beside, run_graph
    from nanocv_cli.engine.runtimes import FP32
    from nanocv_cli.errors import RequestError
    from nanocv_cli.exporting.graph_file import export_graph, export_with_less, parity_images
    from nanocv_cli.exporting.graph_forms import find_form
    from nanocv_cli.exporting.precision import find_converter
    from nanocv_cli.files import expect_writable
    from nanocv_cli.models.checkpoint import read_card

    root, display, form = project_root(), Display(), find_form(target)
    checkpoint = find_checkpoint(None if ref is None else str(ref), root)
    trained_in = read_card(checkpoint).precision
    if trained_in != FP32 and precision:
        if precision != trained_in:
            raise RequestError(
                f"{checkpoint} was trained in {trained_in} (train.quantise), and answers in no other precision",
                "leave --precision out; for another one train without train.quantise",
            )
        display.say(f"{checkpoint} was trained in {trained_in}: its graph is so already, nothing is quantised again")
    reduced = None if precision == trained_in else precision
    if reduced:
        find_converter(reduced)
    default = checkpoint.with_suffix(form.suffix)
    if hub_origin(checkpoint):  # a cache is no place for results
        default = Path(default.name)
    if precision not in (None, FP32):
        # What a run stands for is the graph beside its summary.
        of_run = run_graph(checkpoint) if form.suffix == GRAPH.suffix else None
        default = reduced_beside(of_run or default, precision)
    path = Path(out) if out else default
    if len(graph_files(default)) > 1 and path.suffix != form.suffix:
        path /= default.name
    for file in graph_files(path):
        expect_writable(file)
    images = parity_images(checkpoint, data, root, display)
    if reduced is None:
        return export_graph(checkpoint, path, images, any_size, form)
    return export_with_less(checkpoint, path, images, any_size, reduced, max_drop, data, root, display, form)
