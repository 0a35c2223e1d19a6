"""A model as a repository of a Hugging Face hub: a folder, and its upload where a token is at hand."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanocv_cli.api.model import Model
from nanocv_cli.config.project import project_root
from nanocv_cli.display import Display
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.graph import Graph
from nanocv_cli.engine.hub_client import NAME, answering, endpoint
from nanocv_cli.engine.reference import find_checkpoint, find_graph
from nanocv_cli.errors import ModelError, NanocvError, RequestError
from nanocv_cli.files import atomic_path, expect_folder, write_text
from nanocv_cli.images.drawing import write_grid
from nanocv_cli.images.resize import open_square
from nanocv_cli.output import say
from nanocv_cli.rooms import room
from nanocv_cli.untrusted import printable

# Plain LFS, which every hub speaks; not huggingface.co's own protocol, and nothing for its makers.
SETTINGS = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]{0,60}", re.ASCII)
SHOWN = 8  # held-out images on the image of results
SHOWN_SIDE = 224  # pixels, at least


@dataclass(frozen=True)
class Published:
    """A repository folder, and what became of it.

    Attributes:
        repository: `owner/name`.
        folder: with all files.
        files: their names.
        url: of the commit on the hub; None where nothing was uploaded.
        commit: 40 hex digits; None likewise.
    """

    repository: str
    folder: Path
    files: tuple[str, ...]
    url: str | None
    commit: str | None


def publish(
    ref: str | None, repository: str, out: Path | None = None, licence: str = "unknown", private: bool = False
) -> Published:
    """Writes the repository folder of a model, and uploads it as one commit where there is a token of the hub.

    Args:
        ref: see `nanocv_cli.load`; both its graph and its checkpoint are needed.
        repository: `owner/name`; made on the hub where it is not there.
        out: the folder; None: `hub/OWNER/NAME`. Files of the same names are replaced.
        licence: its identifier on the hub.
        private: whether a repository that is made now is.

    Raises:
        RequestError: there is no such model, or the name or licence cannot be.
        ModelError: graph and checkpoint are not of one training, or damaged.
        ServingError: the hub refused it; the folder is written.
        StorageError: a file cannot be written.
    """
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    from nanocv_cli.exporting.hub_card import hub_readme
    from nanocv_cli.models.checkpoint import read_card

    if not re.fullmatch(f"{NAME}/{NAME}", repository, re.ASCII) or ".." in repository or "--" in repository:
        raise RequestError(f"--repo {printable(repository, 120)} names no repository", "--repo OWNER/NAME")
    if not LICENCE.fullmatch(licence):
        raise RequestError(f"--license {printable(licence, 60)} is no identifier of a licence", "--license apache-2.0")
    folder = out or Path("hub") / repository
    expect_folder(folder)
    root = project_root()
    graph, checkpoint = find_graph(ref, root), find_checkpoint(ref, root)
    opened = Graph(graph)
    card, other = opened.card, read_card(checkpoint)
    if _training(card) != _training(other):
        raise ModelError(
            f"{graph} and {checkpoint} are not of one training",
            f"nanocv export onnx --model {checkpoint} --out {graph}",
        )
    for source, name in ((graph, "model.onnx"), (checkpoint, "model.safetensors")):
        with atomic_path(folder / name) as temporary:
            shutil.copyfile(source, temporary)
    image = _draw_results(Model(opened), checkpoint, root, folder / "results.png")
    write_text(folder / "README.md", hub_readme(card, repository, licence, image.name if image else None))
    files = ("README.md", "model.onnx", "model.safetensors", *((image.name,) if image else ()))
    url, commit = _upload(folder, files, repository, private) if _has_token() else (None, None)
    return Published(repository, folder, files, url, commit)


def _training(card: ModelCard) -> tuple[object, ...]:
    return card.name, card.task, card.classes, card.config_hash


def _draw_results(model: Model, checkpoint: Path, root: Path, path: Path) -> Path | None:
    """Draws what the model answers to held-out images, or images that it makes; None where those are not here."""
    from nanocv_cli.evaluation.evidence import read_own_set

    card = model.card
    if room(card.task).postprocessor is None:
        made = model.sample(n=SHOWN)
        return write_grid(list(made.values()), path, list(made))
    try:
        dataset = read_own_set(card, checkpoint, root, Display())
        samples = dataset.split(dataset.held_out)
        count = min(SHOWN, len(samples))
        chosen = [samples[len(samples) * number // count] for number in range(count)]
        side = max(card.input_size, SHOWN_SIDE)
        images = [open_square(sample.image(), side, card.resize)[0] for sample in chosen]
        drawn = [model.draw(image, result) for image, result in zip(images, model.predict(images), strict=True)]
    except NanocvError as error:
        path.unlink(missing_ok=True)
        say(f"no image of results: {error.message}")
        return None
    return write_grid([np.stack(drawn)], path, columns=SHOWN // 2)


def _has_token() -> bool:
    """Whether `HF_TOKEN` or a login names a user of the hub."""
    from huggingface_hub import get_token

    return get_token() is not None


def _upload(folder: Path, files: tuple[str, ...], repository: str, private: bool) -> tuple[str, str]:
    """One commit with these files; its URL and its name."""
    from huggingface_hub import CommitOperationAdd, HfApi

    with answering():
        hub = HfApi(endpoint=endpoint())
        hub.create_repo(repository, private=private, exist_ok=True)
        done = hub.create_commit(
            repository,
            [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in files],
            commit_message="Model by nanocv",
        )
    return str(done.commit_url), done.oid
