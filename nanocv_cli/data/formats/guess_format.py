"""What format a folder's labels have, and sets of boxed objects whatever theirs is."""

from pathlib import Path

from nanocv_cli.config.schema import DataConfig
from nanocv_cli.data.boxes import Boxes
from nanocv_cli.data.dataset import Dataset
from nanocv_cli.data.formats import coco, pascal_voc, yolo
from nanocv_cli.data.formats.mask_folders import find_folders
from nanocv_cli.errors import DataError

READERS = {"coco": coco.read_coco, "pascal_voc": pascal_voc.read_pascal_voc, "yolo": yolo.read_yolo}
WRITERS = {"coco": coco.write_coco, "pascal_voc": pascal_voc.write_pascal_voc, "yolo": yolo.write_yolo}
FINDERS = {"coco": coco.find_documents, "pascal_voc": pascal_voc.find_annotations, "yolo": yolo.find_folders}
CLASS_FOLDERS, MASKS = "class_folders", "masks"


def guess_format(root: Path) -> str:
    """`coco`, `pascal_voc`, `yolo` or `masks` where the folder has such labels, else `class_folders`."""
    found = next((name for name, find in FINDERS.items() if find(root)), None)
    return found or (MASKS if find_folders(root) else CLASS_FOLDERS)


def read_boxes(config: DataConfig, root: Path) -> Dataset[Boxes]:
    """Reads a set of boxed objects in whatever format it has.

    A set of class folders may carry boxes too (`annotations/` beside them): they are read.

    Raises:
        DataError: it has no boxes, or they cannot be read.
    """
    if not root.is_dir():
        raise DataError(f"data set {config.name}: no folder {root}", f"nanocv data pull {config.name}")
    form = config.format if config.format in READERS else guess_format(root)
    if form not in READERS:
        raise DataError(
            f"data set {config.name} has no boxes under {root}",
            "detection reads COCO JSON (annotations/train.json), Pascal VOC XML (Annotations/) or YOLO txt (labels/)",
        )
    dataset = READERS[form](config, root)
    if not any(sample.label.corners for sample in dataset.split("train")):
        raise DataError(f"data set {config.name} has no box in its train split", "nanocv data check")
    return dataset
