"""Damaged and hostile labels of every format: a set that can be used, or one line that names the file; nothing else."""

import copy
import json
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nanocv_cli.config.schema import DataConfig, MaskConfig
from nanocv_cli.data.cache import cached_split
from nanocv_cli.data.check import check_dataset
from nanocv_cli.data.formats.table import WRITERS, read_as
from nanocv_cli.data.labels.boxes import Boxes, box_targets
from nanocv_cli.data.labels.masks import Mask, cached_masks
from nanocv_cli.dvc.records import tracked_files
from nanocv_cli.errors import DataError
from tests.boxed import write_boxed_set
from tests.conftest import Command
from tests.masked import write_masked_set

VALUES: list[Any] = [
    None, True, -1, 0, 1, 0.5, 2**63, -(2**70), 10**400, 1e308, float("nan"), float("inf"), "", " ", "x" * 5000, "..",
    "../../../etc/passwd", "/etc/passwd", "a\0b", "a\nb", "\ud800", "\x1b]0;x\x07", [], {}, [[]], [None], {"a": 1},
    ["a"] * 3, json.loads("[" * 60 + "]" * 60),
]  # fmt: skip
SNIPPETS = [
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"<!DOCTYPE a>", b"&b;", b"[" * 3000, b"- " * 3000, b"<a>" * 3000, b"\x85"),
    *(b": " * 50, b"&a *a", b"nan", b"1e999", b"9" * 5000, b"{", b"}", b"]", b'"', b"'", b"\r", b"\n\n", b"<", b">"),
    *(b"../../x", b"- 1", b"!!python/object/apply:os.system [x]", "花".encode(), b"%", b"?", b"|"),
]
SEGMENT = [[1.0, 1.0, 9.0, 1.0, 9.0, 7.5]]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small set of each format."""
    root = tmp_path_factory.mktemp("sets")
    write_boxed_set(root / "coco", {"train": 3, "val": 2}, (60, 50))
    boxed = read_as(Boxes, DataConfig(name="set", path="x"), root / "coco")
    for form in ("yolo", "pascal_voc"):
        WRITERS[form](boxed, root / form)
    shutil.copytree(root / "coco", root / "coco_masks")
    for path in (root / "coco_masks" / "annotations").iterdir():
        document = json.loads(path.read_text())
        for number, entry in enumerate(document["annotations"]):
            counts = {"size": [50, 60], "counts": [1000, 500, 1500]}
            entry["segmentation"] = counts if number % 2 else SEGMENT
        path.write_text(json.dumps(document))
    write_masked_set(root / "masks", {"train": 3, "val": 2}, (60, 50))
    shutil.copytree(root / "yolo", root / "yolo_list")
    (root / "yolo_list" / "data.yaml").unlink()
    (root / "yolo_list" / "classes.txt").write_text("blue\nred\n")
    (root / "dvc" / ".dvc").mkdir(parents=True)
    (root / "dvc" / "data").mkdir()
    (root / "dvc" / "dvc.yaml").write_text(
        "stages:\n  a:\n    cmd: x\n    outs: [data/a.tar, {data/b.tar: {cache: false}}]\n"
    )
    (root / "dvc" / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  a:\n    outs:\n    - {path: data/a.tar, md5: ab, size: 3}\n"
    )
    (root / "dvc" / "data" / "c.dvc").write_text("outs:\n- md5: cd\n  size: 4\n  path: c\n")
    return root


LABELS = {
    "coco": "annotations/*.json", "coco_masks": "annotations/*.json", "pascal_voc": "[AI]*/**/*.*",
    "yolo": "**/*.[ty]*", "yolo_list": "**/*.t*", "masks": "*/masks/*", "dvc": "**/*[ck]*",
}  # fmt: skip


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all nodes of a JSON document."""
    yield path
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(document)
    node = changed
    for key in path[:-1]:
        node = node[key]
    if value is ...:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return changed


def damaged(content: bytes, chance: random.Random) -> bytes:
    """A document with one value replaced, or bytes cut, turned or put in."""
    way = chance.randrange(5)
    if way < 2:
        try:
            document = json.loads(content)
        except ValueError:
            way = 2 + chance.randrange(3)
        else:
            path = chance.choice(list(places(document)))
            return json.dumps(replaced(document, path, chance.choice([*VALUES, *([...] if path else [])]))).encode()
    place = chance.randrange(len(content) + 1)
    if way == 2:
        return content[:place]
    if way == 3:
        return content[:place] + chance.choice(SNIPPETS) + content[place + chance.randrange(4) :]
    return content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :]


