"""Commands that take the URL of a served model in place of its file say and draw the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nanocv_cli.config.loader import resolve_serve
from nanocv_cli.serving.launch import started
from nanocv_cli.serving.repository.entry import write_entry
from tests.conftest import COLOURS, Command, write_tiny_set
from tests.engine.graphs import colour_card, write_graph


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The URL of a served model, and the file of its graph."""
    folder = tmp_path_factory.mktemp("served")
    model = {"name": "colours", "architecture": "lenet", "input_size": 16}
    card = colour_card(classes=tuple(COLOURS), input_size=16, config={"model": model})
    graph = write_graph(folder / "colours.onnx", card, shape=("batch", 16, 16, 3))
    write_entry(graph, folder / "models", resolve_serve(None, {"max_batch": 4}, ()))
    write_entry(graph, folder / "models", resolve_serve(None, {"max_batch": 4, "encoded": True}, ()), name="files")
    with started(folder / "models", "embedded") as server:
        yield f"http://{server.http}/colours", graph


def test_infer_answers_and_draws_the_same(tmp_path: Path, url: tuple[str, Path], nanocv: Command) -> None:
    images = write_tiny_set(tmp_path / "set", {"test": 3}) / "test"
    served, graph = url
    there = nanocv("infer", images, "--model", served, "--json", "--out", tmp_path / "there")
    here = nanocv("infer", images, "--model", graph, "--json", "--out", tmp_path / "here")
    assert there.code == here.code == 0
    assert there.out.replace("/there/", "/here/") == here.out
    drawn = sorted(path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*.png"))
    assert drawn
    for name in drawn:
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_an_entry_that_takes_files_answers_the_same(tmp_path: Path, url: tuple[str, Path], nanocv: Command) -> None:
    images = write_tiny_set(tmp_path / "set", {"test": 3}) / "test"
    served = url[0].replace("/colours", "/files")
    there, here = (nanocv("infer", images, "--model", ref, "--json") for ref in (served, url[1]))
    assert there.code == here.code == 0
    assert there.out == here.out


def test_eval_measures_the_same(tmp_path: Path, url: tuple[str, Path], nanocv: Command) -> None:
    images = write_tiny_set(tmp_path / "set", {"train": 2, "val": 1, "test": 3})
    there, here = (nanocv("eval", "--engine", "onnx", "--data", images, "--model", ref, "--json") for ref in url)
    assert there.code == here.code == 0
    assert there.document["metrics"] == here.document["metrics"]
    assert there.document["file"] == url[0]
    with_torch = nanocv("eval", "--data", images, "--model", url[0])
    assert with_torch.code == 2
    assert "a served one" in with_torch.err
