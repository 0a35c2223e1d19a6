"""A real browser for pages: Debian's chromium, driven by selenium; without them the tests that need it are skipped."""

import json
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
ARGUMENTS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-background-networking",
    "--window-size=1200,900",
    "--use-fake-device-for-media-stream",  # a camera that shows a pattern,
    "--use-fake-ui-for-media-stream",  # and a user who lends it
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One for all tests."""
    pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no chromium with its driver here: apt-get install chromium chromium-driver")
    driver = start_browser()
    try:
        yield driver
    finally:
        driver.quit()


def start_browser() -> Any:
    """Chromium without a window, and with its logs kept; who starts it quits it."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ARGUMENTS:
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # chromium refuses to run as root with it
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


def opened(browser: Any, url: str, width: int = 1200) -> Any:
    """A page in the browser, whose logs begin with it."""
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.set_window_size(width, 900)
    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(url)
    return browser


def asked_for(browser: Any) -> dict[str, str]:
    """What the page has asked for since it was opened, but for what stands in itself, each with why it was blocked."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls, blocked = {}, {}
    for event in events:
        told = event["params"]
        if event["method"] == "Network.requestWillBeSent" and not told["request"]["url"].startswith("data:"):
            urls[told["requestId"]] = told["request"]["url"]
        if event["method"] == "Network.loadingFailed":
            blocked[told["requestId"]] = told.get("blockedReason", "")
    return {url: blocked.get(number, "") for number, url in urls.items()}


def narrowed(browser: Any, width: int) -> int:
    """How wide the page is on a screen of this width, pixels."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    found: int = browser.execute_script("return document.documentElement.scrollWidth")
    return found
