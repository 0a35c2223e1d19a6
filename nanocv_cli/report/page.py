"""One HTML file that needs nothing else: its own style and script, and a policy that forbids everything beside them."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from nanocv_cli import __version__
from nanocv_cli.files import write_text
from nanocv_cli.report.markup import Html, element, joined, text
from nanocv_cli.report.section import Section

ASSETS = files("nanocv_cli.report") / "assets"
POLICY = (
    "default-src 'none'; img-src data:; style-src '{style}'; script-src '{script}'; base-uri 'none'; form-action 'none'"
)


def write_page(target: Path, title: str, header: Html, sections: Sequence[Section]) -> None:
    """Writes the page, atomically.

    Args:
        target: the file.
        title: of the browser's window.
        header: what stands above the sections.
        sections: in their order.

    Raises:
        StorageError: it cannot be written.
    """
    style, script = ((ASSETS / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    contents = joined(element("a", section.title, href=f"#{section.key}") for section in sections)
    page = Template((ASSETS / "page.html").read_text(encoding="utf-8")).substitute(
        policy=text(POLICY.format(style=_digest(style), script=_digest(script))),
        title=text(title),
        style=style,
        script=script,
        header=header,
        contents=contents,
        sections=joined(section.render() for section in sections),
        footer=element("p", f"Written by nanocv {__version__}: one file, which asks nothing of any network."),
    )
    write_text(target, page)


def _digest(content: str) -> str:
    """A style or script as the policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def tiles(figures: Sequence[tuple[str, str]]) -> Html:
    """Figures large, what they are small below them."""
    return element(
        "div", *(element("div", element("b", value), element("span", name), class_="tile") for name, value in figures),
        class_="tiles",
    )  # fmt: skip
