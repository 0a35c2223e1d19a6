"""What a model repository holds, entry by entry, as a tree of lines: for a terminal, as an image, as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInstanceGroup

from nanocv_cli.engine.card import METADATA_KEY, ModelCard
from nanocv_cli.errors import ModelError, RequestError
from nanocv_cli.images.drawing import plain_letters, write_image
from nanocv_cli.serving.repository.entry import CONFIG
from nanocv_cli.serving.repository.model_config import LABELS
from nanocv_cli.serving.repository.pbtxt import read_config
from nanocv_cli.serving.repository.versions import GRAPH, MissingVersionError, served, versions

NAMED_CLASSES = 5  # of an entry; more are counted
MOST_LINES = 1000  # of the image
TEXT, LINE, INDENT, MARGIN = 15, 25, 22, 14  # of the image, pixels
GROUND, INK, FAINT = (255, 255, 255), (25, 27, 31), (110, 116, 126)


@dataclass(frozen=True)
class Listed:
    """One entry, read and not loaded.

    Attributes:
        name: of its folder.
        config: None where it cannot be read.
        problem: why not; else empty.
        card: of the model, where it travels with the config.
        versions: bytes of each version's graph; None where a version has none.
        served: which of them its policy serves.
        labels: whether there are class names beside the config.
    """

    name: str
    config: ModelConfig | None
    problem: str
    card: ModelCard | None
    versions: dict[int, int | None]
    served: tuple[int, ...]
    labels: bool

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        config = self.config
        numbers = [
            {"version": number, "bytes": size, "served": number in self.served}
            for number, size in self.versions.items()
        ]
        return {
            "name": self.name,
            "task": self.card.task if self.card else None,
            "classes": list(self.card.classes) if self.card else [],
            "backend": config.backend or config.platform if config else None,
            "max_batch": config.max_batch_size if config else None,
            "inputs": [_tensor(tensor) for tensor in config.input] if config else [],
            "outputs": [_tensor(tensor) for tensor in config.output] if config else [],
            "versions": numbers,
            "problem": self.problem or None,
        }


@dataclass(frozen=True)
class Line:
    """One line of the tree.

    Attributes:
        more: for each level above it and its own, whether another line of that level follows.
        name: of a folder or file.
        note: what it is.
    """

    more: tuple[bool, ...]
    name: str
    note: str

    def text(self, width: int) -> str:
        """The line for a terminal, with the note in a column `width` characters from the left."""
        branches = "".join("│   " if more else "    " for more in self.more[:-1])
        branches += ("├── " if self.more[-1] else "└── ") if self.more else ""
        return f"{branches + self.name:{width}}  {self.note}".rstrip()


def list_entries(repository: Path) -> list[Listed]:
    """All entries of a repository by name; one that cannot be read says why.

    Raises:
        RequestError: there is no such folder.
    """
    if not repository.is_dir():
        raise RequestError(
            f"there is no model repository {repository}", f"nanocv serve config --repository {repository} writes one"
        )
    return [_listed(folder.parent) for folder in sorted(repository.glob(f"[!.]*/{CONFIG}"))]


def _listed(folder: Path) -> Listed:
    graphs = {number: folder / str(number) / GRAPH for number in versions(folder)}
    sizes = {number: path.stat().st_size if path.is_file() else None for number, path in graphs.items()}
    config, card, problem, numbers = None, None, "", tuple[int, ...]()
    try:
        config = read_config(folder / CONFIG)
        numbers = tuple(served(list(sizes), config.version_policy))
        if METADATA_KEY in config.parameters:
            card = ModelCard.from_metadata({METADATA_KEY: config.parameters[METADATA_KEY].string_value}, folder.name)
    except (ModelError, MissingVersionError) as error:
        problem = error.message
    return Listed(folder.name, config, problem, card, sizes, numbers, (folder / LABELS).is_file())


def tree(repository: Path, entries: Sequence[Listed]) -> list[Line]:
    """The repository as lines, itself first."""
    lines = [Line((), f"{repository.resolve().name}/", f"{len(entries)} models")]
    for place, entry in enumerate(entries, start=1):
        more = place < len(entries)
        lines.append(Line((more,), f"{entry.name}/", _shown_model(entry.card)))
        below = list(_files(entry))
        for number, (name, note) in enumerate(below, start=1):
            lines.append(Line((more, number < len(below)), name, note))
    return lines


def _files(entry: Listed) -> Iterator[tuple[str, str]]:
    yield CONFIG, entry.problem or (_shown_settings(entry.config) if entry.config else "")
    if entry.labels:
        yield LABELS, "names of the classes, one a line"
    for number, size in entry.versions.items():
        shown = "no graph" if size is None else f"{size / 1e6:.1f} MB"
        signature = _shown_signature(entry.config) if entry.config and number in entry.served else "not served"
        yield f"{number}/{GRAPH}", f"{shown}; {signature}"


def _shown_model(card: ModelCard | None) -> str:
    if card is None:
        return ""
    many = f" and {len(card.classes) - NAMED_CLASSES} more" if len(card.classes) > NAMED_CLASSES else ""
    return f"{card.task}: {', '.join(card.classes[:NAMED_CLASSES])}{many}"


def _shown_settings(config: ModelConfig) -> str:
    parts = [config.backend or config.platform, f"up to {config.max_batch_size} images at once"]
    if config.HasField("dynamic_batching"):
        parts.append(f"waits {config.dynamic_batching.max_queue_delay_microseconds} usec for more")
    for group in config.instance_group:
        parts.append(f"instances: {group.count} on {_enum(ModelInstanceGroup.Kind, group.kind, 'KIND_').lower()}")
    return ", ".join(part for part in parts if part)


def _shown_signature(config: ModelConfig) -> str:
    return " > ".join(
        ", ".join(f"{one['name']} {one['type']}{one['dims']}" for one in map(_tensor, tensors))
        for tensors in (config.input, config.output)
    )


def _tensor(tensor: Any) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "type": _enum(DataType, tensor.data_type, "TYPE_"),
        "dims": list(tensor.dims),
    }


def _enum(names: Any, value: int, prefix: str) -> str:
    """The name of a value; its number where it has none, as others may write it."""
    return str(names.Name(value)).removeprefix(prefix) if value in names.values() else str(value)


def write_tree(lines: Sequence[Line], path: Path) -> Path:
    """Writes the lines as a PNG file: branches as strokes, for Pillow's own font has none.

    Raises:
        RequestError: they are more than an image can show.
    """
    if len(lines) > MOST_LINES:
        raise RequestError(f"{len(lines):,} lines are too many for one image", "leave --out away: lines are printed")
    face = ImageFont.load_default(TEXT)
    names = [plain_letters(line.name) for line in lines]
    notes = [plain_letters(line.note) for line in lines]
    ends = [INDENT * len(line.more) + face.getlength(name) for line, name in zip(lines, names, strict=True)]
    column = max(ends) + 3 * MARGIN
    width = round(column + max(map(face.getlength, notes)) + MARGIN)
    image = Image.new("RGB", (width, LINE * len(lines) + MARGIN), GROUND)
    pen = ImageDraw.Draw(image)
    for number, (line, name, note) in enumerate(zip(lines, names, notes, strict=True)):
        top = MARGIN // 2 + number * LINE
        middle, left = top + LINE // 2, MARGIN + INDENT * len(line.more)
        for level, more in enumerate(line.more):
            x, own = MARGIN + INDENT * level + INDENT // 3, level == len(line.more) - 1
            if more or own:
                pen.line((x, top, x, top + LINE if more else middle), fill=FAINT)
            if own:
                pen.line((x, middle, left - INDENT // 4, middle), fill=FAINT)
        pen.text((left, middle), name, INK, font=face, anchor="lm")
        pen.text((column, middle), note, FAINT, font=face, anchor="lm")
    return write_image(np.asarray(image), path)
