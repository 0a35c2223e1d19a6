"""A fifth task on the whole road, entered by the public door: nothing outside of this folder knows of it."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as http
from PIL import Image

from nanocv_cli.serving.launch import started
from tests.conftest import Command, TrainedRun, Write, training_run
from tests.fifth_task.labels import write_counted_set

pytestmark = pytest.mark.slow(25)

CONFIGS = Path(__file__).parent / "configs"
BEST_CONSTANT = 1.2  # mean absolute error of always answering two of none to four


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainedRun]:
    """A training of the task, which an installed package enters."""
    root = tmp_path_factory.mktemp("counter")
    package = root / "site" / "counting-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: counting\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[nanocv.tasks]\ncounting = tests.fifth_task:ROOM\n")
    data = write_counted_set(root / "flowers", {"train": 160, "val": 32})
    sys.path.insert(0, str(root / "site"))
    try:
        with training_run(root, data, "--model", CONFIGS / "counter.yaml", "--train", CONFIGS / "count.yaml") as run:
            yield run
    finally:
        sys.path.remove(str(root / "site"))


def test_it_learns_and_keeps_the_epoch_of_the_lowest_error(counter: TrainedRun) -> None:
    assert counter.summary["metrics"]["mae"] < 0.5 * BEST_CONSTANT
    rows = (counter.folder / "dvclive" / "plots" / "metrics" / "val_score.tsv").read_text().splitlines()[1:]
    lowest = min(float(row.split("\t")[1]) for row in rows)
    assert counter.summary["metrics"]["mae"] == pytest.approx(lowest, abs=1e-3)
    for name in ("model.onnx", "curves.png", "summary.json", "checkpoints/best.safetensors"):
        assert (counter.folder / name).stat().st_size > 100


def test_both_engines_measure_the_same(counter: TrainedRun, nanocv: Command) -> None:
    figures = [
        nanocv("eval", "--model", counter.folder, "--data", counter.data, "--engine", engine, "--json").document
        for engine in ("torch", "onnx")
    ]
    assert figures[0]["n"] == figures[1]["n"] == 32
    assert figures[0]["metrics"]["mae"] == pytest.approx(figures[1]["metrics"]["mae"], abs=1e-4)
    assert figures[0]["metrics"]["mae"] == pytest.approx(counter.summary["metrics"]["mae"], abs=1e-4)


def test_it_says_and_draws_how_many_there_are(counter: TrainedRun, nanocv: Command, tmp_path: Path) -> None:
    told = json.loads((counter.data / "val" / "counts.json").read_text())
    name = next(name for name, count in told.items() if count == 3)
    image = counter.data / "val" / name
    done = nanocv("infer", image, "--model", counter.folder, "--out", tmp_path / "drawn", "--json")
    assert done.code == 0, done.err
    assert done.document["task"] == "counting"
    (answer,) = done.document["predictions"]
    assert (answer["label"], answer["count"]) == ("flower", pytest.approx(3, abs=1.5))
    drawn = np.asarray(Image.open(done.document["annotated"]))
    assert drawn.shape == (32, 32, 3)
    assert not np.array_equal(drawn, np.asarray(Image.open(image)))
    assert " flower" in nanocv("infer", image, "--model", counter.folder).out


def test_its_graph_is_held_against_the_checkpoint(counter: TrainedRun, nanocv: Command, tmp_path: Path) -> None:
    done = nanocv("export", "onnx", "--model", counter.folder, "--out", tmp_path / "counter.onnx", "--json")
    assert done.code == 0, done.err
    assert done.document["parity"]["max_abs_error"] < 1e-3
    refused = nanocv("export", "onnx", "--model", counter.folder, "--out", tmp_path / "any.onnx", "--any-size")
    assert (refused.code, (tmp_path / "any.onnx").exists()) == (2, False)


def test_it_is_served_and_answers_as_in_process(counter: TrainedRun, nanocv: Command, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    done = nanocv("serve", "config", "--model", counter.folder, "--repository", repository, "--json")
    assert done.code == 0, done.err
    images = np.stack([np.asarray(Image.open(counter.data / "val" / f"{n:03d}.png")) for n in range(3)])
    with started(repository, "embedded") as server:
        client = http.InferenceServerClient(server.http)
        try:
            sent = http.InferInput("images", list(images.shape), "UINT8")
            sent.set_data_from_numpy(images)
            served = client.infer(done.document["model"], [sent]).as_numpy("count")
        finally:
            client.close()
    for number, count in enumerate(served):
        image = counter.data / "val" / f"{number:03d}.png"
        (answer,) = nanocv("infer", image, "--model", counter.folder, "--json").document["predictions"]
        assert count == pytest.approx(answer["count"], abs=2e-3)


def test_its_labels_are_checked_shown_and_registered(
    counter: TrainedRun, nanocv: Command, project: Path, write: Write
) -> None:
    checked = nanocv("data", "check", counter.data, "--json")
    assert (checked.code, checked.document["splits"]) == (0, {"train": 160, "val": 32})
    shown = nanocv("data", "show", counter.data, "--out", project / "sheet.png", "-n", "4", "--json")
    assert (shown.code, shown.document["n"]) == (0, 4)
    added = nanocv("data", "add", counter.data, "--name", "counted", "--json")
    assert added.code == 0, added.err
    assert "format: counts\n" in Path(added.document["config"]).read_text()
    assert nanocv("config", "check").code == 0
    few = write_counted_set(project / "few", {"train": 2, "val": 1})
    (few / "train" / "counts.json").write_text('{"000.png": -1, "001.png": 2}')
    checked = nanocv("data", "check", few, "--json")
    assert checked.code == 1
    assert [one["kind"] for one in checked.document["findings"] if one["level"] == "error"] == ["negative"]
    write("configs/data/other.yaml", f"name: other\npath: {few}\nformat: count\n")
    refused = nanocv("data", "check", "other")
    assert refused.code == 2
    assert "did you mean counts?" in refused.err


def test_it_is_benched(counter: TrainedRun, nanocv: Command) -> None:
    done = nanocv("bench", "model", "--model", counter.folder, "--batch-sizes", "1,2", "--threads", "1", "--rounds",
                  "1", "--round-s", "0.05", "--json")  # fmt: skip
    assert done.code == 0, done.err
    assert [row["batch_size"] for row in done.document["rows"]] == [1, 2]
    assert done.document["rows"][0]["metrics"]["mae"] == counter.summary["metrics"]["mae"]


def test_its_story_is_told_without_what_its_evaluator_leaves_open(
    counter: TrainedRun, nanocv: Command, tmp_path: Path
) -> None:
    done = nanocv("report", counter.folder, "--out", tmp_path / "page.html", "--json")
    assert done.code == 0, done.err
    left_out = {section["name"] for section in done.document["sections"] if not section["told"]}
    assert left_out <= {"mistakes", "bench"}
    page = (tmp_path / "page.html").read_text()
    assert f"{counter.summary['metrics']['mae']:.4f}" in page and "lowest val mae" in page
    beside = nanocv("report", counter.folder, counter.folder, "--out", tmp_path / "page.html")
    assert beside.code == 0 and "not known" in (tmp_path / "page.html").read_text()
