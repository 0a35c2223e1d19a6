"""The best boxes of an image as a fixed number of them, by tensor operations alone: it exports with any batch."""

import torch
from torch import Tensor

CANDIDATES = 256  # best places of an image that are compared with one another
DETECTIONS = 100  # boxes that are answered
OVERLAP = 0.6  # intersection over union above which the lower score gives way
# Greedy suppression settles chains from the top: after n rounds all chains of up to n boxes are right.
ROUNDS = 8


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
    shared = (opposite - corner).clamp(min=0.0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (left, right)]
    return shared, areas[0] + areas[1] - shared
