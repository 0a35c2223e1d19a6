"""A model asked from Python: answers, refusals, and what importing costs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nanocv_cli
from nanocv_cli.errors import DataError, ModelError, RequestError
from tests.conftest import Command
from tests.contract.world import write_maker
from tests.engine.graphs import SIDE, write_graph
from tests.images.image_bytes import write_image


@pytest.fixture
def model(tmp_path: Path) -> nanocv_cli.Model:
    return nanocv_cli.load(write_graph(tmp_path / "model.onnx"))


def test_files_folders_and_arrays_are_answered_in_their_order(model: nanocv_cli.Model, tmp_path: Path) -> None:
    red = write_image(tmp_path / "images" / "red.png", "red", (20, 10))
    write_image(tmp_path / "images" / "blue.png", "blue", (20, 10))
    green = np.zeros((30, 7, 3), np.uint8)
    green[..., 1] = 255
    found = model.predict([red, green, tmp_path / "images", str(tmp_path / "images" / "b*.png")])
    assert [result.predictions[0].label for result in found] == ["red", "green", "blue", "red", "blue"]


def test_one_image_is_a_list_of_one(model: nanocv_cli.Model) -> None:
    (found,) = model.predict(np.full((5, 5, 3), (0, 0, 255), np.uint8), top=1)
    assert [answer.label for answer in found.predictions] == ["blue"]


def test_the_answers_are_those_of_the_command(model: nanocv_cli.Model, tmp_path: Path, nanocv: Command) -> None:
    path = write_image(tmp_path / "red.png", "red", (33, 21))
    line = nanocv("infer", path, "--model", model.origin, "--json").document
    (found,) = model.predict(path)
    assert found.to_json()["predictions"] == line["predictions"]
    (same,) = model.predict(np.asarray(Image.open(path).convert("RGB")))
    assert same == found


def test_a_result_is_drawn_in_the_images_own_size(model: nanocv_cli.Model) -> None:
    image = np.full((120, 200, 3), (200, 0, 0), np.uint8)
    (found,) = model.predict(image)
    drawn = model.draw(image, found)
    assert drawn.shape == image.shape and (drawn != image).any()
    assert (image == (200, 0, 0)).all()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 4, 3)), "array float64"),
        (np.zeros((4, 4), np.uint8), r"\[4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), r"\[0, 4, 3\]"),
        ("-", "names no image"),
        ("none.png", "no file, folder or glob"),
    ],
)
def test_what_is_no_image_is_refused(model: nanocv_cli.Model, images: object, message: str) -> None:
    with pytest.raises(RequestError, match=message) as refused:
        model.predict(images)  # type: ignore[arg-type]
    assert refused.value.hint


@pytest.mark.parametrize("number", [{"top": 0}, {"batch_size": 0}, {"tile": -1}, {"batch_size": 2.5}, {"top": True}])
def test_a_number_out_of_its_range_is_refused(model: nanocv_cli.Model, number: dict[str, int]) -> None:
    with pytest.raises(RequestError, match=f"{next(iter(number))} is .*") as refused:
        model.predict(np.zeros((4, 4, 3), np.uint8), **number)
    assert (refused.value.hint or "").startswith("give a whole number from")


@pytest.mark.parametrize("number", [{"n": 0}, {"seed": -1}, {"steps": 0}, {"batch_size": 0}])
def test_nothing_cannot_be_sampled(tmp_path: Path, number: dict[str, int]) -> None:
    maker = nanocv_cli.load(write_maker(tmp_path / "maker.onnx", ("daisy",)))
    with pytest.raises(RequestError, match=f"{next(iter(number))} is"):
        maker.sample(**number)


def test_an_unreadable_image_is_named(model: nanocv_cli.Model, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.png cannot be read"):
        model.predict(tmp_path / "broken.png")


def test_images_are_made_of_the_classes_asked_for(tmp_path: Path) -> None:
    maker = nanocv_cli.load(write_maker(tmp_path / "maker.onnx", ("daisy", "rose")))
    made = maker.sample(["rose"], n=3, seed=1, batch_size=2)
    assert list(made) == ["rose"] and made["rose"].shape == (3, SIDE, SIDE, 3) and made["rose"].dtype == np.uint8
    assert (maker.sample(n=1, seed=1)["daisy"] == made["rose"][:1]).all()  # the graph looks at the noise alone
    with pytest.raises(RequestError, match="knows no class 'tulip'"):
        maker.sample(["tulip"])


def test_readers_and_makers_are_told_apart(model: nanocv_cli.Model, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="makes no images"):
        model.sample()
    maker = nanocv_cli.load(write_maker(tmp_path / "maker.onnx", ("daisy",)))
    with pytest.raises(ModelError, match="makes images, it reads none"):
        maker.predict(np.zeros((4, 4, 3), np.uint8))


def test_importing_the_package_imports_nothing_and_predicting_no_torch(tmp_path: Path) -> None:
    write_graph(tmp_path / "model.onnx")
    script = (
        "import sys, nanocv_cli\n"
        "before = [name for name in ('numpy', 'onnxruntime', 'torch', 'nanocv_cli.api') if name in sys.modules]\n"
        "import numpy\n"
        "nanocv_cli.load(sys.argv[1]).predict(numpy.zeros((4, 4, 3), numpy.uint8))\n"
        "print(before, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "model.onnx")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[] False\n"


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'predict'"):
        nanocv_cli.predict  # noqa: B018
    assert "load" in dir(nanocv_cli)
