"""The model card: what a model file says of itself, carried as metadata by `.safetensors` and `.onnx` files alike."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from nanocv_cli.errors import ModelError

METADATA_KEY = "nanocv.card"
RESIZE_RULES = ("crop", "stretch")
TEXTS = ("name", "task", "resize", "data", "config_hash", "split", "version", "precision")


@dataclass(frozen=True)
class ModelCard:
    """Everything a reader needs to run a model file and to name its answers.

    Attributes:
        name: the model config's name (`lenet`).
        task: the task whose reader understands the outputs (`classification`).
        classes: class names in label order.
        input_size: side of the square picture the graph reads, pixels.
        resize: how any picture becomes that square (`crop` or `stretch`, see `inference/images.py`).
        data: the data set it was trained on.
        config: the resolved data, model and train sections.
        config_hash: their hash (`config.loader.config_hash`).
        metrics: on the held-out split, by name.
        split: the split those metrics were measured on.
        version: nanocv's version that wrote the file.
        precision: of the weights: fp32, fp16 or int8.
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

    def to_metadata(self) -> dict[str, str]:
        """The card as the string-to-string metadata that both file formats carry."""
        return {METADATA_KEY: json.dumps(asdict(self), sort_keys=True)}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str], origin: str) -> "ModelCard":
        """Reads a card back; keys a newer nanocv may have added are passed over.

        Args:
            metadata: the file's metadata.
            origin: the file's path, for the message.

        Raises:
            ModelError: there is no card, or it lacks a field or holds one of the wrong type.
        """
        if METADATA_KEY not in metadata:
            raise ModelError(
                f"{origin} carries no nanocv model card, so its classes and input size are unknown",
                "use a file written by `nanocv train` or `nanocv export onnx`",
            )
        try:
            document = json.loads(metadata[METADATA_KEY])
            known = {f.name for f in fields(cls)}
            values = {key: value for key, value in document.items() if key in known}
            card = cls(**{**values, "classes": tuple(values["classes"])})
            well_formed = (
                all(isinstance(getattr(card, name), str) for name in TEXTS)
                and all(isinstance(name, str) for name in card.classes)
                and type(card.input_size) is int
                and 1 <= card.input_size <= 16_384
                and card.resize in RESIZE_RULES
                and isinstance(card.config, dict)
                and isinstance(card.metrics, dict)
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise _damaged(origin) from error
        if not well_formed:
            raise _damaged(origin)
        return card


def _damaged(origin: str) -> ModelError:
    return ModelError(f"{origin}: its model card is damaged", "export it again: nanocv export onnx --model RUN")