def use(form: str, root: Path) -> None:
    """Everything that reads a set's labels."""
    if form == "dvc":
        tracked_files(root)
        return
    config = DataConfig(name="set", path=str(root), mask=MaskConfig(ignore=(7,)))
    found: Any = read_as(Mask if "masks" in form else Boxes, config, root)
    found.fingerprint()
    check_dataset(found)
    samples = found.split("train")
    places = cached_split(root / ".cache", samples, 16, "stretch").kept
    kept = samples if places is None else samples.take(places)
    if "masks" in form:
        cached_masks(root / ".cache", kept, 16, "stretch")
    else:
        box_targets(kept)


@pytest.mark.parametrize("form", sorted(LABELS))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_damaged_labels_are_used_or_refused_by_name(
    form: str, seed: int, sets: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    chance = random.Random(seed)
    root = tmp_path_factory.mktemp("damaged") / form
    shutil.copytree(sets / form, root)
    files = sorted(path for path in root.glob(LABELS[form]) if path.is_file())
    victim = chance.choice(files)
    victim.write_bytes(damaged(victim.read_bytes(), chance))
    begun = time.monotonic()
    try:
        use(form, root)
    except DataError as error:
        assert str(root) in error.message or "data set set" in error.message
        assert "\n" not in error.message and len(error.message) < 1000
        assert error.hint
    assert time.monotonic() - begun < 60
    shutil.rmtree(root)


def test_the_undamaged_sets_are_used(sets: Path, tmp_path: Path) -> None:
    for form in LABELS:
        shutil.copytree(sets / form, tmp_path / form)
        use(form, tmp_path / form)


ENTRY = {"id": 1, "image_id": 1, "category_id": 10, "bbox": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"annotations": [{**ENTRY, "image_id": [1]}]}, r"annotations\[0\].image_id is \[1\]"),
        ({"annotations": [ENTRY, {**ENTRY, "category_id": {}}]}, r"annotations\[1\].category_id is {}"),
        ({"annotations": [{**ENTRY, "bbox": [1, 2, 10**400, 4]}]}, r"annotations\[0\].bbox\[2\] is 1000"),
        ({"images": [{"id": 1, "file_name": "001.png", "height": 50}]}, r"images\[0\].width is missing"),
        ({"images": [{"id": 1, "file_name": "001.png", "width": 0, "height": 50}]}, r"images\[0\].width is 0"),
        ({"images": [{"id": None, "file_name": "001.png", "width": 9, "height": 50}]}, r"images\[0\].id is None"),
        (
            {"images": [{"id": 1, "file_name": "001.png", "width": 9, "height": 9}] * 2},
            "the id 1 stands twice in images",
        ),
        (
            {"images": [{"id": number, "file_name": "001.png", "width": 9, "height": 9} for number in (1, 2)]},
            "the file 001.png stands twice in images",
        ),
        ({"categories": [{"id": True, "name": "cat"}]}, r"categories\[0\].id is True"),
        ({"categories": [{"id": 1, "name": "a\nb"}]}, "class name"),
    ],
)
def test_the_place_in_a_document_is_named(changes: dict[str, Any], place: str, sets: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(sets / "coco", root)
    path = root / "annotations" / "train.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(DataError, match=rf"train\.json: .*{place}"):
        read_as(Boxes, DataConfig(name="set", path="x"), root)


def test_what_is_left_out_is_said(sets: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(sets / "coco", root)
    path = root / "annotations" / "train.json"
    document = json.loads(path.read_text())
    document["annotations"] += [{**ENTRY, "image_id": 99}, {**ENTRY, "category_id": 3}]
    document["categories"].append({"id": 3, "name": "other"})
    path.write_text(json.dumps(document))
    notes = read_as(Boxes, DataConfig(name="set", path="x", classes=("blue", "red")), root).notes
    assert notes == (
        "train.json: 1 boxes of classes that the set does not name are left out",
        "train.json: 1 boxes of images that it does not list are left out",
    )


def test_a_image_with_objects_beyond_number_is_refused(sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanocv_cli.data.labels.boxes.LARGEST_TARGETS", 100)
    with pytest.raises(DataError, match=r"\.png has \d+ objects"):
        box_targets(read_as(Boxes, DataConfig(name="set", path="x"), sets / "coco").split("train"))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("data.yaml", b"names: " + b"[" * 20_000, "data.yaml:1: nested too deeply"),
        ("data.yaml", b"names: {0: cat, 2: dog}", "not numbered from 0 to 1"),
        ("data.yaml", b"names: cat", "names no classes"),
        ("data.yaml", b"names: [cat, cat]", "class cat stands twice"),
        ("data.yaml", b"names: [[cat]]", "names no classes"),
        ("data.yaml", b"names: [~, '']", "class name '' is empty"),
        ("data.yaml", b"- cat", "data.yaml: the document is"),
        ("data.yaml", b"names: [caf\xe9]", "data.yaml:1: not UTF-8"),
        ("labels/train/001.txt", b"0 0.5 0.5 0.1 0.1\n\xff", "001.txt:2: not UTF-8"),
        ("labels/train/001.txt", b"0 1e300 0.5 0.1 0.1", "001.txt:1: "),
        ("labels/train/001.txt", b"9" * 5000 + b" 0.5 0.5 0.1 0.1", "001.txt:1: "),
    ],
)
def test_yolos_files_are_refused_with_their_line(
    name: str, content: bytes, reason: str, sets: Path, tmp_path: Path
) -> None:
    root = tmp_path / "set"
    shutil.copytree(sets / "yolo", root)
    (root / name).write_bytes(content)
    with pytest.raises(DataError, match=reason):
        read_as(Boxes, DataConfig(name="set", path="x"), root)


def test_lists_of_pascal_voc_name_their_line_and_names_with_spaces(sets: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(sets / "pascal_voc", root)
    listed = root / "ImageSets" / "Main" / "train.txt"
    for folder, suffix in (("Annotations", ".xml"), ("JPEGImages", ".png")):
        (root / folder / f"001{suffix}").rename(root / folder / f"my photo{suffix}")
    listed.write_text("my photo\n002  1\n003\n")
    assert [sample.path.name for sample in read_as(Boxes, DataConfig(name="set", path="x"), root).splits["train"]] == [
        *("my photo.png", "002.png", "003.png")
    ]
    listed.write_text("002\n003 1\n002 -1\n")
    with pytest.raises(DataError, match=r"train\.txt: 002 stands twice"):
        read_as(Boxes, DataConfig(name="set", path="x"), root)
    listed.write_bytes(b"002\n\xe9\n")
    with pytest.raises(DataError, match=r"train\.txt:2: not UTF-8 text"):
        read_as(Boxes, DataConfig(name="set", path="x"), root)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("dvc.yaml", "stages: [1, 2]", r"dvc\.yaml: stages"),
        ("dvc.yaml", "stages: {a: {outs: 3}}", r"stages\.a\.outs"),
        ("dvc.yaml", "stages: " + "[" * 5000, r"dvc\.yaml:1: nested"),
        ("dvc.lock", "stages: {a: {outs: [{md5: x}]}}", r"outs\[0\]\.path is missing"),
        ("dvc.lock", "stages: {a: {outs: [{path: x, size: much}]}}", r"outs\[0\]\.size is 'much'"),
        ("data/c.dvc", "outs: {}", r"c\.dvc: outs"),
        ("data/c.dvc", "outs: [{path: [a]}]", r"outs\[0\]\.path"),
    ],
)
def test_dvcs_files_of_another_shape_are_refused(
    name: str, content: str, reason: str, sets: Path, tmp_path: Path
) -> None:
    root = tmp_path / "set"
    shutil.copytree(sets / "dvc", root)
    assert {(file.path, file.stage, file.size) for file in tracked_files(root).values()} == {
        ("data/a.tar", "a", 3), ("data/b.tar", "a", None), ("data/c", None, 4)
    }  # fmt: skip
    (root / name).write_text(content)
    with pytest.raises(DataError, match=reason):
        tracked_files(root)


