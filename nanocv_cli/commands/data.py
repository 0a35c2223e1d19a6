"""`nanocv data`: list, pull, make, add, check, show."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from nanocv_cli.commands.completion import completing, config_names, weight_names
from nanocv_cli.commands.options import (
    DebugFlag,
    JsonFlag,
    SetOption,
    complete_data,
    end_as_failed,
    number_option,
    one_of,
)
from nanocv_cli.output import emit, say, tell

NameArgument = Annotated[
    str | None,
    typer.Argument(help="A data config's name or file, or a folder of images.", autocompletion=complete_data),
]


def list_sets(as_json: JsonFlag = False, debug: DebugFlag = False) -> None:
    """List known data sets and pretrained weights, and whether they are here.

    Sets are the configs in configs/data/, weights what DVC tracks in weights/.

    \b
    Example:
      nanocv data list
    """
    from nanocv_cli.config.project import project_root
    from nanocv_cli.data.inventory import inventory

    entries = inventory(project_root())
    if as_json:
        emit({"sets": [vars(entry) for entry in entries]})
        return
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        tell(f"{entry.kind:8} {entry.name:{width}}  {entry.state:12}  {entry.detail}")


def pull(
    name: Annotated[
        str,
        typer.Argument(
            help="A data set (flowers) or pretrained weights (lenet-flowers).",
            autocompletion=completing(config_names("data"), weight_names),
        ),
    ],
    remote: Annotated[str | None, typer.Option(help="A DVC remote other than the default one.")] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Bring a data set or pretrained weights here: DVC pull, else reproduce the DVC stage.

    The default remote is a folder of the repository; another is used with --remote once `dvc remote add` knows it.
    What a remote does not hold is made again by its stage, which is said.

    \b
    Examples:
      nanocv data pull flowers
      nanocv data pull lenet-flowers --remote mine
    """
    from nanocv_cli.config.loader import load_group
    from nanocv_cli.config.project import project_root
    from nanocv_cli.config.schema import DataConfig
    from nanocv_cli.data.inventory import weight_files
    from nanocv_cli.data.sources import pull_files, pull_set
    from nanocv_cli.display import Display

    root, display = project_root(), Display()
    if weights := weight_files(root, name):
        how, where = pull_files(root, weights, display.say, remote), [str(root / path) for path in weights]
    else:
        config = load_group("data", name)[0]
        assert isinstance(config, DataConfig)
        how = pull_set(config, root, display, remote)
        where = [str(root / config.path)]
    if as_json:
        emit({"name": name, "how": how, "paths": where})
    else:
        tell(f"{name} {how}: {', '.join(where)}")


