"""Augmentation of whole batches, on the device that trains.

Geometry works on uint8 pictures; all colour changes and the model's normalisation are one 3x3 matrix and one offset per
picture, applied by a single batched matrix product.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nanocv_cli.config.schema import AugmentConfig

# Pictures of one group share the crop's height and width (not its place), so a batch needs 4 resizes, not one each.
CROP_GROUPS = 4
LUMA = (0.299, 0.587, 0.114)


def random_crops(images: Tensor, size: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Random resized crops (as in Inception training, arXiv:1409.4842) and mirroring.

    Args:
        images: uint8 [N, S, S, 3].
        size: side of the result.
        config: `min_scale`, `aspect` and `flip` are used.
        generator: CPU generator.

    Returns:
        uint8 [N, size, size, 3] on the device of `images`.
    """
    groups = images.chunk(CROP_GROUPS if config.min_scale < 1.0 or config.aspect > 1.0 else 1)
    return torch.cat([_crop_group(group, size, config, generator) for group in groups])


def _crop_group(images: Tensor, size: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    count, side = images.shape[0], images.shape[1]
    height, width = _crop_shape(side, config, generator)
    tops = torch.randint(0, side - height + 1, (count,), generator=generator).tolist()
    lefts = torch.randint(0, side - width + 1, (count,), generator=generator).tolist()
    mirrored = (torch.rand(count, generator=generator) < 0.5).tolist() if config.flip else [False] * count
    crops = images.new_empty((count, height, width, 3))
    for i, (top, left, mirror) in enumerate(zip(tops, lefts, mirrored, strict=True)):
        crop = images[i, top : top + height, left : left + width]
        crops[i] = crop.flip(1) if mirror else crop
    return resize(crops, size)


def _crop_shape(side: int, config: AugmentConfig, generator: torch.Generator) -> tuple[int, int]:
    scale, shape = torch.rand(2, generator=generator).tolist()
    area = config.min_scale + (1.0 - config.min_scale) * scale
    ratio = math.exp((2.0 * shape - 1.0) * math.log(config.aspect))
    height = min(side, max(1, round(side * math.sqrt(area / ratio))))
    width = min(side, max(1, round(side * math.sqrt(area * ratio))))
    return height, width


def resize(images: Tensor, size: int) -> Tensor:
    """Bilinear resize of uint8 [N, H, W, 3] to uint8 [N, size, size, 3], anti-aliased when shrinking by 1.5 or more."""
    height, width = images.shape[1:3]
    if (height, width) == (size, size):
        return images
    # Only the CPU has a uint8 kernel for this.
    source = images.permute(0, 3, 1, 2)
    antialias = max(height, width) >= 1.5 * size
    if images.device.type == "cpu":
        resized = F.interpolate(source, (size, size), mode="bilinear", antialias=antialias)
    else:
        resized = F.interpolate(source.float(), (size, size), mode="bilinear", antialias=antialias).round_().byte()
    return resized.permute(0, 2, 3, 1)


def colour_matrices(count: int, config: AugmentConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random colour changes as affine maps of RGB rows in 0..1: `rgb @ matrix + offset`.

    Returns:
        matrix float32 [count, 3, 3] and offset float32 [count, 1, 3]; the identity where the config changes nothing.
    """

    def factors(strength: float, columns: int = 1) -> Tensor:
        return 1.0 + strength * (2.0 * torch.rand((count, columns), generator=generator) - 1.0)

    brightness, contrast = factors(config.brightness), factors(config.contrast)
    saturation, tint = factors(config.saturation), factors(config.tint, 3)
    grey = torch.tensor(LUMA).view(1, 3, 1).expand(count, 3, 3)
    saturate = saturation.view(-1, 1, 1) * torch.eye(3) + (1.0 - saturation.view(-1, 1, 1)) * grey
    gain = brightness * contrast * tint
    # Contrast turns about mid-grey: x -> (x - 1/2) * contrast + 1/2.
    return saturate * gain.view(-1, 1, 3), (0.5 * (1.0 - contrast)).view(-1, 1, 1).expand(-1, 1, 3)


def normalise(images: Tensor, matrix: Tensor, offset: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Applies colour maps and the model's normalisation in one product.

    Args:
        images: uint8 [N, H, W, 3].
        matrix: float32 [N, 3, 3], see `colour_matrices`.
        offset: float32 [N, 1, 3].
        mean: float32 [3], of RGB values in 0..1.
        std: float32 [3].

    Returns:
        float32 [N, 3, H, W] in channels-last memory order.
    """
    device = images.device
    count, height, width = images.shape[:3]
    weight, bias = matrix / (255.0 * std), ((offset - mean) / std).repeat(1, 1, width).to(device)
    gains = weight.diagonal(dim1=1, dim2=2)
    # Whole rows of the picture at a time: over three channels at a time the processor's vectors would stay empty.
    rows = images.reshape(count, height, width * 3)
    if torch.equal(torch.diag_embed(gains), weight):  # no channel takes from another: one multiply-add
        pixels = torch.addcmul(bias, rows, gains.unsqueeze(1).repeat(1, 1, width).to(device))
    else:
        mixed = torch.bmm(rows.view(count, height * width, 3).float(), weight.to(device))
        pixels = mixed.view(count, height, width * 3).add_(bias)
    return pixels.view(count, height, width, 3).permute(0, 3, 1, 2)


def erase(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Random erasing (arXiv:1708.04896): a rectangle of normalised float [N, 3, H, W] becomes mean colour, in place."""
    height, width = images.shape[2:]
    draws = torch.rand((images.shape[0], 5), generator=generator).tolist()
    for image, (chance, area, shape, top, left) in zip(images, draws, strict=True):
        if chance >= probability:
            continue
        area, ratio = 0.02 + 0.31 * area, math.exp((2.0 * shape - 1.0) * math.log(3.0))
        h = min(height, round(height * math.sqrt(area / ratio)))
        w = min(width, round(width * math.sqrt(area * ratio)))
        y, x = round(top * (height - h)), round(left * (width - w))
        image[:, y : y + h, x : x + w] = 0.0
    return images


def cut_and_mix(images: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
    """CutMix (arXiv:1905.04899): one rectangle of every picture is taken from its neighbour in the batch.

    Args:
        images: float [N, 3, H, W].

    Returns:
        the mixed pictures, and the share of each that is still its own (its neighbour is `roll(1)` of the batch).
    """
    height, width = images.shape[2:]
    own, y, x = torch.rand(3, generator=generator).tolist()
    h, w = round(height * math.sqrt(1.0 - own)), round(width * math.sqrt(1.0 - own))
    top, left = round(y * (height - h)), round(x * (width - w))
    mixed = images.clone()
    mixed[:, :, top : top + h, left : left + w] = images.roll(1, 0)[:, :, top : top + h, left : left + w]
    return mixed, 1.0 - h * w / (height * width)
