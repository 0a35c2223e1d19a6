"""No text of anybody becomes markup."""

from html.parser import HTMLParser

import pytest

from nanocv_cli.report.markup import element, figure_text, table, text

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onmouseover='x", "&lt;", "</td>")


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def seen(markup: str) -> Seen:
    parser = Seen()
    parser.feed(markup)
    parser.close()
    return parser


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_text_stays_a_text_wherever_it_stands(hostile: str) -> None:
    found = seen(element("p", hostile, title=hostile))
    assert found.tags == ["p"]
    assert found.attributes == [("title", hostile)]
    assert "".join(found.texts) == hostile
    cells = seen(table(["name", hostile], [(hostile, 1.0)], words=(0,)))
    assert set(cells.tags) == {"div", "table", "thead", "tbody", "tr", "th", "td"}
    assert cells.texts.count(hostile) == 2


def test_control_characters_are_shown_as_their_escapes() -> None:
    assert text("\x1b[31mred\u202e") == r"\x1b[31mred\u202e"
    assert element("i", title="a\nb") == r'<i title="a\nb"></i>'


def test_markup_is_taken_as_it_is() -> None:
    assert element("p", element("b", "x"), None, "<") == "<p><b>x</b>&lt;</p>"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0.98, "0.9800"), (1234567, "1,234,567"), (2e-5, "2.0e-05"), (1234.5, "1,234"), (0.0, "0.0000")],
)
def test_figures_for_people(value: float | None, shown: str) -> None:
    assert figure_text(value) == shown
