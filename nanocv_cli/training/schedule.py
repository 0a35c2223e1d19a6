"""Learning rate and image size as functions of the step: nothing to save, nothing to restore."""

import math

from nanocv_cli.config.schema import TrainConfig


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """The rate of step `step` (from 0) of `total`.

    `one-cycle` (arXiv:1708.07120) rises linearly over the `warmup` share of all steps and falls along half a cosine;
    `cosine` (arXiv:1608.03983) only falls. Both end at zero.
    """
    rising = config.warmup * total if config.schedule == "one-cycle" else 0.0
    if step < rising:
        return config.learning_rate * (step + 1) / (rising + 1)
    share = (step - rising) / max(1.0, total - rising)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * share))


def image_size(config: TrainConfig, input_size: int, epoch: int) -> int:
    """Side of the training images in `epoch`: grows linearly from `start_size` to full at two thirds of training.

    Progressive resizing (arXiv:2104.00298): early epochs cost less. Sizes are multiples of 16 pixels.
    """
    if config.start_size == 1.0:
        return input_size
    grown = min(1.0, epoch / max(1.0, config.epochs * 2 / 3))
    share = config.start_size + (1.0 - config.start_size) * grown
    return min(input_size, max(16, round(share * input_size / 16) * 16))