def make(
    name: NameArgument = None,
    out: Annotated[Path | None, typer.Option(help="Archive to write; default: the config's.")] = None,
    overrides: SetOption = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Draw a synthetic data set: its archive, unpacked beside it.

    One seed draws one set, image by image, on every machine.

    \b
    Example:
      nanocv data make flowers --set data.flowers.train=400 --out small.tar
    """
    from nanocv_cli.config.loader import resolve
    from nanocv_cli.config.project import project_root
    from nanocv_cli.data.sources import draw
    from nanocv_cli.display import Display
    from nanocv_cli.untrusted import safe_name

    root = project_root()
    config = resolve(data=name, overrides=overrides or ()).config.data
    archive = out or root / (config.archive or f"data/{safe_name(config.name)}.tar")
    draw(config, root, archive, Display())
    document = {
        "name": config.name,
        "path": str(root / config.path),
        "archive": str(archive),
        "bytes": archive.stat().st_size,
    }
    if as_json:
        emit(document)
    else:
        tell(f"{config.name}: {document['path']}, {archive} ({archive.stat().st_size / 1e6:.1f} MB)")


def add(
    folder: Annotated[Path, typer.Argument(help="Class folders, COCO JSON, Pascal VOC XML or YOLO txt.")],
    name: Annotated[str | None, typer.Option(help="Name of the set; default: the folder's.")] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Register a folder of your own as a data set of this project.

    The format is found out: class folders, COCO JSON, Pascal VOC XML, YOLO txt, images with masks. Nothing is
    copied; configs/data/NAME.yaml points at the folder. `nanocv data check NAME` then tells what is wrong in it.

    \b
    Example:
      nanocv data add path/to/photos --name photos
    """
    from nanocv_cli.config.project import project_root
    from nanocv_cli.data.inventory import register

    path, dataset = register(folder, name, project_root())
    counts = {split: len(samples) for split, samples in dataset.splits.items()}
    if as_json:
        emit({"name": dataset.name, "config": str(path), "classes": dataset.classes, "splits": counts})
        return
    for note in dataset.notes:
        say(f"note: {note}")
    tell(f"{path}: {len(dataset.classes)} classes, " + ", ".join(f"{n} {split}" for split, n in counts.items()))


def check(name: NameArgument = None, as_json: JsonFlag = False, debug: DebugFlag = False) -> None:
    """Report unreadable and duplicate images, leakage between splits, stray files; exit 1 on errors.

    Labels are looked at too: boxes outside the image, without area or drawn twice, masks with values that have no
    class.

    \b
    Examples:
      nanocv data check flowers
      nanocv data check path/to/photos --json
    """
    from nanocv_cli.data.check import check_dataset
    from nanocv_cli.display import Display
    from nanocv_cli.errors import DataError

    display = Display()
    dataset = _read(name, display)
    with display.bar("checking") as progress:
        findings = check_dataset(dataset, progress)
    counts = {split: len(samples) for split, samples in dataset.splits.items()}
    errors = sum(finding.level == "error" for finding in findings)
    if as_json:
        emit({"data": dataset.name, "splits": counts, "errors": errors, "findings": [vars(f) for f in findings]})
    else:
        for finding in findings:
            tell(f"{finding.level}: {finding.kind}: {finding.message}")
        tell(
            f"{dataset.name}: {len(dataset.classes)} classes, "
            + ", ".join(f"{n} {s}" for s, n in counts.items())
            + f"; {errors} errors, {len(findings) - errors} warnings"
        )
    if errors:
        end_as_failed(DataError(f"{dataset.name} has {errors} errors", "mend or remove the files named above"))


def show(
    name: NameArgument = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "train",
    out: Annotated[Path | None, typer.Option(help="PNG to write; default: <name>.png.")] = None,
    per_class: Annotated[int, number_option("-n", low=1, high=100, text="Images of each class.")] = 8,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Write a contact sheet: images of every class with their labels.

    Boxes and masks are drawn on the images.

    \b
    Example:
      nanocv data show flowers --split test -n 4 --out flowers.png
    """
    from nanocv_cli.data.contact_sheet import write_contact_sheet
    from nanocv_cli.data.dataset import SPLITS, expect_split
    from nanocv_cli.display import Display
    from nanocv_cli.files import expect_file
    from nanocv_cli.untrusted import safe_name

    one_of("--split", split, SPLITS)
    dataset = _read(name, Display())
    expect_split(dataset, split)
    path = out or Path(f"{safe_name(dataset.name)}.png")
    expect_file(path)
    shown = write_contact_sheet(dataset, split, path, per_class)
    if as_json:
        emit({"data": dataset.name, "split": split, "path": str(path), "n": shown})
    else:
        tell(f"{path}: {shown} images of {dataset.name} {split}")


def convert(
    name: NameArgument = None,
    form: Annotated[str, typer.Option("--format", help="coco, pascal_voc or yolo.")] = "coco",
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: <name>-<format>.")] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Write a set of boxed objects in another format; images are linked, not copied, where they can be.

    \b
    Example:
      nanocv data convert boxes --format yolo --out boxes-yolo
    """
    from nanocv_cli.config.loader import resolve
    from nanocv_cli.config.project import project_root
    from nanocv_cli.data.formats.table import WRITERS, read_as
    from nanocv_cli.data.labels.boxes import Boxes
    from nanocv_cli.data.sources import image_folder
    from nanocv_cli.display import Display
    from nanocv_cli.errors import RequestError
    from nanocv_cli.files import folder_beside
    from nanocv_cli.untrusted import safe_name

    one_of("--format", form, tuple(WRITERS))
    config = resolve(data=name).config.data
    dataset = read_as(Boxes, config, image_folder(config, project_root(), Display()))
    target = out or Path(f"{safe_name(dataset.name)}-{form}")
    if os.path.lexists(target):
        raise RequestError(f"{target} exists already", "choose another --out, or delete it")
    with folder_beside(target) as temporary:
        WRITERS[form](dataset, temporary)
        temporary.replace(target)
    counts = {split: len(samples) for split, samples in dataset.splits.items()}
    if as_json:
        emit({"data": dataset.name, "format": form, "path": str(target), "splits": counts})
    else:
        tell(f"{target}: {', '.join(f'{count} {split}' for split, count in counts.items())}")


def _read(name: str | None, display: Any) -> Any:
    from nanocv_cli.config.loader import resolve
    from nanocv_cli.config.project import project_root
    from nanocv_cli.data.formats.table import read_labels
    from nanocv_cli.data.sources import image_folder

    config = resolve(data=name).config.data
    return read_labels(config, image_folder(config, project_root(), display))
