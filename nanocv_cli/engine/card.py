"""The model card: what a model file says of itself, carried as metadata by `.safetensors` and `.onnx` files alike."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from nanocv_cli.errors import ModelError
from nanocv_cli.images import RESIZE_RULES
from nanocv_cli.output import finite
from nanocv_cli.untrusted import first_line, is_plain, printable

METADATA_KEY = "nanocv.card"
NAMES = ("name", "task")
TEXTS = ("data", "config_hash", "split", "version", "precision")  # may be empty

LARGEST_CARD = 8 << 20  # characters
LARGEST_INPUT = 2048  # pixels, as in a model's config
MOST_CLASSES = 32_768
DEEPEST = 32
LARGEST_NUMBER = 2.0**63


@dataclass(frozen=True)
class ModelCard:
    """Everything a reader needs to run a model file and to name its answers.

    Attributes:
        name: the model config's name (`lenet`).
        task: the task whose reader understands the outputs (`classification`).
        classes: class names in label order.
        input_size: side of the square image the graph reads, pixels.
        resize: how any image becomes that square (`crop` or `stretch`, see `images/resize.py`).
        data: the data set it was trained on.
        config: the resolved data, model and train sections.
        config_hash: their hash (`config.loader.config_hash`).
        metrics: on the held-out split, by name.
        split: the split those metrics were measured on.
        version: nanocv's version that wrote the file.
        precision: of the weights: fp32, bf16, fp16 or int8.
        cost: what less precision than fp32 cost on `split`: `drop` of the task's score (points of a share, else
            percent), `engine` that lost it, `before`, the metrics in fp32; empty where nothing was given up.
    """

    name: str
    task: str
    classes: tuple[str, ...]
    input_size: int
    resize: str
    data: str
    config: dict[str, Any]
    config_hash: str
    metrics: dict[str, Any] = field(default_factory=dict)
    split: str = ""
    version: str = ""
    precision: str = "fp32"
    cost: dict[str, Any] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, str]:
        """The card as the string-to-string metadata that both file formats carry."""
        told = {key: value for key, value in asdict(self).items() if key != "cost" or value}
        return {METADATA_KEY: json.dumps(finite(told), sort_keys=True)}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str], origin: str) -> "ModelCard":
        """Reads a card back; keys a newer nanocv may have added are passed over.

        Args:
            metadata: the file's metadata.
            origin: the file's path, for the message.

        Raises:
            ModelError: there is no card, or it lacks a field or holds one that cannot be.
        """
        text = metadata.get(METADATA_KEY)
        if text is None:
            raise ModelError(
                f"{origin} carries no nanocv model card, so its classes and input size are unknown",
                "use a file written by `nanocv train` or `nanocv export onnx`",
            )
        if len(text) > LARGEST_CARD:
            raise _damaged(origin, f"it has {len(text):,} characters, {LARGEST_CARD:,} is the most")
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _damaged(origin, first_line(error, 80)) from error
        if wrong := _wrong_in(document):
            raise _damaged(origin, wrong)
        known = {f.name for f in fields(cls)}
        values = {key: value for key, value in document.items() if key in known}
        return cls(**{**values, "classes": tuple(values["classes"])})


def wrong_classes(classes: Sequence[Any]) -> str:
    """Why these cannot be the class names of a model, in words; empty where they can."""
    if not 1 <= len(classes) <= MOST_CLASSES:
        return f"there are {len(classes):,} classes; 1 to {MOST_CLASSES:,} can be"
    for name in classes:
        if not is_plain(name):
            return f"{printable(repr(name), 60)} is no class name: a text of 200 characters at most, in one line"
    if len(set(classes)) < len(classes):
        return f"class {printable(next(name for name in classes if classes.count(name) > 1), 60)} stands twice"
    return ""


def _wrong_in(document: Any) -> str:
    """What is wrong in a card's document, in words; empty where nothing is."""
    if not isinstance(document, dict):
        return "it is no object"
    for key in ("name", "task", "classes", "input_size", "resize", "data", "config", "config_hash"):
        if key not in document:
            return f"{key} is missing"
    for key in NAMES:
        if not is_plain(document[key]):
            return f"{key} is no name"
    for key in TEXTS:
        if key in document and document[key] != "" and not is_plain(document[key]):
            return f"{key} is no text of one line"
    if not isinstance(document["classes"], list):
        return "classes is no list"
    size = document["input_size"]
    if type(size) is not int or not 1 <= size <= LARGEST_INPUT:
        return f"input_size is {printable(repr(size), 60)}; expected 1 to {LARGEST_INPUT}"
    if document["resize"] not in RESIZE_RULES:
        return f"resize is none of {', '.join(RESIZE_RULES)}"
    for key in ("config", "metrics", "cost"):
        if not isinstance(document.get(key, {}), dict):
            return f"{key} is no object"
    if type(document.get("cost", {}).get("drop", 0.0)) not in (int, float):
        return "cost.drop is no number"
    return wrong_classes(document["classes"]) or _wrong_values(document)


def _wrong_values(value: Any, depth: int = 0) -> str:
    """Whether nested values hold a number that is none or beyond all use, or are nested beyond all use."""
    if depth > DEEPEST:
        return f"it is nested more than {DEEPEST} deep"
    if isinstance(value, int | float):
        # NaN is no less than anything.
        return "" if abs(value) <= LARGEST_NUMBER else f"it holds the number {printable(value, 30)}"
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next(filter(None, (_wrong_values(item, depth + 1) for item in inner)), "")


def _damaged(origin: str, why: str) -> ModelError:
    return ModelError(f"{origin}: its model card is damaged: {why}", "export it again: nanocv export onnx --model RUN")
