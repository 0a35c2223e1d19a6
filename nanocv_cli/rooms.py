"""The one table of tasks: where the parts of each task's room stand, by dotted paths that are imported when used.

It imports no room, so that everybody may read it: the config for the names that `model.task` may take, commands for a
task's parts (`tasks/table.py` gives them with their types).

Another package enters a task of its own by an entry point that leads to a `Room`:

    [project.entry-points."nanocv.tasks"]
    counting = "nanocv_counting:ROOM"
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from nanocv_cli.errors import ModelError

ENTRY_POINTS = "nanocv.tasks"


@dataclass(frozen=True)
class Score:
    """The metric by which epochs are evaluated, and which of them gives the weights to keep.

    Attributes:
        name: its key among the metrics.
        last_is_best: keep the last epoch's weights whatever the metric says, else those of its best value.
        lowest_is_best: whether the best value is the lowest, as of an error; else the highest.
        is_share: whether values are shares 0..1, told as percentages.
    """

    name: str
    last_is_best: bool = False
    lowest_is_best: bool = False
    is_share: bool = True

    def better(self, value: float, best: float | None) -> bool:
        """Whether to keep the weights of a value, given the value of those kept so far, if there are any."""
        if self.last_is_best or best is None:
            return True
        return value < best if self.lowest_is_best else value > best

    def shown(self, value: float) -> str:
        """A value for people."""
        return f"{value:.2%}" if self.is_share else f"{value:.4f}"


@dataclass(frozen=True)
class Room:
    """Where a task's parts stand; paths are `package.module` or `package.module:name`.

    Attributes:
        task: the class of the training side, a `tasks.base.Task` that is made without arguments.
        score: the metric that epochs and runs are ranked by; not a path, so that runs are listed without torch.
        postprocessor: the class of what understands and draws the graph's answers to images, without torch, a
            `tasks.postprocessor.Postprocessor` that is made without arguments; None where a model answers no images.
        recipe: the class of a train config: the loop's keys and those that the task's loss and augmentation read.
        model: the class of a model config, likewise.
        networks: names that `model.architecture` may have, each with what builds it from a model config and the
            number of classes (`models.registry.Builder`).
        arguments: by the same names, the class of `model.args`: what the network may be built with; a network that
            is left out takes none.
        torchvision: likewise, what builds torchvision's networks by their names there; None where it has none.
        timm: likewise, of timm's.
        graph_sampler: what makes images by an opened graph, without torch (`tasks.sampler.Sampler`); None where a
            model makes none.
        checkpoint_sampler: likewise by a checkpoint, from its path and a device.
        readers: names that `data.format` may have for labels of the task's own, each with what reads them
            (`data.formats.table.Reader`); none where nanocv's own formats hold its labels.
        browser: what understands the graph's answers in a browser, an ES module (docs/web.md) as `package/file.js`;
            None where nothing does.
        settings: numbers that a request to a served model may name, with lowest and highest value: inputs of the
            graph that have a value of their own.
        boxes: outputs of its graphs that hold corners x0, y0, x1, y1 as shares of the square that the graph reads.
        pipeline_tag: what Hugging Face's hub calls the task; None where it has no word for it.
    """

    task: str
    score: Score
    postprocessor: str | None = None
    recipe: str = "nanocv_cli.config.schema:TrainConfig"
    model: str = "nanocv_cli.config.schema:ModelConfig"
    networks: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    torchvision: str | None = None
    timm: str | None = None
    graph_sampler: str | None = None
    checkpoint_sampler: str | None = None
    readers: Mapping[str, str] = field(default_factory=dict)
    browser: str | None = None
    settings: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    boxes: tuple[str, ...] = ()
    pipeline_tag: str | None = None


BUILT_IN = {
    "classification": Room(
        task="nanocv_cli.tasks.classification.task:Classification",
        score=Score("top1"),
        postprocessor="nanocv_cli.tasks.classification.postprocessor:ClassificationPostprocessor",
        recipe="nanocv_cli.tasks.classification.config:Recipe",
        networks={"lenet": "nanocv_cli.models.lenet:build_lenet", "nanores": "nanocv_cli.models.nanores:build_nanores"},
        arguments={
            "lenet": "nanocv_cli.models.arguments:LeNetArgs",
            "nanores": "nanocv_cli.models.arguments:NanoResArgs",
        },
        torchvision="nanocv_cli.tasks.classification.torchvision_classifiers:build_torchvision_classifier",
        timm="nanocv_cli.models.timm_networks:build_timm_classifier",
        browser="nanocv_cli.tasks.classification/postprocessor.js",
        pipeline_tag="image-classification",
    ),
    "detection": Room(
        task="nanocv_cli.tasks.detection.task:Detection",
        score=Score("map"),
        postprocessor="nanocv_cli.tasks.detection.postprocessor:DetectionPostprocessor",
        recipe="nanocv_cli.tasks.detection.config:Recipe",
        networks={"nanospot": "nanocv_cli.models.nanospot:build_nanospot"},
        arguments={"nanospot": "nanocv_cli.models.arguments:NanoSpotArgs"},
        torchvision="nanocv_cli.tasks.detection.torchvision_detectors:build_torchvision_detector",
        browser="nanocv_cli.tasks.detection/postprocessor.js",
        boxes=("boxes",),
        pipeline_tag="object-detection",
    ),
    "segmentation": Room(
        task="nanocv_cli.tasks.segmentation.task:Segmentation",
        score=Score("miou"),
        postprocessor="nanocv_cli.tasks.segmentation.postprocessor:SegmentationPostprocessor",
        recipe="nanocv_cli.tasks.segmentation.config:Recipe",
        networks={"nanoseg": "nanocv_cli.models.nanoseg:build_nanoseg"},
        arguments={"nanoseg": "nanocv_cli.models.arguments:NanoSegArgs"},
        torchvision="nanocv_cli.tasks.segmentation.torchvision_segmenters:build_torchvision_segmenter",
        browser="nanocv_cli.tasks.segmentation/postprocessor.js",
        pipeline_tag="image-segmentation",
    ),
    "generation": Room(
        task="nanocv_cli.tasks.generation.task:Generation",
        score=Score("coverage", last_is_best=True),
        recipe="nanocv_cli.tasks.generation.config:Recipe",
        model="nanocv_cli.tasks.generation.config:Model",
        networks={"nanoflow": "nanocv_cli.models.nanoflow:build_nanoflow"},
        arguments={"nanoflow": "nanocv_cli.models.arguments:NanoFlowArgs"},
        graph_sampler="nanocv_cli.tasks.generation.sampling:GraphSampler",
        checkpoint_sampler="nanocv_cli.tasks.generation.sampler:CheckpointSampler",
        browser="nanocv_cli.tasks.generation/sampling.js",
        settings={"steps": (1, 50), "guidance": (0, 20)},
        pipeline_tag="unconditional-image-generation",
    ),
}

_registered: dict[str, Room] = {}


def register(name: str, room: Room) -> None:
    """Enters a task for this process alone; a package that is installed uses an entry point instead.

    Raises:
        ValueError: there is a task of this name.
    """
    if is_task(name):
        raise ValueError(f"there is a task {name!r} already")
    _registered[name] = room


def task_names() -> tuple[str, ...]:
    """The names of all tasks: those of this package first, then those of others."""
    return tuple(dict.fromkeys((*BUILT_IN, *_registered, *_entered())))


def is_task(name: str) -> bool:
    """Whether there is a task of this name; looks at the installed packages only where the table lacks it."""
    return name in BUILT_IN or name in _registered or name in _entered()


def room(name: str) -> Room:
    """The room of a task that a config or a card names.

    Raises:
        ModelError: there is no such task, or the package that enters it is broken.
    """
    found = BUILT_IN.get(name) or _registered.get(name)
    if found:
        return found
    entries = _entered()
    if name not in entries:
        known = ", ".join(task_names())
        raise ModelError(f"unknown task {name!r}", f"this nanocv knows {known}; a newer one may know more")
    entered = part(name, entries[name])
    if not isinstance(entered, Room):
        raise broken(name, f"{entries[name]} is no Room", "see nanocv_cli/rooms.py")
    return entered


def part(name: str, path: str) -> object:
    """What stands at a path that the package of a task names.

    Raises:
        ModelError: the package is broken.
    """
    from pkgutil import resolve_name

    try:
        return resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise broken(name, str(error), f"it names {path}") from error


def broken(name: str, why: str, hint: str) -> ModelError:
    """The error of a package whose task cannot be used."""
    return ModelError(f"the package that brings the task {name!r} is broken: {why}", hint)


def entered_readers() -> list[tuple[str, str, str]]:
    """The label formats of other packages: task, name of the format, path of its reader.

    Raises:
        ModelError: such a package is broken.
    """
    others = (name for name in task_names() if name not in BUILT_IN)
    return [(name, format, path) for name in others for format, path in room(name).readers.items()]


def _entered() -> Mapping[str, str]:
    """What installed packages enter: names of tasks with the paths of their rooms."""
    return _entered_in(tuple((folder, _changed(folder)) for folder in sys.path))


@lru_cache(maxsize=1)
def _entered_in(_: tuple[tuple[str, int | None], ...]) -> Mapping[str, str]:
    """The same of the import path as it is: to read it takes 10 ms, for a file of every package is opened."""
    from importlib.metadata import entry_points

    return {entry.name: entry.value for entry in entry_points(group=ENTRY_POINTS)}


def _changed(folder: str) -> int | None:
    """When something was last put into a folder of the import path or taken out of it, in ns; None: it is not there."""
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return None