def test_more_classes_than_a_mask_can_tell_apart_are_refused(sets: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(sets / "coco_masks", root)
    for path in (root / "annotations").iterdir():
        document = json.loads(path.read_text())
        document["categories"] += [{"id": 100 + number, "name": f"class {number}"} for number in range(300)]
        path.write_text(json.dumps(document))
    with pytest.raises(DataError, match="names 303 classes"):
        read_as(Mask, DataConfig(name="set", path="x"), root)


def test_a_mask_with_values_beyond_a_byte_names_the_value(sets: Path, tmp_path: Path) -> None:
    import numpy as np

    root = tmp_path / "set"
    shutil.copytree(sets / "masks", root)
    values = np.full((50, 60), 300, np.uint16)
    found = read_as(Mask, DataConfig(name="set", path="x"), root)
    for path in (root / "train" / "masks").iterdir():
        Image.fromarray(values).save(path)
    with pytest.raises(DataError, match="value 300 is no class"):
        found.split("train")[0].label.read()


def test_the_command_line_answers_in_one_line(nanocv: Command, project: Path, sets: Path) -> None:
    for form, name, content in (
        ("coco", "annotations/train.json", b'{"images": [[]], "annotations": [], "categories": []}'),
        ("pascal_voc", "ImageSets/Main/train.txt", b"\xff\xfe"),
        ("yolo", "data.yaml", b"names: " + b"[" * 20_000),
    ):
        shutil.copytree(sets / form, project / form)
        (project / form / name).write_bytes(content)
        for command in ("check", "show", "add"):
            outcome = nanocv("data", command, f"./{form}", "--json")
            assert outcome.code == 1, (form, command, outcome)
            assert Path(name).name in outcome.document["error"]["message"]
            assert outcome.document["error"]["hint"]
