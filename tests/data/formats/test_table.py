"""A config's `data.format` is obeyed by everybody who reads the set, and refused where it cannot give what is asked."""

from pathlib import Path

import pytest

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.formats.table import guess_format, read_as, read_labels, readers
from nanocv_cli.data.labels.base import ClassLabel, Label
from nanocv_cli.data.labels.boxes import Boxes
from nanocv_cli.data.labels.masks import Mask
from nanocv_cli.errors import DataError, RequestError
from tests.boxed import write_boxed_set
from tests.conftest import Command
from tests.masked import write_masked_set

LABELS = (ClassLabel, Boxes, Mask)
FORMATS = ("class_folders", "coco", "pascal_voc", "yolo", "masks")
ABLE = {(reader.format, reader.label) for reader in readers()}


def config(**values: str) -> DataConfig:
    return DataConfig(name="set", path="x", **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("form", "label"), [(form, label) for form in FORMATS for label in LABELS if (form, label) not in ABLE]
)
def test_a_format_without_such_labels_is_refused_with_those_that_have_them(
    form: str, label: type[Label], tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=f"data.format {form}, which holds no {label.plural}") as refused:
        read_as(label, config(format=form), tmp_path)
    able = [other for other in FORMATS if (other, label) in ABLE]
    assert all(other in refused.value.hint for other in able)
    assert form not in refused.value.hint.split(";")[0].split(" are in ")[1].split(", ")


def test_boxes_and_masks_beside_one_another_are_each_found(tmp_path: Path) -> None:
    write_boxed_set(tmp_path, {"train": 3, "val": 2})
    write_masked_set(tmp_path, {"train": 3, "val": 2})
    assert guess_format(tmp_path) == "coco"
    assert read_as(Boxes, config(), tmp_path).classes == ("blue", "red")
    assert read_as(Mask, config(), tmp_path).split("train")[0].label.read().ndim == 2
    assert read_as(Mask, config(format="masks"), tmp_path).split("train")
    with pytest.raises(DataError, match="has boxes but no segmentation"):
        read_as(Mask, config(format="coco"), tmp_path)


def test_a_stated_format_is_not_guessed(tmp_path: Path) -> None:
    write_boxed_set(tmp_path, {"train": 3, "val": 2})
    with pytest.raises(DataError, match="no boxes under") as refused:
        read_as(Boxes, config(format="yolo"), tmp_path)
    assert "YOLO" in refused.value.hint
    with pytest.raises(DataError, match="no YOLO labels"):
        read_labels(config(format="yolo"), tmp_path)


def test_class_folders_with_boxes_beside_them_are_registered_for_both(
    nanocv: Command, project: Path, tiny_set: Path
) -> None:
    write_boxed_set(tiny_set, {"train": 3, "val": 2})
    assert nanocv("data", "add", tiny_set, "--name", "both").code == 0
    assert "format: auto" in (project / "configs" / "data" / "both.yaml").read_text()
