"""The folder of `export web` in a real browser, on a host of files: it answers as nanocv does, and asks nobody else."""

import base64
import io
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nanocv_cli.api.model import load
from nanocv_cli.engine.card import ModelCard
from nanocv_cli.images.resize import open_square
from nanocv_cli.tasks.table import postprocessor_for
from nanocv_cli.web import folder
from nanocv_cli.web.folder import write_web_folder
from nanocv_cli.web.runtime import runtime_files
from tests.browser import asked_for, opened
from tests.engine.graphs import colour_card
from tests.report.pages import HOSTILE
from tests.web.packages import publish, write_package
from tests.web.sites import MOST_SECONDS, STAND_IN, outcome, published_package, served, write_graphs

pytestmark = pytest.mark.slow(8)

ORIENTATION, ON_ITS_SIDE = 0x0112, 6
READ = """const { readSquare } = await import(new URL("pixels.js", location.href));
  const bytes = Uint8Array.from(atob(given[0]), (letter) => letter.charCodeAt(0));
  const { square, width, height } = await readSquare(new Blob([bytes]), given[1], given[2]);
  return [width, height, Array.from(square)];"""
UNDERSTAND = """const { postprocess } = await import(new URL("task.js", location.href));
  const [outputs, card, most, size] = given;
  const { mask, ...document } = postprocess(outputs, card, most, size);
  return { ...document, labels: mask && Array.from(mask.labels) };"""
ASK = """const { answerImage, listModels } = await import(new URL("models.js", location.href));
  const bytes = Uint8Array.from(atob(given[0]), (letter) => letter.charCodeAt(0));
  const [model] = await listModels();
  const { content } = await answerImage(model, new Blob([bytes]), new AbortController().signal);
  return { ...content, labels: content.mask && Array.from(content.mask.labels) };"""
