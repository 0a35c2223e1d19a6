"""The spine of `nanocv export onnx` and `openvino`: checkpoint, graph, parity, files."""

import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from nanocv_cli.config.loader import resolve
from nanocv_cli.config.project import cache_folder, project_root
from nanocv_cli.data.flowers import draw_image
from nanocv_cli.data.sources import image_folder
from nanocv_cli.display import Display
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.engine import Engine, graph_bytes
from nanocv_cli.engine.runtimes import DEFAULT, RunSettings, open_in_process
from nanocv_cli.errors import DataError, RequestError
from nanocv_cli.evaluation.evaluate import Answer, torch_answer
from nanocv_cli.evaluation.evidence import trained_on
from nanocv_cli.exporting.graph_forms import FORMS, GraphForm, holds_graph, write_onnx
from nanocv_cli.exporting.int8_graph import whole_numbers
from nanocv_cli.exporting.parity import BATCH_SIZES, AnswersImages, Parity, check_parity
from nanocv_cli.exporting.reduced_file import Reduced, export_reduced
from nanocv_cli.images.resize import UnreadableImageError, open_square, resize_to_square
from nanocv_cli.models.checkpoint import load_network, read_card
from nanocv_cli.models.quantised import INT8
from nanocv_cli.tasks.base import EQUAL
from nanocv_cli.tasks.table import task_for


@dataclass(frozen=True)
class Exported:
    """A written graph.

    Attributes:
        path: its file.
        bytes: of it, or of all its files.
        parity: how close the graph in fp32 is to its checkpoint.
        card: its card.
        reduced: what became of the metric, where it is of less precision.
    """

    path: Path
    bytes: int
    parity: Parity
    card: ModelCard
    reduced: Reduced | None = None


def export_graph(
    checkpoint: Path,
    target: Path,
    images: NDArray[np.uint8],
    any_size: bool = False,
    form: GraphForm = FORMS["onnx"],
) -> Exported:
    """Writes a checkpoint as a graph if, and only if, the graph answers like it: in int8 if it was trained so, or fp32.

    Args:
        checkpoint: a `.safetensors` file with a card.
        target: the file that a reference shall name; it is replaced as `GraphForm.replacing` tells. An `.onnx` that is
            this very graph already stays as it is: what DVC tracks is not changed by being exported once more.
        images: uint8 [n,S,S,3] real images to compare on.
        any_size: whether the graph shall read images of any height and width; it is then compared on parts of the
            images too.
        form: of the files.

    Raises:
        RequestError: `any_size` of a network that reads one size.
        ExportError: the graph lost a property, has operators that the form lacks, or does not match; `target` is left
            as it was.
        ModelError: the checkpoint is damaged.
        StorageError: `target` cannot be written.
    """
    network, config, card = load_network(checkpoint)
    task = task_for(card.task)
    if any_size and not task.any_size:
        raise RequestError(f"{card.name} reads images of one size only", "leave --any-size out")
    is_int8 = card.precision == INT8
    model = task.to_onnx(network, config, card, any_size)
    if is_int8:
        model = whole_numbers(model)
    tolerance, equal = (task.int8_tolerance, task.int8_tolerance) if is_int8 else (task.tolerance, EQUAL)
    parity_error = partial(task.parity_error, equal=equal)
    export_model = task.export_model(network, config).eval()
    is_there = form is FORMS["onnx"] and holds_graph(target, model)
    with nullcontext(target) if is_there else form.replacing(target) as built:
        if not is_there:
            form.write(model, built)
        labels = np.arange(max(BATCH_SIZES)) % len(card.classes)

        def reading(answer: Answer) -> AnswersImages:
            return lambda batch: answer(task.graph_inputs(batch, labels[: len(batch)], 0))

        expected = reading(torch_answer(task, export_model, torch.device("cpu")))
        written = open_in_process(built, RunSettings(form.runtimes[0], "cpu"), cache_folder(project_root()))
        actual = reading((_in_fp32(model) if is_int8 else written).answer)
        parity = check_parity(expected, actual, images, tolerance, parity_error)
        if any_size:
            side = card.input_size
            parts = images[:, : side - side // 3, : side - side // 5]
            check_parity(expected, actual, np.ascontiguousarray(parts), tolerance, parity_error)
    return Exported(target, graph_bytes(target), parity, card)


def _in_fp32(model: onnx.ModelProto) -> Engine:
    """A graph in int8 as it is compared: what it says counts, not how a processor's int8 instructions cut sums off.

    ONNX Runtime alone can compute the rounded values in fp32, whatever form the graph is written in.
    """
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "model.onnx"
        write_onnx(model, graph)
        return open_in_process(graph, RunSettings(DEFAULT, "cpu", whole_numbers=False), cache_folder(project_root()))


def export_with_less(
    checkpoint: Path,
    target: Path,
    images: NDArray[np.uint8],
    any_size: bool,
    precision: str,
    max_drop: float,
    data: str | None,
    root: Path,
    display: Display,
    form: GraphForm,
) -> Exported:
    """Writes a checkpoint as a graph of less precision than fp32, if the graph in fp32 answers like it.

    Args:
        checkpoint, images, any_size, form: of `export_graph`.
        target, precision, max_drop: of `export_reduced`.
        data: a data config's name; None: the set that the model was trained on.
        root: the project.
        display: is told how far it is.

    Raises:
        RequestError, ExportError, ModelError, StorageError: as `export_graph` and `export_reduced`.
    """
    config = resolve(data=data).config.data if data else trained_on(read_card(checkpoint), checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        exported = export_graph(checkpoint, Path(folder) / "model.onnx", images, any_size)
        reduced = export_reduced(exported.path, target, form, precision, max_drop, config, root, display)
    return Exported(target, graph_bytes(target), exported.parity, reduced.card, reduced)


def parity_images(checkpoint: Path, data: str | None, root: Path, display: Display) -> NDArray[np.uint8]:
    """Real images to compare on: the first readable ones, class by class, of `data`, else of the training set.

    Where that is not here but drawn by nanocv, the few that are needed are drawn, and one line says so.

    Returns:
        uint8 [n,S,S,3], n at least 1 and at most what `check_parity` uses.

    Raises:
        RequestError: the training set is not on this machine and no other was given.
        DataError: the set has no readable image.
    """
    card = read_card(checkpoint)
    config = resolve(data=data).config.data if data else trained_on(card, checkpoint)
    wanted = sum(BATCH_SIZES)
    if config.flowers and not config.archive and not (root / config.path).is_dir():
        display.say(f"the images of {config.name} are not here: the graph is checked on {wanted} that are drawn for it")
        drawn = [draw_image(config.flowers.seed, "test", place, config.flowers.size) for place in range(wanted)]
        return np.stack([resize_to_square(one.image, card.input_size, card.resize) for one in drawn])
    try:
        dataset = task_for(card.task).read(config, image_folder(config, root, display))
    except DataError as error:
        raise RequestError(
            f"the graph is checked on real images, but those of {config.name} are not here",
            f"{error.hint or 'bring them here'}, or give any set with --data FOLDER",
        ) from error
    samples = dataset.split(dataset.held_out)
    images: list[NDArray[np.uint8]] = []
    for sample in samples[:: max(1, len(samples) // (2 * wanted))]:
        try:
            images.append(open_square(sample.image(), card.input_size, card.resize)[0])
        except UnreadableImageError:
            continue
        if len(images) == wanted:
            break
    if not images:
        raise DataError(f"data set {config.name} has no readable image in {dataset.held_out}", "nanocv data check")
    return np.stack(images)
