"""What one training is asked for and works with; nothing in it is replaced while it runs."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from nanocv_cli import __version__
from nanocv_cli.config.loader import Resolved, config_hash, load_resolved, resolve, trained_config
from nanocv_cli.config.located import Located
from nanocv_cli.config.overrides import NO_OPTIONS, Override, TrainOptions, parse_overrides
from nanocv_cli.config.schema import RunConfig
from nanocv_cli.config.yaml_lines import read_yaml
from nanocv_cli.data.dataset import Dataset
from nanocv_cli.data.sources import image_folder
from nanocv_cli.display import Display
from nanocv_cli.engine.card import ModelCard, wrong_classes
from nanocv_cli.engine.reference import find_checkpoint
from nanocv_cli.engine.runtimes import FP32
from nanocv_cli.errors import ConfigError, DataError, RequestError
from nanocv_cli.evaluation.evaluate import Split, load_split
from nanocv_cli.files import write_json, write_text
from nanocv_cli.foreign import read_json
from nanocv_cli.tasks.base import Task
from nanocv_cli.tasks.evaluator import Metrics
from nanocv_cli.tasks.table import task_for
from nanocv_cli.training.distributed import ProcessGroup
from nanocv_cli.training.recorders.libraries import expect_installed
from nanocv_cli.training.run_directory import RunDirectory
from nanocv_cli.training.saves import telling_how_to_go_on
from nanocv_cli.training.start import Start, card_model, read_start
from nanocv_cli.untrusted import is_plain, printable

_ORIGINS = TypeAdapter(dict[str, str])
_COMPANIONS = TypeAdapter(dict[str, dict[str, str]])

# What a run may be resumed with another value of: memory and processes differ from machine to machine.
RESUMED_WITH = "train.accumulate"


@dataclass(frozen=True)
class TrainContext:
    """One training.

    Attributes:
        config: the resolved config.
        run: the run folder; written by the group's main process alone.
        dataset: images and labels.
        cache: folder of decoded images.
        device: where this process learns.
        display: where it tells of it.
        group: the processes that train together.
        task: the model's, with the other models that the recipe names.
        checkpoint: what a new run starts from; None: from nothing else, or it is resumed.
    """

    config: RunConfig
    run: RunDirectory
    dataset: Dataset[Any]
    cache: Path
    device: torch.device
    display: Display
    group: ProcessGroup
    task: Task
    checkpoint: Path | None = None

    @property
    def start(self) -> Start | None:
        """What the run has taken over from elsewhere when it began."""
        return read_start(self.run.start) if self.config.train.start is not None else None

    def images(self, split: str, size: int) -> Split:
        """One split at one size, decoded by the leader where it is not in the cache yet."""
        resize = self.config.model.resize
        return self.group.leader_first(
            lambda: load_split(self.dataset, split, self.task, self.cache, size, resize, self.display)
        )

    def companions(self) -> dict[str, dict[str, str]]:
        """The models that it learns from, by the key that names them: `reference` and `sha256`."""
        return {key: asdict(companion) for key, companion in self.task.companions.items()}

    def card(self, metrics: Metrics, split: str) -> ModelCard:
        """The card of weights that this context trained, measured on `split`."""
        files = {key: companion.sha256 for key, companion in self.task.companions.items()}
        if start := self.start:
            files["start"] = start.sha256
        return ModelCard(
            name=self.config.model.name,
            task=self.config.model.task,
            classes=self.dataset.classes,
            input_size=self.config.model.input_size,
            resize=self.config.model.resize,
            data=self.dataset.name,
            config={**trained_config(self.config), **({"companions": told} if (told := self.companions()) else {})},
            config_hash=config_hash(self.config, files),
            metrics=metrics,
            split=split,
            version=__version__,
            precision=self.config.train.quantise or FP32,
        )


@dataclass(frozen=True)
class TrainRequest:
    """The options of `nanocv train` that say what to train; `resume` excludes the others."""

    data: str | None = None
    model: str | None = None
    recipe: str | None = None
    overrides: tuple[str, ...] = ()
    out: Path | None = None
    resume: str | None = None
    start: str | None = None
    options: TrainOptions = NO_OPTIONS


@contextmanager
def start_run(
    request: TrainRequest, root: Path, cache: Path, device: torch.device, group: ProcessGroup
) -> Iterator[TrainContext]:
    """A context whose run folder is locked by the group's main process until the block ends.

    A new run's folder appears only once config and images are found to be usable.

    Raises:
        RequestError, ConfigError: what was asked for cannot be.
        DataError: the set is not here or cannot be read.
        MissingExtraError: a tracker of `train.log` is not installed.
        TrainingError: another training has the run folder.
    """
    display = Display() if group.is_main else Display.silent()
    if group.restarts:
        request = _restarted(request, root, group)
    if request.resume:
        is_plain_resume = request == TrainRequest(resume=request.resume, overrides=request.overrides)
        if not is_plain_resume or not all(text.startswith(f"{RESUMED_WITH}=") for text in request.overrides):
            raise RequestError(
                f"--resume continues a run as it was begun; only --device, --nproc and --set {RESUMED_WITH} may change",
                f"nanocv train --resume {request.resume}, without others; other values need a new run",
            )
        resumed = RunDirectory.existing(root, request.resume)
        _expect_whole_config(resumed)
        config, resolved = load_resolved(resumed.config, parse_overrides(request.overrides)), None
    else:
        resolved = _resolved(request, root, group)
        config = resolved.config
    group.expect_even_shares(config.train)
    expect_installed(config.train.log)
    checkpoint = None
    if config.train.start and not (request.resume and resumed.has_state):
        checkpoint = group.leader_first(lambda: find_checkpoint(config.train.start, root))
    folder = group.leader_first(lambda: image_folder(config.data, root, display))
    task = task_for(config.model.task)
    # What dividing a large set by content has read is kept: the others find it.
    dataset = group.leader_first(lambda: task.read(config.data, folder))
    _expect_names(config, dataset)
    task = group.leader_first(lambda: task.accompanied(config.train, dataset.classes, device, root))
    if group.is_main:
        run = resumed if request.resume else RunDirectory.create(root, request.out, config.model.name, config.data.name)
    else:
        run = RunDirectory(group.from_leader(None))
    with run:
        if group.is_main:
            run.lock()
            if resolved:
                write_text(run.config, resolved.to_yaml())
                write_json(run.origins, resolved.origins)
            group.from_leader(run.path)
        for note in dataset.notes:
            display.say(f"note: {note}")
        context = TrainContext(config, run, dataset, cache, device, display, group, task, checkpoint)
        with telling_how_to_go_on(run):
            if group.is_main and task.companions:
                _keep_companions(context)
            yield context


def _restarted(request: TrainRequest, root: Path, group: ProcessGroup) -> TrainRequest:
    """What torchrun asks for again, after a process was lost, as going on with the run that has begun.

    A folder that holds a run of another config is somebody else's: the request stays as it is, which a new run refuses.

    Raises:
        RequestError: it is not known which that is.
        ConfigError: its config is not whole.
    """
    if request.resume:
        return request
    if request.out is None:
        raise RequestError(
            "torchrun starts this training anew, and does not know the run that was begun",
            "name it with --out FOLDER: a process that is lost is then made good from the last save",
        )
    asked, begun = _resolved(request, root, group).config, RunDirectory(request.out).config
    is_ours: bool = group.from_leader(begun.is_file() and load_resolved(begun) == asked)
    return TrainRequest(resume=str(request.out)) if is_ours else request


def _resolved(request: TrainRequest, root: Path, group: ProcessGroup) -> Resolved:
    """The config that is asked for; the model is that of the checkpoint to start from where no other is named."""
    model: str | Located | None = request.model
    asked = []
    if start := request.start:
        asked = [Override("train", "start", start, "--from")]
        if model is None:
            model = card_model(group.leader_first(lambda: find_checkpoint(start, root)), start)
    return resolve(request.data, model, request.recipe, None, request.overrides, request.options, asked)


def _expect_whole_config(run: RunDirectory) -> None:
    """Makes sure that a run's config holds all keys that it began with: half of one would be filled up with defaults.

    Raises:
        ConfigError: one is not there.
    """
    origins: dict[str, str] = {}
    with suppress(DataError):  # they are missing or damaged themselves
        origins = read_json(run.origins, _ORIGINS, "")
    written = read_yaml(run.config) if origins else None
    if written and (lacking := next((key for key in origins if not written.holds(key)), None)):
        raise ConfigError(
            f"{run.config} is not whole: it lacks {lacking}, which the run began with",
            f"put the file back as it was, or start a new run, --from {run.best} perhaps",
        )


def _keep_companions(context: TrainContext) -> None:
    """Notes in the run which models it learns from; those of a run that goes on are the same.

    Raises:
        RequestError: one is not, or it is not known.
        DataError: the note is damaged.
    """
    kept, told = context.run.companions, context.companions()
    if context.run.has_state and not kept.is_file():
        raise RequestError(
            f"{kept} is gone: it says which models {context.run.path} has learnt from so far",
            "put the file back, or start a new run",
        )
    before = read_json(kept, _COMPANIONS, "start a new run") if kept.is_file() else told
    for key, companion in told.items():
        if before.get(key) != companion:
            raise RequestError(
                f"train.{key}: {companion['reference']} has changed since {context.run.path} began",
                "put the file back as it was, or start a new run",
            )
    write_json(kept, told)


def _expect_names(config: RunConfig, dataset: Dataset[Any]) -> None:
    """Makes sure that what is trained can be named in a model card.

    Raises:
        ConfigError: the model's or the set's name cannot.
        DataError: the names of the classes cannot.
    """
    for key, name in (("model", config.model.name), ("data", config.data.name)):
        if not is_plain(name):
            raise ConfigError(
                f"{key}.name is {printable(repr(name), 60)}: it cannot name what others read",
                f"--set {key}.name=NAME, with 200 characters at most, in one line",
            )
    if wrong := wrong_classes(dataset.classes):
        raise DataError(f"data set {dataset.name}: {wrong}", "rename the classes")