MAKE = """const { listModels, makeImages } = await import(new URL("models.js", location.href));
  const [model] = await listModels();
  const { content } = await makeImages(model, given[0], new AbortController().signal);
  return Array.from(content[0].pixels);"""


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_graphs(tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="module")
def host(graphs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A host whose folders, one for each graph, have a stand-in for the runtime."""
    sites = tmp_path_factory.mktemp("host")
    with pytest.MonkeyPatch.context() as patch:
        package = write_package(sites / "package.tgz", STAND_IN)
        publish(patch, package)
        for name, graph in graphs.items():
            write_web_folder(str(graph), sites / name, package)
    with served(sites) as origin:
        yield origin


def photograph() -> NDArray[np.uint8]:
    """Smooth colours, higher than wide."""
    down, across = np.mgrid[0:150, 0:101]
    waves = [np.sin(down / 17 + channel) + np.cos(across / (11 + channel)) for channel in range(3)]
    return np.asarray((np.stack(waves, -1) + 2) * 63.5).astype(np.uint8)


def encoded(pixels: NDArray[np.uint8], form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def test_an_image_becomes_the_square_that_inference_reads(browser: Any, host: str) -> None:
    opened(browser, f"{host}/classifier/")
    tall = photograph()
    turned = Image.Exif()
    turned[ORIENTATION] = ON_ITS_SIDE
    files = {
        "wide": (encoded(tall.transpose(1, 0, 2), "PNG"), 0),
        "tall": (encoded(tall, "PNG"), 1),  # Pillow 13 resizes it by height first
        "grey": (encoded(tall[:101, :, 0], "PNG"), 0),
        "tiny": (encoded(tall[:1, :2], "PNG"), 0),
        "turned": (encoded(tall, "JPEG", quality=95, exif=turned), 2),  # decoders may round as they like
        "lossless": (encoded(tall[:101], "WEBP", lossless=True), 0),
    }
    for name, (file, most) in files.items():
        for side, rule in ((32, "crop"), (120, "stretch")):
            square, size = open_square(file, side, rule)
            width, height, seen = outcome(browser, READ, base64.b64encode(file).decode(), side, rule)
            assert (width, height) == size, name
            assert np.abs(np.reshape(seen, square.shape) - square.astype(int)).max() <= most, (name, side, rule)
    assert "cannot read" in outcome(browser, READ, base64.b64encode(b"no image").decode(), 8, "crop")


def tensor(values: NDArray[Any]) -> dict[str, Any]:
    """An output as JavaScript has it."""
    return {"dims": values.shape, "data": values.ravel().tolist()}


def outputs_of(task: str, card: ModelCard) -> dict[str, NDArray[Any]]:
    """Random outputs, with what is hard to order among them."""
    random = np.random.default_rng(0)
    labels = random.integers(0, len(card.classes), (1, 40))
    scores = random.random((1, 40)).astype(np.float32)
    scores[0, 5:8] = scores[0, 4]
    scores[0, -3:] = 0.0
    mask = random.choice(len(card.classes), (1, 16, 16), p=(0.6, 0.3, 0.1)).astype(np.uint8)
    return {
        "classifier": {"probabilities": np.array([[0.25, 0.5, 0.25]], np.float32)},
        "detector": {"boxes": random.uniform(-0.1, 1.1, (1, 40, 4)), "scores": scores, "labels": labels},
        "segmenter": {"mask": mask, "confidence": random.random((1, 16, 16)).astype(np.float32)},
    }[task]


def assert_alike(found: list[dict[str, Any]], expected: list[dict[str, Any]], tolerance: float) -> None:
    """The same labels in the same order; numbers within a tolerance."""
    assert [one.pop("label") for one in found] == [one.pop("label") for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one == {key: pytest.approx(value, abs=tolerance) for key, value in other.items()}


@pytest.mark.parametrize(
    ("site", "task"), [("classifier", "classification"), ("detector", "detection"), ("segmenter", "segmentation")]
)
def test_a_graphs_outputs_mean_what_they_mean_to_inference(browser: Any, host: str, site: str, task: str) -> None:
    opened(browser, f"{host}/{site}/")
    per_class = {"per_class": {"toString": {"threshold": 0.7}, "b": {"threshold": 0.55}, "c": {"threshold": True}}}
    card = colour_card(task=task, classes=("toString", "b", "c"), metrics=per_class)
    outputs, own = outputs_of(site, card), postprocessor_for(task)
    told = {name: tensor(values) for name, values in outputs.items()}
    for size in ((101, 60), (37, 90)):
        (expected,) = own.postprocess(outputs, card, own.top, [size])
        found = outcome(browser, UNDERSTAND, told, asdict(card), own.top, size)
        assert_alike(found["predictions"], expected.to_json()["predictions"], 1e-6)
        for mask in expected.attached().values():
            assert found["labels"] == mask.ravel().tolist()
    for wrong in ({}, {name: {**one, "dims": [1]} for name, one in told.items()}):
        assert f"the graph of {card.name} returns no" in outcome(browser, UNDERSTAND, wrong, asdict(card), 5, [9, 9])
    alien = asdict(colour_card(task=task, classes=("a",), metrics={}))
    assert "Error: the graph of" in outcome(browser, UNDERSTAND, told, alien, 5, [9, 9])


def answered(browser: Any) -> str:
    """What the page says once it has an answer."""
    from selenium.webdriver.support.ui import WebDriverWait

    status = browser.find_element("id", "status")
    WebDriverWait(browser, MOST_SECONDS, 0.02).until(lambda _: "Answered in" in status.text)
    return str(status.text)


def give(browser: Any, site: str, image: Path) -> list[str]:
    """Opens a site and gives it an image; returns the lines of its answer."""
    opened(browser, site)
    browser.find_element("id", "file").send_keys(str(image))
    answered(browser)
    return [line.text for line in browser.find_elements("css selector", ".found li")]


@pytest.fixture
def green(tmp_path: Path) -> Path:
    path = tmp_path / "green.png"
    path.write_bytes(encoded(np.full((9, 12, 3), (10, 200, 30), np.uint8), "PNG"))
    return path


def test_the_page_answers_by_itself_and_asks_nobody_else(browser: Any, host: str, green: Path) -> None:
    lines = [line.splitlines()[0] for line in give(browser, f"{host}/classifier/", green)]
    assert lines[0] == HOSTILE[1] and set(lines) == set(HOSTILE)
    assert browser.execute_script("return [window.hit ?? 0, document.scripts.length]") == [0, 1]
    assert "your browser" in browser.find_element("id", "origin").text
    assert "in the server" not in answered(browser)
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    elsewhere = {url for url in asked_for(browser) if not url.removeprefix("blob:").startswith(f"{host}/")}
    assert elsewhere == set()
    refused = "await fetch('http://127.0.0.1:9/'); return 'asked'"
    assert "Failed to fetch" in outcome(browser, refused)
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


def test_the_page_draws_what_each_task_answers(browser: Any, host: str, green: Path) -> None:
    assert give(browser, f"{host}/detector/", green)[0].splitlines() == ["light", "75.0 %"]
    frame = browser.find_element("css selector", ".frames rect[stroke]")
    assert [float(frame.get_attribute(name)) for name in ("x", "y", "width", "height")] == [3, 4.5, 6, 4.5]
    assert len(give(browser, f"{host}/segmenter/", green)) == 2
    pixel = """const canvas = document.querySelector(given[0]);
      const { data } = canvas.getContext("2d").getImageData(canvas.width - 1, 0, 1, 1);
      return [canvas.width, canvas.height, ...data];"""
    width, height, *colour = outcome(browser, pixel, ".stage canvas")
    assert (width, height) == (12, 9) and colour[3] > 100
    opened(browser, f"{host}/sampler/")
    for name, value in (("count", "2"), ("guidance", "3")):
        browser.find_element("id", name).clear()
        browser.find_element("id", name).send_keys(value)
    browser.find_element("css selector", "#sample-form button").click()
    assert answered(browser).startswith("2 images.")
    assert outcome(browser, pixel, ".made canvas") == [8, 8, 30, 30, 30, 255]
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def test_a_failure_of_the_runtime_is_no_answer(browser: Any, host: str) -> None:
    opened(browser, f"{host}/classifier/")
    black = base64.b64encode(encoded(np.zeros((8, 8, 3), np.uint8), "PNG")).decode()
    assert outcome(browser, ASK, black) == "Error: 42"


def test_by_the_runtime_itself_it_answers_as_nanocv_does(
    browser: Any, graphs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = runtime_files(tmp_path, published_package())  # once, for it takes a second
    monkeypatch.setattr(folder, "runtime_files", lambda cache, package: unpacked)
    for name, graph in graphs.items():
        write_web_folder(str(graph), tmp_path / "sites" / name)
    file = encoded(photograph(), "PNG")
    (tmp_path / "image.png").write_bytes(file)
    with served(tmp_path / "sites") as origin:
        for name, graph in graphs.items():
            opened(browser, f"{origin}/{name}/")
            model = load(str(graph))
            if name == "sampler":
                wanted = {"label": 1, "seed": 7, "first": 2, "count": 1, "settings": {"guidance": 0.5}}
                made = model.sample(["light"], n=3, seed=7, guidance=0.5)["light"][2]
                assert outcome(browser, MAKE, wanted) == made.ravel().tolist()
                continue
            (expected,) = model.predict([tmp_path / "image.png"])
            found = outcome(browser, ASK, base64.b64encode(file).decode())
            for one, other in zip(found["predictions"], expected.to_json()["predictions"], strict=True):
                assert one == {
                    key: pytest.approx(value, abs=0.01) if key != "label" else value for key, value in other.items()
                }
            for mask in expected.attached().values():
                assert found["labels"] == mask.ravel().tolist()
        assert [entry["message"] for entry in browser.get_log("browser")] == []
