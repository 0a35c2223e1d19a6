"""Augmentation of whole batches, on the device that trains.

Geometry works on uint8 images; all colour changes and the model's normalisation are one 3x3 matrix and one offset per
image, applied by a single batched matrix product.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nanocv_cli.config.schema import ColourAugment, CropAugment
from nanocv_cli.data.batches import Share

# Images of one group share the crop's height and width (not its place), so a batch needs 4 resizes, not one each.
CROP_GROUPS = 4
# Images whose float values stay in a processor's cache while they are made.
CPU_BLOCK = 2
LUMA = (0.299, 0.587, 0.114)


def sent(drawn: Tensor, device: torch.device) -> Tensor:
    """What was drawn on the CPU, on the device that trains: a GPU is not waited for."""
    return drawn.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else drawn.to(device)


def random_crops(
    images: Tensor, size: int, config: CropAugment, generator: torch.Generator, share: Share | None = None
) -> Tensor:
    """Random resized crops (as in Inception training, arXiv:1409.4842) and mirroring.

    Args:
        images: uint8 [N, S, S, 3].
        size: side of the result.
        config: `rescale`, `min_area`, `aspect` and `flip` are used.
        generator: CPU generator.
        share: which images of the batch these are; None: all.

    Returns:
        uint8 [N, size, size, 3] on the device of `images`.
    """
    share = share or Share(0, len(images), len(images))
    side = images.shape[1]
    drawn = _drawn_crops(share.total, side, size, config, generator)
    own = torch.cat([share.of(drawn), torch.arange(len(images)).unsqueeze(1)], 1)
    _, alike = torch.unique_consecutive(own[:, :2], dim=0, return_counts=True)
    groups = torch.split(own, alike.tolist())
    # All that was drawn goes to the device at once.
    parts = [part for group in groups for part in _cuts(group, side)]
    sent_parts = iter(torch.split(sent(torch.cat(parts), images.device), [len(part) for part in parts]))
    crops = images.new_empty((len(images), size, size, 3))
    for group, out in zip(groups, torch.split(crops, alike.tolist()), strict=True):
        starts, mirrored, (height, width) = next(sent_parts), next(sent_parts), group[0, :2].tolist()
        # Every run of a window's width in the images: the rows of the windows are some of these.
        runs = images.as_strided((images.numel() // 3 - width + 1, 3 * width), (3, 1))
        cut = out if (height, width) == (size, size) else images.new_empty((len(out), height, width, 3))
        torch.index_select(runs, 0, starts, out=cut.view(-1, 3 * width))
        cut.index_copy_(0, mirrored, cut.index_select(0, mirrored).flip(2))
        if cut is not out:
            out.copy_(resize(cut, size))
    return crops


def _drawn_crops(count: int, side: int, size: int, config: CropAugment, generator: torch.Generator) -> Tensor:
    """Where each image of a batch is cut: int64 [count,5] of height, width, top, left (pixels), and 1 if mirrored."""
    varied = config.min_area < 1.0 or config.aspect > 1.0 or config.rescale < 1.0
    largest = -(-count // (CROP_GROUPS if varied else 1))
    crops = torch.zeros((count, 5), dtype=torch.int64)
    for group in crops.split(largest):  # type: ignore[no-untyped-call]
        members = len(group)
        height, width = _crop_shape(side, size, config, generator)
        group[:, 0], group[:, 1] = height, width
        group[:, 2] = torch.randint(0, side - height + 1, (members,), generator=generator)
        group[:, 3] = torch.randint(0, side - width + 1, (members,), generator=generator)
        if config.flip:
            group[:, 4] = torch.rand(members, generator=generator) < 0.5
    return crops


def _cuts(group: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Of images that are cut alike in height and width: where, and which are mirrored.

    Args:
        group: int64 [n,6], rows of `_drawn_crops`, each with the place of its image.
        side: of the images, pixels.

    Returns:
        int64 [n * height], the pixel of all images at which each row of each crop begins, and int64 [m], places in the
        group.
    """
    _, _, tops, lefts, mirrored, places = group.unbind(1)
    firsts = (places * side + tops) * side + lefts
    starts = firsts.unsqueeze(1) + side * torch.arange(int(group[0, 0]))
    return starts.view(-1), mirrored.nonzero().view(-1)


def _crop_shape(side: int, size: int, config: CropAugment, generator: torch.Generator) -> tuple[int, int]:
    scale, shape, chance = torch.rand(3, generator=generator).tolist()
    if chance >= config.rescale:
        return min(side, size), min(side, size)
    area = config.min_area + (1.0 - config.min_area) * scale
    ratio = math.exp((2.0 * shape - 1.0) * math.log(config.aspect))
    height = min(side, max(1, round(side * math.sqrt(area / ratio))))
    width = min(side, max(1, round(side * math.sqrt(area * ratio))))
    return height, width


def resize(images: Tensor, size: int) -> Tensor:
    """Resizes uint8 [N, H, W, 3] to uint8 [N, size, size, 3]; see `resize_to`."""
    return resize_to(images, size, size)


