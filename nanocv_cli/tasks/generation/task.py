"""Generation: images of a class, from noise; flow matching with classifier-free guidance."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nanocv_cli.config.project import project_root
from nanocv_cli.config.schema import ModelConfig, TrainConfig
from nanocv_cli.data import augment
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.graph import Graph
from nanocv_cli.engine.reference import find_graph
from nanocv_cli.errors import NanocvError
from nanocv_cli.images.resize import resize_to_square
from nanocv_cli.tasks.base import StepSettings, Task, recoloured
from nanocv_cli.tasks.evaluator import EvalContext
from nanocv_cli.tasks.generation.config import Model, Recipe
from nanocv_cli.tasks.generation.metrics import Classify, GenerationEvaluator
from nanocv_cli.tasks.generation.sampler import SamplerModule
from nanocv_cli.tasks.generation.sampling import LABEL, NOISE, image_noise

if TYPE_CHECKING:
    import onnx

# Of the noise that a split's images are evaluated by.
EVALUATION_SEED = 0
CLASSIFIED_AT_ONCE = 64


@dataclass(frozen=True)
class FlowTargets:
    """Where on their straight paths from noise to image the examples of a batch are.

    Attributes:
        time: 0 (noise) to 1 (image), float32 [N].
        label: int64 [N], -1 for none.
        velocity: image minus noise, float32 [N,3,S,S].
    """

    time: Tensor
    label: Tensor
    velocity: Tensor


class Generation(Task):
    """See `tasks.base.Task` for what each method promises."""

    name = "generation"
    # On a few hundred images every figure saturates long before samples stop getting better to the eye, and the
    # Frechet distance even takes what noise is left in early samples for texture.
    train_metric_name = "explained"
    output_names = ("image",)
    wants_train_images = True
    online_metrics = ("fid",)
    tolerance = 2.0  # levels of 0..255, which the images are in

    def augment(self, images: Tensor, targets: Tensor, settings: StepSettings) -> tuple[Tensor, FlowTargets]:
        """Points on straight paths (arXiv:2209.03003) at times whose logit is normal (arXiv:2403.03206)."""
        recipe, generator, share = cast(Recipe, settings.train), settings.generator, settings.share
        crops = augment.random_crops(images, settings.size, recipe.augment, generator, share)
        clean = recoloured(crops, recipe.augment, replace(settings, dtype=torch.float32))
        device, count = clean.device, share.total
        noise = augment.sent(share.of(torch.randn((count, *clean.shape[1:]), generator=generator)), device)
        time = augment.sent(share.of(torch.randn(count, generator=generator)).sigmoid(), device)
        dropped = augment.sent(share.of(torch.rand(count, generator=generator)) < recipe.label_dropout, device)
        way = time.view(-1, 1, 1, 1)
        inputs = (way * clean + (1.0 - way) * noise).to(settings.dtype)
        label = targets.masked_fill(dropped, -1)
        return inputs, FlowTargets(time, label, clean - noise)

    def training_inputs(self, inputs: Tensor, targets: FlowTargets) -> tuple[Tensor, Tensor, Tensor]:
        return inputs, targets.time, targets.label

    def loss(self, outputs: Tensor, targets: FlowTargets, train: TrainConfig) -> Tensor:
        """Mean squared error of the velocity (arXiv:2210.02747)."""
        return F.mse_loss(outputs.float(), targets.velocity)

    def train_metric(self, outputs: Tensor, targets: FlowTargets) -> Tensor:
        """Share of the velocities' variance that is explained, for each image of the batch."""
        wanted = targets.velocity
        left = (outputs.detach().float() - wanted).square().mean() / wanted.square().mean()
        return (1.0 - left) * len(wanted)

    def graph_inputs(self, images: NDArray[np.uint8], targets: NDArray[Any], first: int) -> dict[str, NDArray[Any]]:
        """Noise for as many images, and their classes."""
        noise = image_noise(EVALUATION_SEED, first, len(images), images.shape[1])
        return {NOISE: noise, LABEL: np.asarray(targets, np.int64)}

    def export_model(self, network: nn.Module, model: ModelConfig) -> nn.Module:
        return SamplerModule(network, model)

    def to_onnx(
        self, network: nn.Module, model: ModelConfig, card: ModelCard, any_size: bool = False
    ) -> "onnx.ModelProto":
        """With the way from noise to images as a loop in the graph, which holds the network once."""
        from nanocv_cli.tasks.generation.sampler_graph import build_sampler_graph

        return build_sampler_graph(SamplerModule(network, model).eval(), self.output_names, card)

    def evaluator(self, classes: tuple[str, ...], model: ModelConfig, context: EvalContext) -> GenerationEvaluator:
        return GenerationEvaluator(classes, _classifier(classes, model), context.train_images, context.online)


def _classifier(classes: tuple[str, ...], model: ModelConfig) -> Classify | None:
    """The config's classifier; None where it is not here or does not know the classes."""
    ref = cast(Model, model).classifier
    if not ref:
        return None
    try:
        graph = Graph(find_graph(ref, project_root()))
        graph.expect_images()
    except NanocvError:
        return None
    if not set(classes) <= set(graph.card.classes):
        return None
    numbers = {graph.card.classes.index(name): label for label, name in enumerate(classes)}

    def classify(images: NDArray[np.uint8]) -> NDArray[np.int64]:
        found = []
        for start in range(0, len(images), CLASSIFIED_AT_ONCE):
            squares = [resize_to_square(image, graph.card.input_size, "stretch")
                       for image in images[start : start + CLASSIFIED_AT_ONCE]]  # fmt: skip
            answers = graph.run(np.stack(squares))["probabilities"].argmax(1)
            found += [numbers.get(int(answer), -1) for answer in answers]
        return np.array(found, np.int64)

    return classify
