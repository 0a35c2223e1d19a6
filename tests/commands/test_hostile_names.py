"""Names in a model card, a set or a graph never become a path, a line or a formula."""

import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from nanocv_cli.tasks.evaluator import draw_confusion
from tests.conftest import Command, TrainedRun
from tests.contract.world import write_maker
from tests.engine.graphs import colour_card, write_graph
from tests.images.image_bytes import write_image

CLASSES = ("../../outside", "/nonexistent-nanocv/x", "Rose", "rose", "-rf", "..", "CON", "$x^$\\frac{", "_hidden",
           "x" * 200, "花", "[/red]", "\u202egnp.exe")  # fmt: skip


def test_samples_of_any_class_lie_below_the_folder_and_replace_no_others(nanocv: Command, project: Path) -> None:
    write_maker(project / "maker.onnx", CLASSES)
    before = sorted(project.parent.rglob("*"))
    made = nanocv("sample", "--model", "maker.onnx", "-n", "1", "--out", "samples", "--json")
    assert made.code == 0, made.err
    assert made.document["classes"] == list(CLASSES)
    files = sorted(project.parent.rglob("*.png"))
    assert len(files) == len(CLASSES) == len({str(path).casefold() for path in files})
    assert {path.parent.parent for path in files} == {project / "samples"}
    added = set(project.parent.rglob("*")) - set(before)
    assert added == {project / "samples", *files, *(path.parent for path in files)}
    grid = nanocv("sample", "--model", "maker.onnx", "-n", "1", "--trajectory")
    assert grid.code == 0, grid.err
    assert "\u202e" not in grid.out


def test_an_answer_is_one_line_whatever_the_class(nanocv: Command, project: Path) -> None:
    write_image(project / "a.png", "red", (60, 40))
    write_graph(project / "model.onnx", colour_card(name="$m_$\u202e", classes=("\u202ea", "$b$", "[c]")))
    answered = nanocv("infer", "a.png", "--model", "model.onnx", "--out", "out")
    assert answered.code == 0, answered.err
    assert len(answered.out.splitlines()) == 1 and answered.out.strip().isprintable()


@pytest.mark.filterwarnings("error")
def test_a_chart_shows_any_name(tmp_path: Path) -> None:
    names = (*CLASSES, "$", "$$", "a\nb", "\ud800", "\x1b", "🌷")
    path = draw_confusion(np.eye(len(names), dtype=np.int64), names, tmp_path / "chart.png")
    with Image.open(path) as image:
        assert min(image.size) > 100


@pytest.mark.parametrize("size", [1_000_000, 20_000_000])
def test_huge_metadata_is_refused_at_once(nanocv: Command, project: Path, size: int) -> None:
    text = colour_card(name="x" * size).to_metadata()
    safetensors.torch.save_file({"w": torch.zeros(1)}, project / "huge.safetensors", text)
    write_graph(project / "huge.onnx", metadata=text)
    write_image(project / "a.png", "red", (20, 20))
    for command in (["eval", "--model", "huge.safetensors"], ["infer", "a.png", "--model", "huge.onnx"]):
        refused = nanocv(*command)
        assert refused.code == 1
        assert "its model card is damaged" in refused.err and len(refused.err) < 1000


@pytest.mark.parametrize(("text", "damaged"), [(b'"colours"', b'"colou\xffs"'), (b"images", b"imag\xffs")])
def test_a_graph_whose_names_are_no_text_is_refused(
    nanocv: Command, project: Path, text: bytes, damaged: bytes
) -> None:
    path = write_graph(project / "model.onnx")
    path.write_bytes(path.read_bytes().replace(text, damaged))
    write_image(project / "a.png", "red", (20, 20))
    refused = nanocv("infer", "a.png", "--model", "model.onnx")
    assert refused.code == 1
    assert "no UTF-8" in refused.err


@pytest.mark.parametrize(
    "command", ["bench model --batch-sizes 1,100000000", "analyze flops --measure --batch-sizes 1000000"]
)
def test_what_no_memory_holds_is_refused_with_the_figure(nanocv: Command, project: Path, command: str) -> None:
    side = 1024
    write_graph(project / "model.onnx", colour_card(input_size=side), shape=("batch", side, side, 3))
    refused = nanocv(*command.split(), "--model", "model.onnx")
    assert refused.code == 2
    assert "GiB to feed" in refused.err


def test_a_card_names_no_folder_to_unpack_into(nanocv: Command, project: Path, trained: TrainedRun) -> None:
    from nanocv_cli.models.checkpoint import load_network, save_weights

    network, _, card = load_network(trained.folder / "checkpoints" / "best.safetensors")
    (project / "precious").mkdir()
    (project / "precious" / "file").write_text("mine")
    with tarfile.open(project / "set.tar", "w") as archive:
        archive.add(trained.data, ".")
    data = card.config["data"] | {"path": "precious", "archive": "set.tar"}
    save_weights(project / "x.safetensors", network.state_dict(), replace(card, config=card.config | {"data": data}))
    assert nanocv("export", "onnx", "--model", "x.safetensors").code != 0
    assert [path.name for path in (project / "precious").iterdir()] == ["file"]


@pytest.mark.parametrize("path", [".", "..", "mine", "/"])
def test_a_set_is_never_drawn_over_what_nanocv_did_not_make(nanocv: Command, project: Path, path: str) -> None:
    (project / "mine").mkdir()
    (project / "mine" / "file").write_text("mine")
    before = sorted(project.rglob("*"))
    for more in ([], ["--out", "x.tar"], ["--out", "mine"]):
        refused = nanocv("data", "make", "--set", f"data.path={path}", *more)
        assert refused.code == 2, refused.err
    assert sorted(project.rglob("*")) == before
