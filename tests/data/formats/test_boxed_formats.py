"""COCO, Pascal VOC and YOLO: read, written, told apart, and rubbish refused in one line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.check import check_dataset
from nanocv_cli.data.dataset import Dataset, Sample
from nanocv_cli.data.formats.table import WRITERS, guess_format, read_as, readers
from nanocv_cli.data.labels.boxes import Boxes, box_targets
from nanocv_cli.errors import DataError
from tests.boxed import write_boxed_set
from tests.conftest import SHARED_DATA, Command

CLASSES = ("cat", "dog", "é & <b>")

sides = st.floats(0, 40, allow_nan=False).map(lambda value: round(value, 3))
corner_lists = st.lists(
    st.tuples(sides, sides, sides, sides).map(lambda s: (s[0], s[1], s[0] + s[2] + 0.5, s[1] + s[3] + 0.5)), max_size=5
)


def config(path: Path, **more: Any) -> DataConfig:
    return DataConfig(name="set", path=str(path), **more)


def image(path: Path, size: tuple[int, int] = (90, 70)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (10, 20, 30)).save(path)
    return path


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(images=st.lists(corner_lists, min_size=1, max_size=4), form=st.sampled_from(sorted(WRITERS)), data=st.data())
def test_what_is_written_is_read_back(
    images: list[Any], form: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("round")
    images = [*images, [(1.0, 2.0, 30.0, 40.0)]]
    samples = []
    for number, corners in enumerate(images):
        labels = tuple(data.draw(st.integers(0, 2)) for _ in corners)
        flags = tuple(data.draw(st.booleans()) for _ in corners)
        none = (False,) * len(corners)
        crowd, difficult = (flags if form == "coco" else none), (flags if form == "pascal_voc" else none)
        boxes = Boxes((90, 70), tuple(corners), labels, crowd, difficult)
        samples.append(Sample(image(folder / "from" / f"{number}.png"), boxes))
    dataset = Dataset("set", folder, CLASSES, {"train": tuple(samples), "val": tuple(samples[-1:])})
    WRITERS[form](dataset, folder / "to")
    assert guess_format(folder / "to") == form
    reader = next(reader.read for reader in readers() if reader.format == form)
    found = reader(config(folder / "to", classes=CLASSES), folder / "to")
    assert found.classes == CLASSES
    assert found.notes == ()
    for before, after in zip(samples, found.splits["train"], strict=True):
        tolerance = 1e-9 if form == "pascal_voc" else 1e-6
        ours, theirs = before.label, after.label
        assert (ours.size, ours.labels, ours.crowd, ours.difficult) == (
            theirs.size,
            theirs.labels,
            theirs.crowd,
            theirs.difficult,
        )
        np.testing.assert_allclose(np.array(theirs.corners), np.array(ours.corners), atol=tolerance)
        assert after.path.read_bytes() == before.path.read_bytes()


def test_targets_are_shares_clipped_and_padded() -> None:
    boxes = Boxes(
        (100, 50),
        ((-10.0, 0.0, 50.0, 25.0), (200.0, 0.0, 300.0, 9.0), (0.0, 0.0, 100.0, 50.0)),
        (2, 1, 0),
        (False, False, True),
        (False, False, False),
    )
    nothing = Boxes((100, 50), (), (), (), ())
    targets = box_targets([Sample(Path("a"), boxes), Sample(Path("b"), nothing)])
    assert targets.shape == (2, 2, 6)
    np.testing.assert_allclose(targets[0], [[0, 0, 0.5, 0.5, 2, 0], [0, 0, 1, 1, 0, 1]])
    assert (targets[1] == -1).all()
    assert boxes.remap([5, 6, 7]).labels == (7, 6, 5)


def test_classes_in_another_order_are_matched_by_name(tmp_path: Path) -> None:
    root = write_boxed_set(tmp_path, {"train": 6, "val": 3})
    plain, turned = read_as(Boxes, config(root), root), read_as(Boxes, config(root, classes=("red", "blue")), root)
    assert plain.classes == ("blue", "red")
    for left, right in zip(plain.splits["train"], turned.splits["train"], strict=True):
        assert [1 - label for label in left.label.labels] == list(right.label.labels)
    only = read_as(Boxes, config(root, classes=("red",)), root)
    assert any("left out" in note for note in only.notes)
    assert {label for sample in only.splits["train"] for label in sample.label.labels} == {0}


def test_a_set_without_splits_is_divided_the_same_way_each_time(tmp_path: Path) -> None:
    for number in range(20):
        Image.fromarray(np.full((20, 20, 3), number, np.uint8)).save(image(tmp_path / "JPEGImages" / f"{number}.png"))
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / "Annotations" / f"{number}.xml").write_text(
            f"<annotation><filename>{number}.png</filename><size><width>20</width><height>20</height></size><object>"
            "<name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>10</xmax><ymax>20</ymax></bndbox></object>"
            "</annotation>"
        )
    first, second = (read_as(Boxes, config(tmp_path), tmp_path) for _ in range(2))
    assert first.splits == second.splits
    assert {split: len(samples) for split, samples in first.splits.items()} == {"train": 14, "val": 3, "test": 3}
    assert first.splits["train"][0].label.corners == ((0.0, 0.0, 10.0, 20.0),)


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the shared photo sets are not here")
def test_blood_cells() -> None:
    root = SHARED_DATA / "bccd"
    found = read_as(Boxes, config(root), root)
    assert guess_format(root) == "pascal_voc"
    assert found.classes == ("Platelets", "RBC", "WBC")
    assert {split: len(samples) for split, samples in found.splits.items()} == {"train": 205, "val": 87}


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]>'
    "<annotation><filename>&c;</filename></annotation>"
)
IMAGES = [{"id": 1, "file_name": "1.png", "width": 9, "height": 9}]
CATEGORIES = [{"id": 1, "name": "cat"}]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff\xfe\x00", b"[1, 2]", b"{}", b'{"images": [], "annotations": [], "categories": 3}', b"[" * 100_000,
        json.dumps({"images": [{"id": 1}], "annotations": [], "categories": CATEGORIES}).encode(),
        json.dumps({"images": IMAGES, "annotations": [{}], "categories": CATEGORIES}).encode(),
        json.dumps({"images": IMAGES, "annotations": [], "categories": [{"id": "1", "name": "cat"}]}).encode(),
        *(
            json.dumps({"images": IMAGES, "categories": CATEGORIES,
                        "annotations": [{"image_id": 1, "category_id": 1, "bbox": box}]}).encode()
            for box in ([1, 2, 3], [1, 2, 3, float("nan")], "abcd", None, [1, 2, True, 4])
        ),
    ],
)  # fmt: skip
def test_rubbish_coco_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "train.json").write_bytes(content)
    image(tmp_path / "train" / "1.png", (9, 9))
    with pytest.raises(DataError) as refused:
        read_as(Boxes, config(tmp_path), tmp_path)
    assert "\n" not in refused.value.message


def test_a_name_that_leads_out_of_the_set_is_not_followed(tmp_path: Path) -> None:
    root = write_boxed_set(tmp_path / "set", {"train": 3, "val": 2})
    image(tmp_path / "secret.png")
    for name in ("../secret.png", "../../secret.png", str(tmp_path / "secret.png")):
        path = root / "annotations" / "train.json"
        document = json.loads(path.read_text())
        document["images"][0]["file_name"] = name
        path.write_text(json.dumps(document))
        found = read_as(Boxes, config(root), root)
        assert len(found.splits["train"]) == 2
        assert any("not there" in note for note in found.notes)


@pytest.mark.parametrize(
    "content",
    [
        BOMB,
        "",
        "<annotation/>",
        "<annotation><size><width>x</width><height>1</height></size></annotation>",
        "<annotation><size><width>9</width><height>0</height></size></annotation>",
        "<annotation><size><width>9</width><height>9</height></size><object><name>a</name></object></annotation>",
        "<annotation><size><width>9</width><height>9</height></size><object><bndbox><xmin>1</xmin><ymin>1</ymin>"
        "<xmax>nan</xmax><ymax>2</ymax></bndbox></object></annotation>",
    ],
)
def test_rubbish_xml_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "1.xml").write_text(content)
    image(tmp_path / "JPEGImages" / "1.png")
    with pytest.raises(DataError, match=r"1\.xml is no Pascal VOC annotation"):
        read_as(Boxes, config(tmp_path), tmp_path)


@pytest.mark.parametrize("line", ["9 0.5 0.5 0.1 0.1", "0 0.5 0.5", "cat 0 0 1 1", "0 nan 0 1 1", "-1 0 0 1 1"])
def test_rubbish_text_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    image(tmp_path / "images" / "train" / "1.png")
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "labels" / "train" / "1.txt").write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    (tmp_path / "data.yaml").write_text("names: {0: cat, 1: dog}\n")
    with pytest.raises(DataError, match=r"1\.txt:2: .* is no object of 2 classes"):
        read_as(Boxes, config(tmp_path), tmp_path)


def test_check_names_what_is_wrong_with_boxes(tmp_path: Path) -> None:
    corners = (
        (-50.0, 0.0, -20.0, 9.0),
        (5.0, 5.0, 5.0, 9.0),
        (-9.0, 1.0, 20.0, 20.0),
        (1.0, 1.0, 9.0, 9.0),
        (1.0, 1.0, 9.0, 9.0),
    )
    bad = Boxes((90, 70), corners, (0,) * 5, (True, *(False,) * 4), (False, True, *(False,) * 3))
    samples = (
        Sample(image(tmp_path / "a.png"), bad),
        Sample(image(tmp_path / "b.png", (80, 70)), Boxes((90, 70), (), (), (), ())),
    )
    findings = check_dataset(Dataset("set", tmp_path, ("cat",), {"train": samples, "val": ()}))
    kinds = {finding.kind: finding for finding in findings}
    assert {"outside", "no_area", "border", "twice", "crowd", "difficult", "empty", "size"} <= kinds.keys()
    assert kinds["outside"].level == kinds["no_area"].level == kinds["size"].level == "error"
    assert "a.png" in kinds["outside"].message


def test_add_check_show_and_convert(nanocv: Command, project: Path) -> None:
    write_boxed_set(project / "shapes", {"train": 8, "val": 4})
    added = nanocv("data", "add", "shapes", "--json")
    assert added.code == 0, added.err
    assert added.document["classes"] == ["blue", "red"]
    assert "format: coco" in (project / "configs" / "data" / "shapes.yaml").read_text()
    assert nanocv("data", "check", "shapes").code == 0
    shown = nanocv("data", "show", "shapes", "--out", "sheet.png")
    assert shown.code == 0, shown.err
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 200
    for form in WRITERS:
        done = nanocv("data", "convert", "shapes", "--format", form)
        assert done.code == 0, done.err
        assert guess_format(project / f"shapes-{form}") == form
    again = nanocv("data", "convert", "shapes", "--format", "yolo")
    assert again.code == 2
    assert "exists already" in again.err
    assert "has no boxes" in nanocv("data", "convert", str(image(project / "plain" / "a" / "1.png").parents[1])).err
