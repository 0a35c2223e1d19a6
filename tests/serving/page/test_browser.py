"""The server's page in a real browser: from an image to its answer for each task, and nothing that others could do."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nanocv_cli.serving.key_file import add_key
from nanocv_cli.serving.launch import Server, started
from nanocv_cli.tasks.generation.sampling import image_noise
from tests.browser import asked_for, narrowed, opened
from tests.report.pages import HOSTILE
from tests.serving.page.task_graphs import SIDE, write_repository

pytestmark = pytest.mark.slow(8)

WIDTH, HEIGHT = 80, 40
PATIENCE = 20.0  # seconds for an answer: far more than any takes


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("models") / "repository")


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with started(repository, "embedded", "none") as running:
        yield running


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark blue to the left, light to the right."""
    pixels = np.full((HEIGHT, WIDTH, 3), 250, np.uint8)
    pixels[:, : WIDTH // 2] = (0, 0, 60)
    path = tmp_path_factory.mktemp("images") / "halves.png"
    Image.fromarray(pixels).save(path)
    return path


class Page:
    """The page of a server in the browser."""

    def __init__(self, browser: Any, server: Server) -> None:
        self.browser, self.origin = browser, f"http://{server.http}"
        opened(browser, f"{self.origin}/")
        self.wait("document.querySelectorAll('#models input').length || !document.getElementById('key-form').hidden")

    def run(self, script: str, *arguments: object) -> Any:
        return self.browser.execute_script(script, *arguments)

    def wait(self, condition: str) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser, PATIENCE, 0.02).until(lambda _: self.run(f"return Boolean({condition})"), condition)

    def one(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def choose(self, model: str) -> None:
        self.one(f"input[value={model}]").click()

    def give(self, image: Path) -> None:
        self.one("#file").send_keys(str(image))
        self.answered()

    def answered(self) -> None:
        self.wait("/Answered in/.test(document.getElementById('status').textContent)")

    def found(self) -> list[str]:
        """The lines of the answer."""
        return [line.text for line in self.browser.find_elements("css selector", ".found li")]

    @property
    def status(self) -> str:
        return str(self.one("#status").text)


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Page]:
    """Afterwards: it asked nobody else, and nothing failed."""
    one = Page(browser, server)
    yield one
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    elsewhere = [url for url in asked_for(browser) if not url.removeprefix("blob:").startswith(f"{one.origin}/")]
    assert elsewhere == []


def test_classes_are_bars_and_hostile_names_are_text(page: Page, image: Path) -> None:
    page.choose("classifier")
    page.run("window.urls = new Set(); const [make, revoke] = [URL.createObjectURL, URL.revokeObjectURL];"
             "URL.createObjectURL = (blob) => { const url = make(blob); window.urls.add(url); return url };"
             "URL.revokeObjectURL = (url) => { window.urls.delete(url); revoke(url) }")  # fmt: skip
    page.give(image)
    lines = page.found()
    assert len(lines) == 3 and lines[0].startswith(HOSTILE[2])
    assert {line.splitlines()[0] for line in lines} == set(HOSTILE)
    shares = [float(line.splitlines()[1].removesuffix(" %")) for line in lines]
    assert sum(shares) == pytest.approx(100, abs=0.2) and shares == sorted(shares, reverse=True)
    widths = page.run("return Array.from(document.querySelectorAll('.fill'), (bar) => parseFloat(bar.style.width))")
    assert widths == pytest.approx(shares, abs=0.06)
    assert all(name in page.one("#card").text for name in HOSTILE)
    counts = page.run("return [window.hit ?? 0, document.scripts.length, document.images.length, window.urls.size]")
    assert counts == [0, 1, 1, 0]
    assert " in the server" in page.status
    page.wait("document.querySelector('#statistics').textContent.includes('Answered1')")


def test_boxes_lie_where_the_model_says(page: Page, image: Path) -> None:
    page.choose("detector")
    page.give(image)
    assert page.found()[0].splitlines() == ["light", "75.0 %"] and page.status.startswith("1 object.")
    names = ("x", "y", "width", "height")
    frame = page.run("const box = document.querySelector('.frames rect[stroke]');"
                     "return arguments[0].map((name) => Number(box.getAttribute(name)))", names)  # fmt: skip
    assert frame == [WIDTH / 4, HEIGHT / 2, WIDTH / 2, HEIGHT / 2]
    place = page.run("const box = document.querySelector('.frames rect[stroke]').getBoundingClientRect();"
                     "const image = document.querySelector('.stage img').getBoundingClientRect();"
                     "return [(box.x - image.x) / image.width, (box.y - image.y) / image.height]")  # fmt: skip
    assert place == pytest.approx([0.25, 0.5], abs=0.02)
    assert page.one(".frames text").get_attribute("textContent") == "light 75"


