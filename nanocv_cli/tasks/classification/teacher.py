"""A teacher: another classifier, whose answers are learnt beside the labels.

Knowledge distillation as of Hinton et al. (arXiv:1503.02531). The teacher sees the images as the batch was augmented,
in its own normalisation and size. It is a checkpoint, or an exported graph, whatever runs it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nanocv_cli.config.schema import ModelConfig
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.engine import open_engine
from nanocv_cli.engine.reference import GRAPH, find_checkpoint, is_url
from nanocv_cli.errors import RequestError
from nanocv_cli.models.checkpoint import load_network
from nanocv_cli.tasks.base import Companion
from nanocv_cli.untrusted import open_regular, printable

TASK = "classification"
SMALLEST = 1e-12  # probability that a graph's answer counts as, where it underflowed
MOST_NAMED = 3  # classes in a message


@dataclass(frozen=True)
class Teacher:
    """A classifier that answers the batches of a training.

    Attributes:
        file: what it was read from.
        size: side of the square images it reads, pixels.
        order: int64 [classes]: for each class of the training the place of the teacher's.
        respond: maps RGB float32 [N,3,size,size] of 0..1 to its logits float32 [N,classes], up to a constant of
            each image.
    """

    file: Companion
    size: int
    order: Tensor
    respond: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def logits(self, inputs: Tensor, model: ModelConfig) -> Tensor:
        """What it answers, float32 [N,classes] in the training's order of classes.

        Args:
            inputs: [N,3,S,S] as the network that learns reads them.
            model: of that network, by which they are normalised.
        """
        mean, std = (torch.tensor(values, device=inputs.device).view(1, 3, 1, 1) for values in (model.mean, model.std))
        images = (inputs.float() * std + mean).clamp(0.0, 1.0)
        if images.shape[-1] != self.size:
            images = F.interpolate(images, size=(self.size, self.size), mode="bilinear", antialias=True)
        return self.respond(images)[:, self.order]


def open_teacher(reference: str, classes: tuple[str, ...], device: torch.device, root: Path) -> Teacher:
    """Opens what `train.teacher` names.

    Args:
        reference: a name, a run, a `.safetensors` or `.onnx` file, `hf://owner/name`.
        classes: of the training, in label order.
        device: where a checkpoint answers; a graph answers where its runtime does.
        root: the project.

    Raises:
        RequestError: there is nothing of that name, it is no classifier, or knows other classes.
        ModelError: the file is damaged.
    """
    if is_url(reference):
        raise RequestError(
            f"train.teacher is {printable(reference, 80)}; a teacher is a file, so that the run can tell which",
            "name a run, weights or a graph",
        )
    if reference.endswith(GRAPH.suffix) and not reference.startswith("hf://"):
        path = Path(reference)
        card, size, respond = _graph(reference, root)
    else:
        path = find_checkpoint(reference, root)
        card, size, respond = _checkpoint(path, device)
    _expect_classes(reference, card, classes)
    with open_regular(path) as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    order = torch.tensor([card.classes.index(name) for name in classes], device=device)
    return Teacher(Companion(reference, sha256), size, order, respond)


def distillation_loss(outputs: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """How far answers are from the teacher's: the mean Kullback-Leibler divergence of softened answers.

    Scaled by the squared temperature, so that its gradients stay of the size of those of the labels.

    Args:
        outputs: logits float32 [N,classes] of the network that learns.
        taught: of the teacher, likewise.
        temperature: what both are divided by.
    """
    softened, target = outputs / temperature, taught / temperature
    divergence = F.kl_div(softened.log_softmax(1), target.log_softmax(1), reduction="batchmean", log_target=True)
    return divergence * temperature**2


def _checkpoint(path: Path, device: torch.device) -> tuple[ModelCard, int, Callable[[Tensor], Tensor]]:
    network, config, card = load_network(path)
    network = network.to(device)
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (config.mean, config.std))

    def respond(images: Tensor) -> Tensor:
        answers: Tensor = network((images - mean) / std).float()
        return answers

    # Of another task it answers no logits; `_expect_classes` says so before it is asked.
    return card, card.input_size, respond


def _graph(reference: str, root: Path) -> tuple[ModelCard, int, Callable[[Tensor], Tensor]]:
    engine = open_engine(reference, root)

    def respond(images: Tensor) -> Tensor:
        pixels = (images * 255.0).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        probabilities = engine.run(np.ascontiguousarray(pixels))["probabilities"]
        # The logarithm of a softmax is the logits, up to a constant.
        return torch.from_numpy(probabilities).to(images.device).float().clamp(min=SMALLEST).log()

    return engine.card, engine.card.input_size, respond


def _expect_classes(reference: str, card: ModelCard, classes: tuple[str, ...]) -> None:
    """Makes sure that the teacher knows the classes of the training, and no others.

    Raises:
        RequestError: it does not.
    """
    if card.task != TASK:
        told = f"the teacher {printable(reference, 80)} is for {printable(card.task, 40)}, not for {TASK}"
        raise RequestError(told, "name a classifier")
    if set(card.classes) != set(classes):
        strange = [name for name in card.classes if name not in classes]
        missing = [name for name in classes if name not in card.classes]
        differences = [f"{what} {_named(names)}" for what, names in (("lacks", missing), ("knows", strange)) if names]
        raise RequestError(
            f"the teacher {printable(reference, 80)} has other classes than the set: it {' and '.join(differences)}",
            "train a teacher on these classes, or start from its layers: --from REF",
        )


def _named(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(printable(name, 40) for name in names[:MOST_NAMED])}{more}"
