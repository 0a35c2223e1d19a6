"""The flowers set: deterministic, balanced, labelled by what is visible."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nanocv_cli.config.schema import FlowersConfig
from nanocv_cli.data.flowers import SPECIES, draw_image, draw_set, write_archive

SMALL = FlowersConfig(seed=3, size=64, train=8, val=4, test=4)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flowers")
    draw_set(SMALL, folder, workers=2)
    return folder


def test_the_same_arguments_draw_the_same_image() -> None:
    first, second = draw_image(0, "train", 5, 96), draw_image(0, "train", 5, 96)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.mask, second.mask)
    assert first.flowers == second.flowers
    for other in (draw_image(1, "train", 5, 96), draw_image(0, "val", 5, 96), draw_image(0, "train", 9, 96)):
        assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize(
    ("index", "species", "area", "mean"),
    [
        (1, (2, 1), 3943, (91.35, 109.64, 76.15)),
        (2, (2,), 2986, (102.1, 149.5, 99.89)),
        (3, (3,), 3108, (81.74, 90.79, 65.88)),
    ],
)
def test_the_set_stays_what_its_weights_were_trained_on(
    index: int, species: tuple[int, ...], area: int, mean: tuple[float, ...]
) -> None:
    """Not to the bit, which processors round differently: dvc.lock records the archive of the one that drew it."""
    image = draw_image(0, "test", index, 128)
    assert tuple(flower.species for flower in image.flowers) == species
    assert sum(flower.area for flower in image.flowers) == pytest.approx(area, abs=5)
    assert image.image.mean((0, 1)) == pytest.approx(mean, abs=0.5)


@pytest.mark.parametrize("index", range(16))
def test_labels_say_what_is_visible(index: int) -> None:
    image = draw_image(0, "train", index, 128)
    assert image.image.shape == (128, 128, 3)
    assert image.label == index % 4
    assert image.flowers
    areas = {kind: sum(f.area for f in image.flowers if f.species == kind) for kind in range(4)}
    assert max(areas, key=areas.__getitem__) == image.label
    for kind in range(4):
        rows, columns = np.nonzero(image.mask == kind + 1)
        boxes = [f.box for f in image.flowers if f.species == kind]
        assert (len(rows) > 0) == bool(boxes)
        assert len(rows) == areas[kind]
        if boxes:  # together, the boxes of a species enclose its mask tightly
            left, top, right, bottom = zip(*boxes, strict=True)
            assert (min(left), min(top), max(right), max(bottom)) == (
                columns.min(),
                rows.min(),
                columns.max() + 1,
                rows.max() + 1,
            )


def test_the_flower_stands_out_from_its_mask_ground() -> None:
    """The mask lies on the flower, not beside it: inside and outside differ in colour in nearly every image."""
    differs = 0
    for index in range(12):
        image = draw_image(0, "test", index, 128)
        inside, outside = image.image[image.mask > 0].mean(0), image.image[image.mask == 0].mean(0)
        differs += float(np.abs(inside - outside).max()) > 15
    assert differs >= 10


def test_the_set_is_balanced_and_complete(drawn: Path) -> None:
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        for species in SPECIES:
            images = sorted((drawn / split / species).glob("*.jpg"))
            assert len(images) == count // 4
            for path in images:
                mask = Image.open(drawn / "masks" / split / species / f"{path.stem}.png")
                assert mask.mode == "P"
                assert mask.size == Image.open(path).size == (64, 64)
                assert set(np.unique(np.asarray(mask))) <= set(range(5))


def test_annotations_are_coco_and_match_the_masks(drawn: Path) -> None:
    document = json.loads((drawn / "annotations" / "train.json").read_text())
    assert [category["name"] for category in document["categories"]] == list(SPECIES)
    assert len(document["images"]) == 8
    ids = {image["id"]: image["file_name"] for image in document["images"]}
    assert len({annotation["id"] for annotation in document["annotations"]}) == len(document["annotations"])
    for annotation in document["annotations"]:
        mask = np.asarray(Image.open(drawn / "masks" / "train" / ids[annotation["image_id"]].replace(".jpg", ".png")))
        x, y, width, height = annotation["bbox"]
        inside = mask[y : y + height, x : x + width] == annotation["category_id"]
        assert inside.sum() >= annotation["area"] > 0


def test_workers_do_not_change_the_set_and_the_archive_is_reproducible(drawn: Path, tmp_path: Path) -> None:
    draw_set(SMALL, tmp_path / "again", workers=1)
    for number, folder in enumerate((drawn, tmp_path / "again")):
        write_archive(folder, tmp_path / f"{number}.tar")
    assert (tmp_path / "0.tar").read_bytes() == (tmp_path / "1.tar").read_bytes()


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    draw_set(
        FlowersConfig(size=64, train=4, val=4, test=4), tmp_path, lambda done, total: calls.append((done, total)), 1
    )
    assert calls == [(done, 12) for done in range(1, 13)]
