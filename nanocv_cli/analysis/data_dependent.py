"""Operators whose result has a shape or value that only real images decide: what is assumed of them on shapes alone.

Detectors need this for the regions that their heads look at, and after their last convolution. Either every candidate
passes the score thresholds, which bounds the work from above, or none does.
"""

from typing import Any

import torch
from torch import Tensor

KEPT = "non-maximum suppression keeps every box that it is given, up to the most that the detector takes"
# Scores lie in 0..1 and are compared with thresholds from 0.01 on; what is compared with less (a side of a box, a
# threshold of zero) is taken to pass.
SCORE_THRESHOLD = 0.01
COMPARISONS = ("aten.gt", "aten.ge")


class Conditions:
    """Stands in for results that depend on values.

    Args:
        scores_pass: every score passes its threshold; else none does.

    Attributes:
        assumptions: what had to be assumed so far, in words.
    """

    def __init__(self, scores_pass: bool) -> None:
        self.scores_pass = scores_pass
        self.assumptions: set[str] = set()
        self._failing: list[Tensor] = []

    def answer(self, operator: str, args: Any) -> Any:
        """The stand-in for a call on meta tensors; None for an operator whose shapes do not depend on values."""
        first: Any = args[0] if args else None
        if operator == "torchvision.nms":
            self.assumptions.add(KEPT)
            return first.new_empty(first.shape[0], dtype=torch.int64)
        if operator == "aten.nonzero":
            rows = self._count(first)
            return first.new_empty((rows, max(1, first.dim())), dtype=torch.int64)
        if operator == "aten.index" and any(_is_mask(index) for index in args[1]):
            places = [part for index in args[1] for part in (self._places(index) if _is_mask(index) else [index])]
            return torch.ops.aten.index.Tensor(first, places)
        if operator == "aten._unique2":
            self.assumptions.add("values that are told apart (classes of boxes) are all the same")
            none = first.new_empty(0, dtype=torch.int64)
            return first.new_empty(min(1, first.numel())), none, none
        if operator == "aten._local_scalar_dense":
            self.assumptions.add("a size that is read from a tensor is 1")
            return 1
        return None

    def watch(self, operator: str, args: Any, result: Any) -> None:
        """Remembers which masks came of comparing scores with a threshold."""
        if (operator in COMPARISONS and isinstance(args[1], float) and args[1] >= SCORE_THRESHOLD) or (
            isinstance(result, Tensor) and result.dtype == torch.bool and any(map(self._is_of_scores, args))
        ):
            self._failing.append(result)

    def _count(self, mask: Tensor) -> int:
        if self._is_of_scores(mask):
            self.assumptions.add(f"{'every' if self.scores_pass else 'no'} score passes its threshold")
            return mask.numel() if self.scores_pass else 0
        self.assumptions.add("every other condition on values holds")
        return mask.numel()

    def _places(self, mask: Tensor) -> list[Tensor]:
        count = self._count(mask)
        return [mask.new_empty(count, dtype=torch.int64) for _ in range(mask.dim())]

    def _is_of_scores(self, value: Any) -> bool:
        return any(value is mask for mask in self._failing)


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)
