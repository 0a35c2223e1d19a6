"""Masks: read in every form, resized without inventing labels, checked."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nanocv_cli.config.schema import DataConfig, MaskConfig
from nanocv_cli.data.check import check_dataset
from nanocv_cli.data.formats.table import guess_format, read_as
from nanocv_cli.data.labels.masks import IGNORED, Mask, cached_masks, square_mask
from nanocv_cli.errors import DataError
from tests.conftest import SHARED_DATA, Command
from tests.masked import write_masked_set

STREET = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")


def config(path: Path, **more: Any) -> DataConfig:
    return DataConfig(name="set", path=str(path), **more)


def one(folder: Path, mask: np.ndarray, mode: str | None = None, size: tuple[int, int] | None = None) -> Path:
    """A set of two images with the same mask."""
    for split in ("train", "val"):
        (folder / split / "images").mkdir(parents=True)
        (folder / split / "masks").mkdir(parents=True)
        Image.new("RGB", size or (mask.shape[1], mask.shape[0])).save(folder / split / "images" / "1.jpg")
        image = Image.fromarray(mask)
        (image.convert(mode) if mode else image).save(folder / split / "masks" / "1.png")
    return folder


def read(folder: Path, **more: Any) -> np.ndarray:
    return read_as(Mask, config(folder, **more), folder).splits["train"][0].label.read()


def test_index_and_palette_images_hold_class_numbers(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)
    assert read(one(tmp_path / "index", values)).tolist() == values.tolist()
    palette = Image.frombytes("P", (3, 2), values.tobytes())
    palette.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0] + 253 * [7, 7, 7])
    folder = one(tmp_path / "palette", values)
    palette.save(folder / "train" / "masks" / "1.png")
    assert read(folder).tolist() == values.tolist()
    found = read_as(Mask, config(folder), folder)
    assert found.classes == ("class 0", "class 1", "class 2")


def test_one_value_more_than_classes_is_the_background(tmp_path: Path) -> None:
    folder = one(tmp_path, np.array([[0, 1, 2]], np.uint8))
    assert read_as(Mask, config(folder, classes=("cat", "dog")), folder).classes == ("background", "cat", "dog")
    assert read_as(Mask, config(folder, classes=("a", "b", "c")), folder).classes == ("a", "b", "c")


def test_ignored_values_and_values_of_no_class(tmp_path: Path) -> None:
    folder = one(tmp_path, np.array([[0, 1, 11, 255]], np.uint8))
    mask = read(folder, classes=("a", "b"), mask=MaskConfig(ignore=(11,)))
    assert mask.tolist() == [[0, 1, IGNORED, IGNORED]]
    with pytest.raises(DataError, match="value 11 is no class"):
        read(folder, classes=("a", "b"))


def test_masks_in_colours_need_their_names(tmp_path: Path) -> None:
    red, green, void = (200, 0, 0), (0, 200, 0), (0, 0, 0)
    folder = one(tmp_path, np.array([[red, green, void]], np.uint8))
    with pytest.raises(DataError, match="in colours, not class numbers"):
        read(folder)
    named = MaskConfig(colours={"cat": red, "dog": green}, ignored_colours=(void,))
    assert read(folder, mask=named).tolist() == [[0, 1, IGNORED]]
    with pytest.raises(DataError, match="is no class"):
        read(folder, mask=MaskConfig(colours={"cat": red, "dog": green}))


def test_pairs_by_name_and_what_has_no_partner_is_told(tmp_path: Path) -> None:
    folder = write_masked_set(tmp_path, {"train": 4, "val": 2})
    (folder / "train" / "masks" / "003.png").rename(folder / "train" / "masks" / "other.png")
    found = read_as(Mask, config(folder), folder)
    assert len(found.splits["train"]) == 3
    assert any("1 images without a mask left out (003.png" in note for note in found.notes)
    assert any("1 masks without an image left out (other.png" in note for note in found.notes)
    assert guess_format(folder) == "masks"


def test_polygons_and_run_lengths_of_coco(tmp_path: Path) -> None:
    from faster_coco_eval import mask as coco_mask

    drawn = np.zeros((20, 30), np.uint8, order="F")
    drawn[5:10, 5:15] = 1
    code = coco_mask.encode(drawn)
    rle = {"size": [20, 30], "counts": code["counts"].decode() if isinstance(code["counts"], bytes) else code["counts"]}
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        Image.new("RGB", (30, 20)).save(tmp_path / split / "1.png")
        document = {
            "images": [{"id": 1, "file_name": "1.png", "width": 30, "height": 20}],
            "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
            "annotations": [
                {"image_id": 1, "category_id": 7, "bbox": [5, 5, 10, 5], "segmentation": rle},
                {"image_id": 1, "category_id": 9, "bbox": [20, 0, 5, 5],
                 "segmentation": [[20, 0, 25, 0, 25, 5, 20, 5]]},
                {"image_id": 1, "category_id": 7, "bbox": [0, 15, 4, 4], "iscrowd": 1,
                 "segmentation": [[0, 15, 4, 15, 4, 19, 0, 19]]},
            ],
        }  # fmt: skip
        (tmp_path / "annotations" / f"{split}.json").write_text(json.dumps(document))
    found = read_as(Mask, config(tmp_path), tmp_path)
    assert found.classes == ("background", "cat", "dog")
    mask = found.splits["train"][0].label.read()
    assert (mask[5:10, 5:15] == 1).all()
    assert (mask[1:4, 21:24] == 2).all()
    assert (mask[16:18, 1:3] == IGNORED).all()
    assert int((mask == 0).sum()) > 400


def test_resizing_a_mask_takes_nearest_pixels_and_the_images_crop() -> None:
    mask = np.zeros((40, 80), np.uint8)
    mask[:, 20:60] = 9
    assert set(np.unique(square_mask(mask, 16, "stretch"))) == {0, 9}
    assert (square_mask(mask, 16, "crop") == 9).all()


def test_masks_are_cached_and_made_anew_when_a_file_changes(tmp_path: Path) -> None:
    folder = write_masked_set(tmp_path / "set", {"train": 3, "val": 2})
    samples = read_as(Mask, config(folder), folder).splits["train"]
    first = np.array(cached_masks(tmp_path / "cache", samples, 32, "stretch"))
    assert first.shape == (3, 32, 32)
    assert np.array_equal(first, cached_masks(tmp_path / "cache", samples, 32, "stretch"))
    Image.fromarray(np.full((64, 96), 2, np.uint8)).save(folder / "train" / "masks" / "000.png")
    assert (cached_masks(tmp_path / "cache", samples, 32, "stretch")[0] == 2).all()


def test_check_names_what_is_wrong_with_masks(tmp_path: Path) -> None:
    folder = write_masked_set(tmp_path, {"train": 4, "val": 2})
    Image.fromarray(np.full((64, 96), 255, np.uint8)).save(folder / "train" / "masks" / "000.png")
    Image.fromarray(np.zeros((64, 95), np.uint8)).save(folder / "train" / "masks" / "001.png")
    (folder / "train" / "masks" / "002.png").write_bytes(b"rubbish")
    Image.fromarray(np.full((64, 96), 77, np.uint8)).save(folder / "train" / "masks" / "003.png")
    strict = config(folder, classes=("background", "blue", "red"), mask=MaskConfig(ignore=(99,)))
    findings = check_dataset(read_as(Mask, strict, folder))
    assert {"unlabelled", "size", "mask"} <= {finding.kind for finding in findings}
    masks = " ".join(finding.message for finding in findings if finding.kind == "mask")
    assert "002.png" in masks
    assert "value 77 is no class" in masks


def test_copies_with_the_same_mask_are_no_conflict(tmp_path: Path) -> None:
    folder = write_masked_set(tmp_path, {"train": 2, "val": 1})
    for kind in ("images", "masks"):
        (folder / "train" / kind / "001.png").write_bytes((folder / "train" / kind / "000.png").read_bytes())
    kinds = {finding.kind for finding in check_dataset(read_as(Mask, config(folder), folder))}
    assert "duplicate" in kinds
    assert "conflict" not in kinds
    Image.fromarray(np.ones((64, 96), np.uint8)).save(folder / "train" / "masks" / "001.png")
    assert "conflict" in {finding.kind for finding in check_dataset(read_as(Mask, config(folder), folder))}


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the shared photo sets are not here")
def test_street_scenes() -> None:
    root = SHARED_DATA / "camvid"
    found = read_as(Mask, config(root, classes=STREET, mask=MaskConfig(ignore=(11,))), root)
    assert found.classes == STREET
    assert {split: len(samples) for split, samples in found.splits.items()} == {"train": 367, "val": 101}


def test_add_check_and_show(nanocv: Command, project: Path) -> None:
    write_masked_set(project / "shapes", {"train": 6, "val": 3})
    added = nanocv("data", "add", "shapes", "--json")
    assert added.code == 0, added.err
    assert "format: masks" in (project / "configs" / "data" / "shapes.yaml").read_text()
    assert nanocv("data", "check", "shapes").code == 0
    shown = nanocv("data", "show", "shapes", "--out", "sheet.png")
    assert shown.code == 0, shown.err
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 200
