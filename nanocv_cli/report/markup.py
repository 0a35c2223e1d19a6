"""HTML that cannot be broken out of: whatever is no `Html` is escaped, of text as of attributes."""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from nanocv_cli.untrusted import escaped

EMPTY_ELEMENTS = {"img", "line", "rect", "circle", "path", "br"}
OPEN_ROWS = 40  # of a table that is not folded
LONGEST_TEXT = 2000  # characters; of a cell, a name, a message


class Html(str):
    """Markup that `element` made; every other text is text."""

    __slots__ = ()


def text(value: object) -> Html:
    """A text of anybody as markup that shows it: control characters as their escapes, `<` and quotes as themselves."""
    shown = escaped(str(value))
    if len(shown) > LONGEST_TEXT:
        shown = f"{shown[:LONGEST_TEXT]}…"
    return Html(html.escape(shown))


def joined(parts: Iterable[object]) -> Html:
    """Markup and texts one after the other."""
    return Html("".join(part if isinstance(part, Html) else text(part) for part in parts))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """An element with its children.

    Args:
        tag: its name, a word of ours.
        children: `Html` as it is, everything else as text; None is nothing.
        attributes: `data_x` is `data-x`, `class_` is `class`, `viewBox` itself; None and False are left out, True
            stands alone. No `style`: the page's policy forbids it.
    """
    written = "".join(
        f" {_attribute(name)}" if value is True else f' {_attribute(name)}="{_value(value)}"'
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    if tag in EMPTY_ELEMENTS:
        return Html(f"<{tag}{written}>" if tag in ("img", "br") else f"<{tag}{written}/>")
    return Html(f"<{tag}{written}>{joined(child for child in children if child is not None)}</{tag}>")


def _attribute(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _value(value: object) -> str:
    """Attributes hold numbers, words of ours, texts of others and data URIs, which are long."""
    return f"{value:.6g}" if isinstance(value, float) else html.escape(escaped(str(value)))


def figure_text(value: object) -> str:
    """A figure for people: whole numbers whole, others to four places, large and tiny ones to four digits."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.1f}"
    return f"{value:.4f}" if size >= 0.001 or value == 0 else f"{value:.1e}"


def bytes_text(count: float) -> str:
    """Bytes for people."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} bytes"


def table(
    header: Sequence[str], rows: Iterable[Sequence[object]], *, words: Sequence[int] = (0,), sortable: bool = False
) -> Html:
    """A table that scrolls sideways where the screen is narrow.

    Args:
        header: names of the columns.
        rows: their cells; numbers are written as `figure_text` does, and sorted by their value.
        words: places of the columns that hold words; the others hold figures.
        sortable: whether a click on a column's name sorts by it.
    """
    names = [
        element(
            "th", element("button", name, type="button") if sortable else name, scope="col", class_=_kind(place, words)
        )
        for place, name in enumerate(header)
    ]
    lines = [element("tr", *(_cell(cell, _kind(place, words)) for place, cell in enumerate(row))) for row in rows]
    inner = element(
        "table",
        element("thead", element("tr", *names)),
        element("tbody", *lines),
        class_="sortable" if sortable else None,
    )
    return element("div", inner, class_="scroll", tabindex="0", role="region", aria_label="table")


def _kind(place: int, words: Sequence[int]) -> str:
    return "word" if place in words else "figure"


def _cell(value: Any, kind: str) -> Html:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    shown = value if isinstance(value, Html) else figure_text(value)
    return element("td", shown, class_=kind, data_value=repr(value) if is_number else None)


def listed(pairs: Iterable[tuple[str, object]]) -> Html:
    """Names with what they stand for."""
    return element(
        "dl", *(joined([element("dt", name), element("dd", value)]) for name, value in pairs), class_="facts"
    )


def folded(title: str, *children: object) -> Html:
    """What is shown when it is asked for, and when the page is printed."""
    return element("details", element("summary", title), *children)


def brief(whole: Html, rows: int, what: str) -> Html:
    """A table as it is, or folded where it has more rows than are taken in at a glance."""
    return whole if rows <= OPEN_ROWS else folded(f"All {rows:,} {what}", whole)


def note(words: object) -> Html:
    """A remark in smaller letters."""
    return element("p", words, class_="note")
