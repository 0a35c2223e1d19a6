"""The page in a real browser: it asks nothing of anybody, tells figures, sorts, and runs no text of others."""

from pathlib import Path
from typing import Any

import pytest

from tests.browser import asked_for, narrowed, opened
from tests.conftest import Command, TrainedRun, run_nanocv, write_tiny_set
from tests.report.pages import HOSTILE, colour_model, hostile_model

pytestmark = pytest.mark.slow(25)


@pytest.fixture(scope="module")
def pages(trained: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one.html` of a run, and `several.html` of it beside two graphs, of which one is always wrong."""
    folder = tmp_path_factory.mktemp("pages")
    right = colour_model(folder / "right.onnx", trained.data)
    wrong = colour_model(folder / "wrong.onnx", trained.data, strength=-0.05)
    for name, refs in (("one", [trained.folder]), ("several", [wrong, trained.folder, right])):
        done = run_nanocv("report", *refs, "--out", folder / f"{name}.html")
        assert done.code == 0, done.err
    return folder


@pytest.mark.parametrize("name", ["one", "several"])
def test_nothing_is_asked_of_anybody_and_nothing_fails(browser: Any, pages: Path, name: str) -> None:
    page = pages / f"{name}.html"
    opened(browser, page.as_uri())
    browser.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    assert asked_for(browser) == {page.as_uri(): ""}
    assert browser.get_log("browser") == []


def test_the_policy_stops_what_is_not_the_pages_own(browser: Any, pages: Path) -> None:
    opened(browser, (pages / "one.html").as_uri())
    browser.execute_script(
        "const added = document.createElement('div');"
        'added.innerHTML = \'<img src=x onerror="window.hit=1"><img src="http://127.0.0.1:9/x.png">\';'
        "document.body.append(added); const script = document.createElement('script');"
        "script.textContent = 'window.hit = 1'; document.body.append(script)"
    )
    assert browser.execute_async_script("const done = arguments[0]; setTimeout(() => done(window.hit ?? 0), 100)") == 0
    assert asked_for(browser)["http://127.0.0.1:9/x.png"] == "csp"
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


def test_curves_tell_their_figures_under_the_pointer_and_by_keys(browser: Any, pages: Path) -> None:
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.by import By

    opened(browser, (pages / "one.html").as_uri())
    chart, tip = browser.find_element(By.CSS_SELECTOR, "#curves svg[data-chart]"), browser.find_element(By.ID, "tip")
    assert not tip.is_displayed()
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", chart)
    ActionChains(browser).move_to_element_with_offset(chart, -chart.size["width"] // 2 + 60, 0).perform()
    lines = tip.text.splitlines()
    assert lines[0] == "epoch 1" and [line.split(":")[0] for line in lines[1:]] == ["train", "val"]
    float(lines[1].split()[1])
    ActionChains(browser).move_to_element_with_offset(chart, 0, -chart.size["height"] // 2 - 40).perform()
    assert not tip.is_displayed()
    browser.execute_script("arguments[0].focus({focusVisible: true})", chart)
    chart.send_keys(Keys.ARROW_RIGHT)
    assert tip.text.splitlines()[0] == "epoch 2"
    chart.send_keys(Keys.ESCAPE)
    assert not tip.is_displayed()


def test_the_table_of_several_sorts_by_figures_and_back(browser: Any, pages: Path) -> None:
    from selenium.webdriver.common.by import By

    opened(browser, (pages / "several.html").as_uri())
    table = browser.find_element(By.CSS_SELECTOR, "#figures table")
    (head,) = [cell for cell in table.find_elements(By.TAG_NAME, "th") if cell.text == "top1"]
    place = table.find_elements(By.TAG_NAME, "th").index(head)

    def figures() -> list[float]:
        rows = table.find_elements(By.CSS_SELECTOR, "tbody tr")
        return [float(row.find_elements(By.TAG_NAME, "td")[place].text.splitlines()[0]) for row in rows]

    before = figures()
    head.find_element(By.TAG_NAME, "button").click()
    assert figures() == sorted(before) and head.get_attribute("aria-sort") == "ascending"
    head.find_element(By.TAG_NAME, "button").click()
    assert figures() == sorted(before, reverse=True) and head.get_attribute("aria-sort") == "descending"


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_but_tables_is_wider_than_the_screen(browser: Any, pages: Path, width: int) -> None:
    for name in ("one", "several"):
        opened(browser, (pages / f"{name}.html").as_uri())
        assert narrowed(browser, width) <= width


def test_names_of_others_are_texts(browser: Any, nanocv: Command, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By

    data = write_tiny_set(tmp_path / "colours", {"train": 3, "val": 2, "test": 2})
    card = hostile_model(tmp_path / "model.onnx", data)
    for refs in (["model.onnx"], ["model.onnx", "model.onnx"]):
        done = nanocv("report", *[tmp_path / ref for ref in refs], "--out", tmp_path / "page.html")
        assert done.code == 0, done.err
        opened(browser, (tmp_path / "page.html").as_uri())
        assert browser.execute_script("return window.hit ?? 0") == 0
        assert browser.get_log("browser") == []
        assert browser.execute_script("return document.scripts.length") == 1
    assert nanocv("report", tmp_path / "model.onnx", "--out", tmp_path / "page.html").code == 0
    opened(browser, (tmp_path / "page.html").as_uri())
    shown = browser.execute_script("return document.body.textContent")
    assert all(name in shown for name in HOSTILE) and card.name in browser.find_element(By.TAG_NAME, "h1").text
    data.rename(tmp_path / "gone")
    assert nanocv("report", tmp_path / "model.onnx", "--out", tmp_path / "page.html").code == 0
    opened(browser, (tmp_path / "page.html").as_uri())
    shown = browser.execute_script("return document.body.textContent")
    assert r"\x1b[31mred\x1b[0m</td><script>" in shown and "\x1b" not in shown
    assert browser.execute_script("return window.hit ?? 0") == 0