def test_names_can_be_read_on_the_colours_of_their_classes(page: Page) -> None:
    """24 classes have all colours there are, and WCAG asks for a contrast of 4.5."""
    drawn = page.browser.execute_async_script(
        "const [done] = arguments; import('./draw.js').then(({ draw }) => {"
        "const classes = Array.from({ length: 24 }, (_, label) => `${label}`);"
        "const image = document.createElement('canvas');"
        "[image.width, image.height] = [1000, 1000];"
        "const box = (label) => [200 * (label % 5), 190 * Math.floor(label / 5) + 40, 0, 0];"
        "draw({ predictions: classes.map((label) => ({ label, box: box(label) })) }, image,"
        "document.getElementById('answer'), classes);"
        "done(Array.from(document.querySelectorAll('.frames text'), (text) =>"
        "[text, text.previousElementSibling].map((one) => getComputedStyle(one).fill))) })"
    )

    def luminance(colour: str) -> float:
        shares = np.array([int(value) for value in re.findall(r"\d+", colour)]) / 255
        linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    assert len(drawn) == 24 and len({ground for _, ground in drawn}) == 24
    for colours in drawn:
        less, more = sorted(map(luminance, colours))
        assert (more + 0.05) / (less + 0.05) >= 4.5, colours


def test_masks_lie_over_the_image_and_the_background_stays_clear(page: Page, image: Path) -> None:
    page.choose("segmenter")
    page.give(image)
    assert [line.splitlines()[0] for line in page.found()] == ["background", "light"]
    assert "50.0 % of the image, confidence 90.0 %" in page.found()[1]
    pixel = ("const canvas = document.querySelector('.stage canvas');"
             "const { data } = canvas.getContext('2d').getImageData(0, 20, canvas.width, 1);"
             "return [canvas.width, canvas.height, data[4 * 5 + 3], data[4 * (canvas.width - 5) + 3]]")  # fmt: skip
    assert page.run(pixel) == [WIDTH, HEIGHT, 0, round(255 * 0.55)]


def test_a_seed_makes_the_images_that_sample_makes(page: Page) -> None:
    page.choose("sampler")
    page.run("document.getElementById('label').value = '1'")
    for name, value in (("seed", "7"), ("count", "3")):
        page.one(f"#{name}").clear()
        page.one(f"#{name}").send_keys(value)

    def made() -> np.ndarray:
        page.run("document.getElementById('status').textContent = ''")
        page.one("#sample-form button").click()
        page.answered()
        shown = page.run("return Array.from(document.querySelectorAll('.made canvas'), (one) =>"
                         "[...one.getContext('2d').getImageData(0, 0, one.width, one.height).data])")  # fmt: skip
        pixels = np.array(shown, np.uint8).reshape(3, SIDE, SIDE, 4)
        assert (pixels[..., 3] == 255).all()
        return pixels[..., :3]

    noise = image_noise(7, 0, 3, SIDE).transpose(0, 2, 3, 1)
    assert np.array_equal(made(), (noise * 41 + 128).clip(0, 255).round())
    assert page.one(".made canvas").get_attribute("aria-label") == "light, image 0 of seed 7"
    assert page.status.startswith("3 images.")
    for name, value in (("steps", "10"), ("guidance", "4")):
        page.one(f"#{name}").clear()
        page.one(f"#{name}").send_keys(value)
    assert np.array_equal(made(), (noise * 8 + 156).clip(0, 255).round())


def test_noise_is_numpys_to_the_bit(page: Page) -> None:
    """Long enough for the ziggurat's wedges, its tail and the bounds between them."""
    count = 230_000
    for seed, number in ((0, 0), (7, 3), (2**32 - 1, 2**31)):
        found = page.browser.execute_async_script(
            "const [seed, number, count, done] = arguments; import('./noise.js').then(({ imageNoise }) => {"
            "const words = new Uint32Array(imageNoise(seed, number, count).buffer);"
            "const sum = words.reduce((sum, word) => (Math.imul(sum, 31) + word) >>> 0, 0);"
            "done([sum, Array.from(words.slice(-50))]) })",
            seed, number, count,
        )  # fmt: skip
        generator = np.random.Generator(np.random.PCG64([seed, number]))
        words = generator.standard_normal(count, np.float32).view(np.uint32).tolist()
        total = 0
        for word in words:
            total = (total * 31 + word) & 0xFFFFFFFF
        assert found == [total, words[-50:]]


