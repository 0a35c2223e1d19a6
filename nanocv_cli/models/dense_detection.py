"""Detectors that answer at every place of their maps: which places learn which object and what that costs, and which
boxes are answered.

Learning is task-aligned assignment and its losses (C. Feng et al., TOOD, arXiv:2108.07755): a place is fit for an
object as its score times a power of its overlap; the fittest learn that object, with the alignment as the score to
reach. Sides are learnt by generalised IoU (arXiv:1902.09630). Answers are the best boxes of an image, a fixed number
of them, by tensor operations alone: they export with any batch.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import register_pytree_node

CANDIDATES = 256  # best places of an image that are compared with one another
DETECTIONS = 100  # boxes that are answered
OVERLAP = 0.6  # intersection over union above which the lower score gives way
# Greedy suppression settles chains from the top: after n rounds all chains of up to n boxes are right.
ROUNDS = 8

FITTEST = 10
SCORE_POWER, OVERLAP_POWER = 0.5, 6.0
BOX_WEIGHT = 2.5


def best_detections(
    boxes: Tensor, scores: Tensor, candidates: int, detections: int, overlap: float = OVERLAP
) -> tuple[Tensor, Tensor, Tensor]:
    """Non-maximum suppression within classes, each place standing for its best class only.

    The greedy rule (a box stays unless a better one that stays overlaps it) is solved by iteration: `keep = not
    any(better and keeps and overlaps)` reaches the greedy answer after as many rounds as the longest chain of overlaps.

    Args:
        boxes: [N,A,4] xyxy, any unit.
        scores: [N,A,classes], 0..1.
        candidates: best places that are looked at.
        detections: boxes to return, K.
        overlap: intersection over union from which on the lower one goes.

    Returns:
        boxes [N,K,4], scores [N,K] from high to low with 0 for no object, labels int64 [N,K].
    """
    best, labels = scores.max(-1)
    kept_scores, order = best.topk(min(candidates, best.shape[1]), 1)
    boxes = boxes.gather(1, order.unsqueeze(-1).expand(-1, -1, 4))
    labels = labels.gather(1, order)
    same_class = labels.unsqueeze(2) == labels.unsqueeze(1)
    count = order.shape[1]
    rank = torch.arange(count, device=boxes.device)
    is_better = rank.unsqueeze(0) < rank.unsqueeze(1)  # [i, j]: j comes before i
    clash = ((overlaps(boxes, boxes) > overlap) & same_class & is_better).to(boxes.dtype)
    keep = torch.ones_like(kept_scores)
    for _ in range(ROUNDS):
        keep = (torch.bmm(clash, keep.unsqueeze(-1)).squeeze(-1) < 0.5).to(boxes.dtype)
    final, chosen = (kept_scores * keep).topk(min(detections, count), 1)
    return boxes.gather(1, chosen.unsqueeze(-1).expand(-1, -1, 4)), final, labels.gather(1, chosen)


def overlaps(left: Tensor, right: Tensor) -> Tensor:
    """Intersection over union [N,A,B] of every pair of boxes [N,A,4] and [N,B,4]."""
    shared, union = intersection_and_union(left[:, :, None], right[:, None])
    return shared / union.clamp(min=1e-9)


def intersection_and_union(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The areas [...] that boxes share and cover together.

    Args:
        left: [...,4] xyxy, no side below 0.
        right: likewise; leading axes are broadcast.
    """
    corner, opposite = torch.maximum(left[..., :2], right[..., :2]), torch.minimum(left[..., 2:], right[..., 2:])
    shared = _area((opposite - corner).clamp(min=0.0))
    return shared, _area(left[..., 2:] - left[..., :2]) + _area(right[..., 2:] - right[..., :2]) - shared


def _area(sides: Tensor) -> Tensor:
    """Width times height [...] of sides [...,2]; the gradient of `prod` would wait for the device."""
    return sides[..., 0] * sides[..., 1]


@dataclass(frozen=True)
class Losses:
    """What one batch costs.

    Attributes:
        total: what is to be made small.
        overlap: mean IoU of the places that learn an object, 0..1; no loss, but what the user watches (0 where the
            network does not tell).
    """

    total: Tensor
    overlap: Tensor


# So that what replays a network finds the tensors in its answer.
register_pytree_node(Losses, lambda losses: ([losses.total, losses.overlap], None), lambda parts, _: Losses(*parts))


@dataclass(frozen=True)
class Assignment:
    """Who learns what.

    Attributes:
        objects: int64 [N,A], the object of each place (its row in the targets).
        learns: bool [N,A], whether the place learns that object.
        alignment: float [N,A], the score to reach; 0 for places that learn none.
    """

    objects: Tensor
    learns: Tensor
    alignment: Tensor


