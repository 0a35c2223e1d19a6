"""A graph's answers to the split it is evaluated on, all that a report tells of them: plain values, no torch left."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.dataset import Dataset
from nanocv_cli.data.sources import image_folder
from nanocv_cli.display import Display
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.errors import ModelError
from nanocv_cli.evaluation.bootstrap import Values, bootstrap
from nanocv_cli.evaluation.measure import measure, open_graph
from nanocv_cli.tasks.evaluator import Metrics
from nanocv_cli.tasks.exhibits import Exhibits
from nanocv_cli.tasks.table import task_for

BATCH_SIZE = 32


@dataclass(frozen=True)
class Evidence:
    """What a graph is worth on a split.

    Attributes:
        data: name of the set.
        split: of it.
        n: images.
        fingerprint: of these very images; models with the same one can be compared image by image.
        metrics: by name.
        resampled: float64 [draws] by metric, see `bootstrap`.
        exhibits: what there is to see.
    """

    data: str
    split: str
    n: int
    fingerprint: str
    metrics: Metrics
    resampled: dict[str, Values]
    exhibits: Exhibits


def read_own_set(card: ModelCard, origin: Path, root: Path, display: Display) -> Dataset[Any]:
    """The set that a model was trained on, with the labels of its task.

    Raises:
        DataError: it is not here, or cannot be read.
        ModelError: the card names none.
    """
    config = trained_on(card, origin)
    return task_for(card.task).read(config, image_folder(config, root, display))


def gather_evidence(graph: Path, card: ModelCard, root: Path, cache: Path, display: Display) -> Evidence:
    """Runs a graph over the held-out split of the set it was trained on.

    Raises:
        NanocvError: the set is not here or has other classes; the graph fails.
    """
    opened = open_graph(str(graph), root)
    measured = measure(opened, trained_on(card, graph), None, BATCH_SIZE, root, cache, display)
    with display.bar("resampling") as progress:
        resampled = bootstrap(measured.evaluator, len(measured.images), progress)
    return Evidence(
        data=measured.data,
        split=measured.split,
        n=len(measured.images),
        fingerprint=measured.fingerprint,
        metrics=measured.metrics,
        resampled=resampled,
        exhibits=measured.evaluator.exhibits(measured.images),
    )


def trained_on(card: ModelCard, origin: Path) -> DataConfig:
    """The set that a card says its model was trained on: as a folder to read, never as an archive to unpack.

    A card may come from anybody, and unpacking replaces the folder that it names.

    Raises:
        ModelError: the card names none.
    """
    try:
        config = DataConfig.model_validate_json(json.dumps(card.config["data"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{origin}: its model card is damaged: it holds no data config", "give any set with --data FOLDER"
        ) from error
    return config.model_copy(update={"archive": None})