def test_images_are_dropped_and_pasted(page: Page) -> None:
    page.choose("detector")
    give = ("const [target, type, done] = arguments;"
            "const canvas = document.createElement('canvas'); canvas.toBlob((blob) => {"
            "const given = new DataTransfer(); given.items.add(new File([blob], 'x', { type: blob.type }));"
            "target.dispatchEvent(type === 'drop' ? new DragEvent(type, { dataTransfer: given, bubbles: true })"
            ": new ClipboardEvent(type, { clipboardData: given, bubbles: true }));"
            "done() }, 'image/webp')")  # fmt: skip
    for kind in ("drop", "paste"):
        page.run("document.getElementById('status').textContent = ''")
        page.browser.execute_async_script(give, page.one("#drop"), kind)
        page.answered()
        assert page.found() != []


def test_no_camera_is_left_on(page: Page) -> None:
    page.choose("detector")
    page.run("window.streams = []; const get = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);"
             "navigator.mediaDevices.getUserMedia = async (wanted) =>"
             "{ const one = await get(wanted); window.streams.push(one); return one };"
             "const button = document.getElementById('open-camera'); button.click(); button.click()")  # fmt: skip
    page.wait("window.streams.length === 2 && !document.getElementById('camera').hidden")
    live = "window.streams.filter((one) => one.getTracks().some((track) => track.readyState === 'live'))"
    seen = page.run(f"return {live}.map((one) => one === document.getElementById('viewfinder').srcObject)")
    assert seen == [True]
    page.run("document.getElementById('open-camera').click(); document.querySelector('input[value=sampler]').click()")
    page.wait(f"window.streams.length === 3 && !{live}.length")
    assert not page.one("#viewfinder").is_displayed()


def test_what_is_no_image_is_refused_in_words(browser: Any, server: Server, tmp_path: Path) -> None:
    page = Page(browser, server)
    page.choose("classifier")
    (tmp_path / "notes.txt").write_text("nothing")
    page.one("#file").send_keys(str(tmp_path / "notes.txt"))
    page.wait("/JPEG, PNG and WebP/.test(document.getElementById('problem').textContent)")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    page.one("#file").send_keys(str(tmp_path / "broken.png"))
    page.wait("!document.getElementById('problem').hidden && !document.getElementById('answer').children.length")
    assert page.status == "" and page.one("#problem").get_attribute("role") == "alert"


def test_keys_alone_suffice(page: Page) -> None:
    from selenium.webdriver import ActionChains, Keys

    def press(*keys: str) -> str:
        for key in keys:
            ActionChains(page.browser).send_keys(key).perform()
        return str(page.run("const one = document.activeElement; return one.id || one.value || one.className"))

    assert page.run("return document.activeElement === document.body")
    assert press(Keys.TAB) == "skip"
    assert press(Keys.TAB) == "classifier" and press(Keys.ARROW_DOWN) == "detector"
    assert press(Keys.TAB) == "choose" and press(Keys.TAB) == "open-camera"
    press(Keys.ENTER)
    page.wait("document.activeElement.id === 'shoot'")
    assert press(Keys.ENTER) == "open-camera"
    page.answered()
    assert page.found()[0].startswith("light") and page.run(
        "return document.getElementById('viewfinder').srcObject === null"
    )
    assert press(Keys.TAB) == "found"
    page.run("document.querySelector('input[value=detector]').focus()")
    assert press(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_DOWN) == "classifier"
    assert press(Keys.ARROW_UP) == "segmenter"
    page.answered()  # with the image that was there
    assert press(Keys.ARROW_UP) == "sampler"
    assert press(Keys.TAB) == "label" and press(Keys.TAB) == "seed"
    press(Keys.ENTER)
    page.answered()
    assert page.status.startswith("4 images.")


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_is_wider_than_the_screen(page: Page, image: Path, width: int) -> None:
    for model in ("classifier", "detector", "segmenter"):
        page.choose(model)
        page.give(image)
        assert narrowed(page.browser, width) <= width