def detection_losses(
    logits: Tensor, boxes: Tensor, targets: Tensor, centres: Tensor, strides: Tensor, size: float
) -> Losses:
    """Losses of a batch: binary cross-entropy of all places, and 1 - generalised IoU of those that learn an object,
    both over the sum of the scores to reach.

    Args:
        logits: float32 [N,A,classes].
        boxes: float32 [N,A,4] xyxy, pixels.
        targets: float32 [N,M,6] as in `data/labels/boxes.py`.
        centres: float32 [A,2], pixels.
        strides: float32 [A,1], pixels.
        size: side of the image, pixels.
    """
    truth, labels = targets[..., :4] * size, targets[..., 4].long()
    is_object, is_ignored = (labels >= 0) & (targets[..., 5] == 0), (labels >= 0) & (targets[..., 5] == 1)
    with torch.no_grad():
        found = assign(logits.sigmoid(), boxes, truth, labels.clamp(min=0), is_object, centres, strides)
        # Places inside a crowd that learn nothing else are left alone.
        counted = ~(_inside(centres, strides, truth) & is_ignored.unsqueeze(-1)).any(1) | found.learns
        wanted = torch.zeros_like(logits)
        place_labels = labels.clamp(min=0).gather(1, found.objects)
        wanted.scatter_(2, place_labels.unsqueeze(-1), found.alignment.unsqueeze(-1))
        total = found.alignment.sum().clamp(min=1.0)
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(-1)
    # Places that learn nothing count with a weight of nothing: to pick the others out, a GPU would be waited for.
    learns = found.learns
    general, plain = generalised_overlap(boxes, truth.gather(1, found.objects.unsqueeze(-1).expand(-1, -1, 4)))
    of_classes = (entropy * counted).sum() / total
    of_boxes = ((1.0 - general) * found.alignment).sum() / total
    overlap = (plain.detach() * learns).sum() / learns.sum().clamp(min=1)
    return Losses(of_classes + BOX_WEIGHT * of_boxes, overlap)


def assign(
    scores: Tensor,
    boxes: Tensor,
    truth: Tensor,
    labels: Tensor,
    is_object: Tensor,
    centres: Tensor,
    strides: Tensor,
) -> Assignment:
    """Gives each object the fittest places in it; a place that several want goes to its best overlap."""
    count = truth.shape[1]
    inside = _inside(centres, strides, truth) & is_object.unsqueeze(-1)
    overlap = overlaps(truth, boxes).clamp(min=1e-6) * inside
    own_scores = scores.transpose(1, 2).gather(1, labels.unsqueeze(-1).expand(-1, -1, scores.shape[1]))
    alignment = own_scores.pow(SCORE_POWER) * overlap.pow(OVERLAP_POWER)
    best, chosen = alignment.topk(min(FITTEST, alignment.shape[-1]), -1)
    is_chosen = torch.zeros_like(inside).scatter_(-1, chosen, best > 0) & inside
    contested = torch.where(is_chosen, overlap, torch.full_like(overlap, -1.0))
    value, objects = contested.max(1)
    learns = value > 0
    rows = torch.arange(count, device=objects.device).view(1, -1, 1)
    is_chosen &= (objects.unsqueeze(1) == rows) & learns.unsqueeze(1)
    # The fittest place of an object is to reach the overlap that its best place has; the others in proportion.
    alignment = alignment * is_chosen
    scale = (overlap * is_chosen).amax(-1, keepdim=True) / alignment.amax(-1, keepdim=True).clamp(min=1e-12)
    reached = (alignment * scale).sum(1)
    return Assignment(objects, learns, reached * learns)


def generalised_overlap(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Generalised IoU in -1..1 and IoU in 0..1 of pairs of boxes [...,4]."""
    shared, both = intersection_and_union(left, right)
    hull = _area(torch.maximum(left[..., 2:], right[..., 2:]) - torch.minimum(left[..., :2], right[..., :2]))
    plain = shared / both.clamp(min=1e-6)
    return plain - (hull - both) / hull.clamp(min=1e-6), plain


def _inside(centres: Tensor, strides: Tensor, truth: Tensor) -> Tensor:
    """Which centres lie in which boxes, bool [N,M,A]; a box smaller than a stride is taken to be as large."""
    middle, half = (truth[..., :2] + truth[..., 2:]) / 2, (truth[..., 2:] - truth[..., :2]) / 2
    reach = torch.maximum(half.unsqueeze(2), 0.5 * strides)
    return ((centres - middle.unsqueeze(2)).abs() <= reach).all(-1)
