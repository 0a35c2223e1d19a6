"""The examples of docs/python.md, run one after another as they stand."""

import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, TrainedRun, write_tiny_set
from tests.contract.world import write_maker

EXAMPLES = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "python.md").read_text(), re.DOTALL)


@pytest.mark.slow(15)
def test_every_example_runs(project: Path, trained: TrainedRun, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny_set(project / "data" / "flowers", {"train": 8, "val": 4, "test": 4})
    (project / "configs" / "data").mkdir(parents=True)
    (project / "configs" / "data" / "flowers.yaml").write_text("name: flowers\npath: data/flowers\n")
    (project / "weights").mkdir()
    shutil.copy(trained.folder / "model.onnx", project / "weights" / "lenet-flowers.onnx")
    write_maker(project / "weights" / "nanoflow-flowers.onnx", ("daisy", "rose"))
    (project / "photos").mkdir()
    shutil.copy(trained.data / "val" / "red" / "000.png", project / "photos" / "rose.png")
    names: dict[str, object] = {}
    for example in EXAMPLES:
        exec(compile(example, "docs/python.md", "exec"), names)  # noqa: S102  # our own page
    told = capsys.readouterr().out
    assert "classification ('blue', 'green', 'red')" in told
    assert "(2, 8, 8, 3)" in told
    assert (project / "annotated.png").is_file()
    assert (project / "lenet.onnx").is_file()
    assert 0.0 <= names["measured"].metrics["top1"] <= 1.0  # type: ignore[attr-defined]