def test_readers_of_the_screen_hear_what_each_thing_is(page: Page, image: Path) -> None:
    roles = {"button", "combobox", "image", "img", "list", "radio", "radiogroup", "spinbutton", "textbox", "Video"}

    def heard() -> dict[str, set[str]]:
        nodes = page.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        found: dict[str, set[str]] = {}
        for node in nodes:
            role = node.get("role", {}).get("value", "")
            if not node["ignored"] and role in roles:
                found.setdefault(role, set()).add(node.get("name", {}).get("value", ""))
        return found

    page.choose("segmenter")
    page.give(image)
    seen = heard()
    assert "" not in set().union(*seen.values())
    assert seen["image"] == {"The image that was tried"} and "What the model says" in seen["list"]
    page.choose("sampler")
    page.one("#sample-form button").click()
    page.answered()
    seen = heard()
    assert "" not in set().union(*seen.values())
    assert seen["spinbutton"] == {"Seed", "Images", "Steps", "Guidance"}
    assert "dark, image 3 of seed 0" in seen["image"]


def test_the_policy_stops_what_care_would_have_missed(browser: Any, server: Server) -> None:
    page = Page(browser, server)
    thrown = page.run("try { document.body.innerHTML = '<img src=x onerror=\"window.hit=1\">'; return '' }"
                      "catch (error) { return error.name }")  # fmt: skip
    assert thrown == "TypeError"
    page.run("window.reported = [];"
             "addEventListener('securitypolicyviolation', ({ blockedURI }) => window.reported.push(blockedURI));"
             "const image = new Image(); image.src = 'http://127.0.0.1:9/x.png';"
             "const script = document.createElement('script'); script.append('window.hit = 1');"
             "document.body.append(image, script)")  # fmt: skip
    page.wait("['http://127.0.0.1:9/x.png', 'trusted-types-sink'].every((one) => window.reported.includes(one))")
    assert page.run("return window.hit ?? 0") == 0
    assert asked_for(browser)["http://127.0.0.1:9/x.png"] == "csp"


def test_a_damaged_entry_leaves_the_others_to_be_tried(page: Page, image: Path) -> None:
    config = "(card) => Response.json({ parameters: { 'nanocv.card': { string_value: JSON.stringify(card) } } })"
    answers = {
        "classifier": f"({config})({{}})",
        "detector": f"({config})({{ classes: [], metrics: null, config: {{}} }})",
        "sampler": "Response.json({ error: { code: 5 } }, { status: 500 })",
    }
    instead = "".join(f"if (path.includes('/{name}/')) return {answer};" for name, answer in answers.items())
    page.run("const get = window.fetch;"
             f"window.fetch = async (path, request) => {{ {instead} return get(path, request) }};"
             "document.getElementById('key').value = 'any';"
             "document.getElementById('key-form').requestSubmit()")  # fmt: skip
    page.wait("document.querySelectorAll('#models input:disabled').length")
    told = dict(line.text.splitlines()[:2] for line in page.browser.find_elements("css selector", ".choice"))
    damaged = "its model card is damaged"
    assert told["classifier"] == told["detector"] == damaged and told["sampler"] == "The server answers 500."
    page.give(image)
    assert "50.0 % of the image" in page.found()[1] and page.one("#try-title").text == "Try segmenter"


def test_a_key_is_asked_for_and_kept_nowhere(browser: Any, repository: Path, image: Path, tmp_path: Path) -> None:
    """Its rate is less than the page asks for at once: it waits as long as the server says."""
    key = add_key(tmp_path / "keys", "visitor", ["infer"], 5.0)
    with started(repository, "embedded", "none", "--key-file", str(tmp_path / "keys")) as running:
        page = Page(browser, running)
        assert page.one("#key").is_displayed() and "key" in page.one("#problem").text
        page.one("#key").send_keys("wrong\n")
        page.wait("!document.getElementById('key').value && !document.getElementById('problem').hidden")
        page.one("#key").send_keys(f"{key}\n")
        page.wait("document.querySelectorAll('#models input').length")
        assert page.run("return document.querySelectorAll('#models input:enabled').length") == 4
        page.choose("detector")
        page.give(image)
        assert page.found() and not page.one("#key").is_displayed()
        kept = page.run("return [localStorage.length, sessionStorage.length, document.cookie, location.href]")
        assert kept == [0, 0, "", f"{page.origin}/"] and page.run("return document.getElementById('key').value") == ""
        assert key not in page.browser.page_source
