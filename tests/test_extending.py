"""CONTRIBUTING.md's "How to add" is enough: one of each is added to a copy of nanocv, in the files it names, and runs.

A task has a folder and a test of its own: `tests/fifth_task/`.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import COLOURS, REPOSITORY, write_tiny_set

TEMPLATES = Path(__file__).parent / "templates"

# By what is added: new files, by template; and lines of tables, each put before what stands there already.
ADDED = {
    "A model": {
        "pixelnet.py": "nanocv_cli/models/pixelnet.py",
        "pixelnet.yaml": "configs/model/pixelnet.yaml",
    },
    "A label format": {"label_list.py": "nanocv_cli/data/formats/label_list.py"},
    "A GPU": {"abacus.yaml": "configs/gpu/abacus.yaml"},
    "A runtime": {"reference_graph.py": "nanocv_cli/engine/reference_graph.py"},
    "An export precision": {"rounded.py": "nanocv_cli/exporting/rounded.py"},
    "A training precision": {},
    "A device of ONNX Runtime": {},
}
LINES = {
    "A model": {
        "nanocv_cli/rooms.py": [
            ('"lenet": "nanocv_cli.models.lenet:', '"pixelnet": "nanocv_cli.models.pixelnet:build_pixelnet", ')
        ],
    },
    "A label format": {
        "nanocv_cli/data/formats/table.py": [
            ("from nanocv_cli.data.labels.base", "from nanocv_cli.data.formats import label_list\n"),
            (
                '    Reader("coco", Mask',
                '    Reader("label_list", ClassLabel, label_list.find_list, label_list.read_list, "labels.csv"),\n',
            ),
        ],
        "nanocv_cli/config/schema.py": [('"class_folders", "coco"', '"label_list", ')],
    },
    "A GPU": {},
    "A runtime": {
        "nanocv_cli/engine/runtimes.py": [
            (
                '    "openvino": Runtime(',
                '    "reference": Runtime("nanocv_cli.engine.reference_graph:open_by_reference", "onnx", "train"),\n',
            )
        ]
    },
    "An export precision": {
        "nanocv_cli/exporting/precision.py": [
            (
                '    "int8": ExportPrecision(',
                '    "tf32": ExportPrecision("nanocv_cli.exporting.rounded:round_weights", "onnx"),\n',
            )
        ]
    },
    "A training precision": {
        "nanocv_cli/models/device.py": [('"bf16": torch.bfloat16', '"brain": torch.bfloat16, ')],
        "nanocv_cli/config/schema.py": [('"fp32", "bf16", "fp16"]', '"brain", ')],
    },
    "A device of ONNX Runtime": {
        # A provider that every build has; it leaves this graph to the processor.
        "nanocv_cli/engine/sessions.py": [('    "cpu": "CPU', '    "azure": "AzureExecutionProvider",\n')],
    },
}


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and its configs with everything added."""
    copy = tmp_path_factory.mktemp("extended")
    for folder in ("nanocv_cli", "configs"):
        shutil.copytree(REPOSITORY / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for files in ADDED.values():
        for template, target in files.items():
            assert not (copy / target).exists()
            shutil.copy(TEMPLATES / template, copy / target)
    for tables in LINES.values():
        for table, lines in tables.items():
            text = (copy / table).read_text()
            for before, line in lines:
                assert text.count(before) == 1, f"{table} has another form: {before}"
                text = text.replace(before, line + before)
            (copy / table).write_text(text)
    return copy


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Images of three colours in one folder, with their list."""
    folders = write_tiny_set(tmp_path / "folders", {"train": 12, "val": 4})
    flat = tmp_path / "listed"
    flat.mkdir()
    rows = []
    for image in sorted(folders.rglob("*.png")):
        split, name, file = image.relative_to(folders).parts
        rows.append(f"{split},{split}-{name}-{file},{name}\n")
        shutil.copy(image, flat / f"{split}-{name}-{file}")
    (flat / "labels.csv").write_text("".join(rows))
    return flat


# Reads commands, and tells what each printed and what it ended with.
RUN_EACH = """
import json, sys
from tests.conftest import run_nanocv
done = [run_nanocv(*command, "--json") for command in json.loads(sys.argv[1])]
print(json.dumps([[one.code, one.out, one.err] for one in done]))
"""


def run(copy: Path, folder: Path, *commands: list[str | Path]) -> list[Any]:
    """The documents that commands print, one after the other in one process, which has the copy as its nanocv."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(copy), str(REPOSITORY)))}
    words = json.dumps([[str(word) for word in command] for command in commands])
    process = subprocess.run(
        [sys.executable, "-c", RUN_EACH, words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    done = json.loads(process.stdout)
    assert [code for code, _, _ in done] == [0] * len(commands), done
    return [json.loads(out) for _, out, _ in done]


def test_a_gpu_and_a_model_are_analysed(extended: Path, tmp_path: Path) -> None:
    document, checked = run(
        extended,
        tmp_path,
        ["analyze", "flops", "--model", "pixelnet", "--gpu", "abacus", "--dtype", "fp32"],
        ["config", "check"],
    )
    (layer,) = [one for one in document["layers"] if one["flops"]]
    assert layer["verdict"]
    assert document["total"]["params"] == layer["params"]
    assert checked


@pytest.mark.slow(15)
def test_a_format_a_model_and_a_precision_train_and_export_and_a_device_and_a_runtime_infer(
    extended: Path, labelled: Path, tmp_path: Path
) -> None:
    sets = ("train.epochs=20", "train.learning_rate=0.1", "train.batch_size=8", "train.precision=brain")
    options = [word for pair in sets for word in ("--set", pair)]
    image = labelled / "val-red-000.png"
    trained, answer, by_reference, exported = run(
        extended,
        tmp_path,
        ["train", "--data", labelled, "--model", "pixelnet", *options, "--out", "run"],
        ["infer", image, "--model", "run", "--device", "azure"],
        ["infer", image, "--model", "run", "--engine", "reference"],
        ["export", "onnx", "--model", "run", "--precision", "tf32", "--out", "less.onnx"],
    )
    assert trained["metrics"]["top1"] > 0.8
    assert answer["predictions"][0]["label"] in COLOURS
    scores = [[one["score"] for one in found["predictions"]] for found in (answer, by_reference)]
    assert scores[1] == pytest.approx(scores[0], abs=1e-4)
    assert (exported["precision"], exported["drop"] <= 1.0) == ("tf32", True)


@pytest.mark.parametrize("what", ADDED)
def test_the_page_names_the_files(what: str) -> None:
    """In the paragraph that begins with what is added stands each file or folder that the copy above was changed in."""
    page = (REPOSITORY / "CONTRIBUTING.md").read_text()
    paragraph = page.split(f"**{what}.**", 1)[1].split("\n\n", 1)[0]
    places = [str(Path(target).parent) + "/" for target in ADDED[what].values()] + list(LINES[what])
    for place in places:
        assert place.removeprefix("nanocv_cli/") in paragraph
