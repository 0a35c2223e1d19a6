"""The spine of `nanocv export --precision`: a graph of less precision, written if its metric holds.

It is measured on the validation split by every engine that is installed and reads it, for each has arithmetic of its
own in less than fp32; the worst of them counts. Where that loses too much, the layers that hurt most stay in fp32.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx

from nanocv_cli.config.project import cache_folder
from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.sources import image_folder
from nanocv_cli.display import Display
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.engine import Engine
from nanocv_cli.engine.runtimes import RunSettings, open_in_process
from nanocv_cli.errors import ExportError, RequestError
from nanocv_cli.evaluation.evaluate import load_split
from nanocv_cli.evaluation.measure import OpenedModel, match_classes, measure
from nanocv_cli.exporting.graph_forms import GraphForm
from nanocv_cli.exporting.loop_body import Feed
from nanocv_cli.exporting.precision import Converter, find_converter, layers_of, slow_here
from nanocv_cli.machine import processor_flags
from nanocv_cli.rooms import Score, room
from nanocv_cli.tasks.evaluator import Metrics
from nanocv_cli.tasks.table import task_for

CALIBRATED_ON, COMPARED_ON = 300, 16  # images of the training split, spread evenly over it
LEFT_OUT = (1, 2, 4, 8)  # layers, one try after the other
BATCH = 32
MOST_SHOWN = 16  # layers


@dataclass(frozen=True)
class Reduced:
    """A written graph of less precision.

    Attributes:
        card: its card, with the metrics of the worst engine.
        before: metrics of the graph in fp32 on the same split.
        drop: what the task's score lost, in points of a share, else in percent of its value.
        engine: the one that lost it.
        kept: names of the layers that stayed in fp32, the most sensitive first.
        sensitivity: by name of each layer, how much the answers change where it alone is converted, in shares of what
            they are, the most first; empty where the score held without anyone asking.
    """

    card: ModelCard
    before: Metrics
    drop: float
    engine: str
    kept: tuple[str, ...]
    sensitivity: dict[str, float] = field(default_factory=dict)


def export_reduced(
    graph: Path,
    target: Path,
    form: GraphForm,
    precision: str,
    max_drop: float,
    data: DataConfig,
    root: Path,
    display: Display,
) -> Reduced:
    """Writes a graph of less precision.

    Args:
        graph: of fp32, with a card.
        target: the file that a reference shall name; it is replaced as `GraphForm.replacing` tells.
        form: of the files.
        precision: a name of `precision.PRECISIONS`.
        max_drop: the most that the score may lose, in points of a share, else in percent of its value.
        data: the set whose training split ranges are chosen by, and whose validation split is measured on.
        root: the project.
        display: is told how far it is.

    Raises:
        RequestError: the set has no training split, or no validation split that decides the score; what makes the
            precision is not installed.
        ExportError: the score loses more; `target` is left as it was.
        StorageError: `target` cannot be written.
    """
    convert = find_converter(precision)
    if note := slow_here(precision, processor_flags()):
        display.say(f"note: {note}")
    measured = _Measurements(graph, form, data, root, display)
    model, calibration = onnx.load(str(graph)), measured.calibration()
    with form.replacing(target) as candidate:

        def attempt(kept: Sequence[str]) -> Reduced:
            converted = convert(model, calibration, kept)
            form.write(_with_card(converted, measured.card), candidate)
            after = {name: measured.metrics(candidate, name) for name in measured.engines}
            drops = {name: loss(measured.score, measured.before, metrics) for name, metrics in after.items()}
            engine = max(drops, key=drops.__getitem__)
            cost = {"drop": drops[engine], "engine": engine, "before": measured.before}
            card = replace(measured.card, precision=precision, metrics=after[engine], split="val", cost=cost)
            form.write(_with_card(converted, card), candidate)
            return Reduced(card, measured.before, drops[engine], engine, tuple(kept))

        reduced = attempt(())
        if reduced.drop > max_drop:
            display.say(f"{precision} loses {reduced.drop:.2f} on {reduced.engine}: looking for the layers that hurt")
            changes = measured.sensitivity(model, convert, calibration, reduced.engine)
            for line in _table(changes):
                display.say(line)
            layers = list(changes)
            for count in LEFT_OUT:
                if reduced.drop > max_drop:
                    display.say(f"left in fp32: {', '.join(layers[:count])}")
                    reduced = replace(attempt(layers[:count]), sensitivity=changes)
        if reduced.drop > max_drop:
            unit = "points" if measured.score.is_share else "percent"
            raise ExportError(
                f"in {precision} {measured.score.name} loses {reduced.drop:.2f} {unit} on {reduced.engine}, also with "
                f"{len(reduced.kept)} layers left in fp32 (allowed {max_drop:g}); nothing was written",
                "allow more with --max-drop, or stay with fp32",
            )
    return reduced


def loss(score: Score, before: Metrics, after: Metrics) -> float:
    """What a score has lost: in points of a share, else in percent of what it was; less than 0 where it has won.

    Args:
        score: the task's.
        before: metrics, by name.
        after: likewise.

    Raises:
        RequestError: nothing in the split decides the score, such as boxes where there are none.
    """
    if before[score.name] is None or after[score.name] is None:
        raise RequestError(
            f"nothing in the validation split decides {score.name}", "give a set with labels there with --data"
        )
    lost = float(before[score.name]) - float(after[score.name])
    lost = -lost if score.lowest_is_best else lost
    return 100.0 * lost if score.is_share else 100.0 * lost / max(abs(float(before[score.name])), 1e-12)


class _Measurements:
    """Measures graphs of one model on one set."""

    def __init__(self, graph: Path, form: GraphForm, data: DataConfig, root: Path, display: Display) -> None:
        self._graph, self._form, self._data, self._root, self._display = graph, form, data, root, display
        self.card = self._open(graph, "onnxruntime").card
        self.score = room(self.card.task).score
        self.engines = form.runtimes
        self._task = task_for(self.card.task)
        self._dataset = match_classes(self._task.read(data, image_folder(data, root, display)), self.card.classes)
        for split, what in (("train", "choose ranges by"), ("val", "measure on")):
            if not self._dataset.splits.get(split):
                raise RequestError(
                    f"data set {data.name} has no {split} split to {what}", "give a set that has one with --data"
                )

    def _open(self, graph: Path, engine: str) -> Engine:
        return open_in_process(graph, RunSettings(engine, "cpu"), cache_folder(self._root))

    @cached_property
    def before(self) -> Metrics:
        """Of the graph in fp32."""
        return self.metrics(self._graph, "onnxruntime")

    def calibration(self) -> list[Feed]:
        """Images of the training split as the graph takes them, one by one."""
        card, cache = self.card, cache_folder(self._root)
        split = load_split(self._dataset, "train", self._task, cache, card.input_size, card.resize, self._display)
        places = np.unique(np.linspace(0, len(split.images) - 1, CALIBRATED_ON).round().astype(int))
        return [
            self._task.graph_inputs(np.array(split.images[[place]]), np.array(split.targets[[place]]), int(place))
            for place in places
        ]

    def metrics(self, graph: Path, engine: str) -> Metrics:
        """The task's metrics on the validation split."""
        opened = self._open(graph, engine)
        model = OpenedModel(opened.origin, opened.card, opened.answer, opened.runtime)
        cache = cache_folder(self._root)
        return measure(model, self._data, "val", BATCH, self._root, cache, self._display).metrics

    def sensitivity(
        self, model: onnx.ModelProto, convert: Converter, calibration: Sequence[Feed], engine: str
    ) -> dict[str, float]:
        """Of each layer, how much the answers of an engine change where it alone is converted, the most first."""
        layers = layers_of(model)
        few = calibration[:: max(1, len(calibration) // COMPARED_ON)][:COMPARED_ON]
        expected = self._answers(self._graph, engine, few)
        changes: dict[str, float] = {}
        with tempfile.TemporaryDirectory() as folder, self._display.bar("looking at layers") as progress:
            scratch = Path(folder) / f"layer{self._form.suffix}"
            for done, layer in enumerate(layers, start=1):
                try:
                    converted = convert(model, few, [other for other in layers if other != layer])
                except ExportError:  # it stays as it is by itself
                    continue
                finally:
                    progress(done, len(layers))
                self._form.write(_with_card(converted, self.card), scratch)
                actual = self._answers(scratch, engine, few)
                changes[layer] = sum(
                    float(np.abs(left - right).mean() / max(np.abs(left).mean(), 1e-12))
                    for left, right in zip(expected, actual, strict=True)
                )
        return dict(sorted(changes.items(), key=lambda entry: entry[1], reverse=True))

    def _answers(self, graph: Path, engine: str, feeds: Sequence[Feed]) -> list[np.ndarray]:
        """All outputs for all of the feeds, as numbers that can be subtracted."""
        opened = self._open(graph, engine)
        answers = [opened.answer(feed) for feed in feeds]
        return [np.concatenate([one[name] for one in answers]).astype(np.float64) for name in answers[0]]


def _table(changes: dict[str, float]) -> list[str]:
    """Sensitivities for people, the highest first."""
    shown = list(changes.items())[:MOST_SHOWN]
    more = [f"{len(changes) - len(shown)} more change less"] if len(changes) > len(shown) else []
    return ["layer by layer, how much the answers change", *(f"{100 * by:8.3f} %  {name}" for name, by in shown), *more]


def _with_card(model: onnx.ModelProto, card: ModelCard) -> onnx.ModelProto:
    """The graph with a card in place of the one that it came with."""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, card.to_metadata())
    return model
