"""Suppression by iteration against the greedy rule, by torchvision's own."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import batched_nms

from nanocv_cli.models.nms import best_detections, overlaps


def random_boxes(seed: int, images: int, places: int, spread: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand((images, places, 2), generator=generator) * spread
    return torch.cat([corner, corner + 0.1 + 0.1 * torch.rand((images, places, 2), generator=generator)], -1)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), places=st.integers(1, 60), classes=st.integers(1, 3), spread=st.floats(0.1, 1.0))
def test_the_answer_is_that_of_greedy_suppression(seed: int, places: int, classes: int, spread: float) -> None:
    boxes = random_boxes(seed, 2, places, spread)
    scores = torch.rand((2, places, classes), generator=torch.Generator().manual_seed(seed + 1))
    found, sure, labels = best_detections(boxes, scores, 256, 100, 0.5)
    for image in range(2):
        best, label = scores[image].max(-1)
        kept = batched_nms(boxes[image], best, label, 0.5)
        count = int((sure[image] > 0).sum())
        assert count == len(kept)
        torch.testing.assert_close(sure[image, :count], best[kept])
        torch.testing.assert_close(found[image, :count], boxes[image, kept])
        assert torch.equal(labels[image, :count], label[kept])


def test_what_does_not_overlap_stays_and_other_classes_do_not_clash() -> None:
    box = torch.tensor([[0.1, 0.1, 0.5, 0.5]])
    boxes = torch.cat([box, box, box + 0.5]).unsqueeze(0)
    scores = torch.tensor([[[0.9, 0.1], [0.1, 0.8], [0.7, 0.1]]])
    _, sure, labels = best_detections(boxes, scores, 10, 10)
    torch.testing.assert_close(sure, torch.tensor([[0.9, 0.8, 0.7]]))
    assert labels.tolist() == [[0, 1, 0]]


def test_overlaps_by_hand() -> None:
    left = torch.tensor([[[0.0, 0.0, 2.0, 2.0]]])
    right = torch.tensor([[[1.0, 1.0, 3.0, 3.0], [5.0, 5.0, 6.0, 6.0], [0.0, 0.0, 2.0, 2.0]]])
    torch.testing.assert_close(overlaps(left, right), torch.tensor([[[1 / 7, 0.0, 1.0]]]))
