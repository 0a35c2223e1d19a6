"""Suppression by iteration against the greedy rule, by torchvision's own; and which place learns which object."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import batched_nms, generalized_box_iou

from nanocv_cli.models.dense_detection import assign, best_detections, generalised_overlap, overlaps
from nanocv_cli.models.nanospot import anchor_points


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


def test_each_object_gets_places_inside_it_and_a_tiny_one_too() -> None:
    centres, strides = anchor_points(64)
    truth = torch.tensor([[[4.0, 4.0, 40.0, 40.0], [50.0, 50.0, 52.0, 51.0]]])
    boxes = torch.cat([centres - 8, centres + 8], -1).unsqueeze(0)
    scores = torch.full((1, len(centres), 2), 0.5)
    found = assign(scores, boxes, truth, torch.tensor([[0, 1]]), torch.tensor([[True, True]]), centres, strides)
    for number in (0, 1):
        own = centres[found.learns[0] & (found.objects[0] == number)]
        assert len(own) >= 1
        low, high = truth[0, number, :2] - 16, truth[0, number, 2:] + 16
        assert ((own >= low) & (own <= high)).all()
    assert (found.alignment[~found.learns] == 0).all()
    assert ((found.alignment >= 0) & (found.alignment <= 1)).all()


def test_generalised_overlap_is_torchvisions() -> None:
    corner = torch.rand(50, 4)
    left = torch.cat([corner[:, :2], corner[:, :2] + corner[:, 2:] + 0.1], 1)
    right = left.roll(1, 0)
    expected = generalized_box_iou(left, right).diagonal()
    torch.testing.assert_close(generalised_overlap(left, right)[0], expected, atol=1e-5, rtol=1e-4)