def resize_to(images: Tensor, height: int, width: int) -> Tensor:
    """Bilinear resize of uint8 [N, H, W, 3] to uint8 [N, height, width, 3], anti-aliased if shrunk by 1.5 or more."""
    before = images.shape[1:3]
    if tuple(before) == (height, width):
        return images
    # Only the CPU has a uint8 kernel for this.
    source = images.permute(0, 3, 1, 2)
    antialias = before[0] >= 1.5 * height or before[1] >= 1.5 * width
    if images.device.type == "cpu":
        resized = F.interpolate(source, (height, width), mode="bilinear", antialias=antialias)
    else:
        resized = F.interpolate(source.float(), (height, width), mode="bilinear", antialias=antialias).round_().byte()
    return resized.permute(0, 2, 3, 1)


def colour_matrices(count: int, config: ColourAugment, generator: torch.Generator) -> tuple[Tensor, Tensor]:
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


def normalise(
    images: Tensor, matrix: Tensor, offset: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Applies colour maps and the model's normalisation in one product.

    Args:
        images: uint8 [N, H, W, 3].
        matrix: float32 [N, 3, 3], see `colour_matrices`.
        offset: float32 [N, 1, 3].
        mean: float32 [3], of RGB values in 0..1.
        std: float32 [3].
        dtype: of the result; it is computed in float32 and rounded once.

    Returns:
        [N, 3, H, W] in channels-last memory order.
    """
    device = images.device
    count, height, width = images.shape[:3]
    pixels = images.new_empty((count, height, width * 3), dtype=dtype)
    weight = matrix / (255.0 * std)
    gains = weight.diagonal(dim1=1, dim2=2)
    # Whole rows of the image at a time: over three channels at a time the processor's vectors would stay empty.
    rows = images.reshape(count, height, width * 3)
    separate = torch.equal(torch.diag_embed(gains), weight)  # no channel takes from another: one multiply-add
    maps = [gains.unsqueeze(1) if separate else weight, (offset - mean) / std]
    numbers = sent(torch.cat(maps, 1), device)
    bias = numbers[:, -1:].repeat(1, 1, width)
    factors = numbers[:, :1].repeat(1, 1, width) if separate else numbers[:, :3]
    block = CPU_BLOCK if device.type == "cpu" else count
    for start in range(0, count, block):
        part = slice(start, start + block)
        if separate:
            pixels[part] = torch.addcmul(bias[part], rows[part], factors[part])
        else:
            mixed = torch.bmm(rows[part].view(-1, height * width, 3).float(), factors[part])
            pixels[part] = mixed.view(-1, height, width * 3).add_(bias[part])
    return pixels.view(count, height, width, 3).permute(0, 3, 1, 2)


def erase(images: Tensor, probability: float, generator: torch.Generator, share: Share | None = None) -> Tensor:
    """Random erasing (arXiv:1708.04896): a rectangle of normalised float [N, 3, H, W] becomes mean colour, in place.

    Args:
        images: of the batch, or of a share of it.
        probability: of an image to lose a rectangle.
        generator: CPU generator.
        share: which images of the batch these are; None: all.
    """
    height, width = images.shape[2:]
    share = share or Share(0, len(images), len(images))
    draws = share.of(torch.rand((share.total, 5), generator=generator)).tolist()
    places = []
    for chance, area, shape, top, left in draws:
        area, ratio = 0.02 + 0.31 * area, math.exp((2.0 * shape - 1.0) * math.log(3.0))
        h = min(height, round(height * math.sqrt(area / ratio))) if chance < probability else 0
        w = min(width, round(width * math.sqrt(area * ratio)))
        y, x = round(top * (height - h)), round(left * (width - w))
        places.append((y, h, x, w))
    tops, heights, lefts, widths = torch.tensor(places).unbind(1)
    image, down = members(heights)
    row, across = members(widths[image])
    image = image[row]
    pixels = torch.stack([image, tops[image] + down[row], lefts[image] + across])
    numbers, y, x = sent(pixels, images.device)
    images.permute(0, 2, 3, 1).index_put_((numbers, y, x), images.new_zeros(()))
    return images


def members(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For sets of so many members each, one after the other: the set of each member, and its place in it."""
    owners = torch.repeat_interleave(counts)
    return owners, torch.arange(len(owners)) - (counts.cumsum(0) - counts)[owners]


def cut_and_mix(images: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
    """CutMix (arXiv:1905.04899): one rectangle of every image is taken from its neighbour in the batch.

    Args:
        images: float [N, 3, H, W].

    Returns:
        the mixed images, and the share of each that is still its own (its neighbour is `roll(1)` of the batch).
    """
    height, width = images.shape[2:]
    own, y, x = torch.rand(3, generator=generator).tolist()
    h, w = round(height * math.sqrt(1.0 - own)), round(width * math.sqrt(1.0 - own))
    top, left = round(y * (height - h)), round(x * (width - w))
    mixed = images.clone()
    mixed[:, :, top : top + h, left : left + w] = images.roll(1, 0)[:, :, top : top + h, left : left + w]
    return mixed, 1.0 - h * w / (height * width)
