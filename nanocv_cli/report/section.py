"""A part of the page, or the reason why it cannot be told."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from nanocv_cli.errors import InternalError, as_failure
from nanocv_cli.report.markup import Html, element

Value = TypeVar("Value")


@dataclass(frozen=True)
class Found(Generic[Value]):
    """What was looked for; None and the reason where it could not be had."""

    value: Value | None
    why_not: str = ""


def attempt(find: Callable[[], Value]) -> Found[Value]:
    """Looks for something that the page can do without: it may be gone, damaged, or need a package that is not here.

    Raises:
        InternalError: a defect of nanocv, which no page hides.
    """
    try:
        return Found(find())
    except Exception as error:  # whatever a missing set, a damaged file or an absent package raises
        failure = as_failure(error)
        if isinstance(failure, InternalError):
            raise
        return Found(None, f"{failure.message} ({failure.hint})")


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        key: its anchor, and its name in `nanocv report --json`.
        title: for people.
        body: what it tells; None: nothing can be told.
        why_not: the reason for that.
    """

    key: str
    title: str
    body: Html | None
    why_not: str = ""

    def render(self) -> Html:
        """The section under its title."""
        told = self.body if self.body is not None else element("p", f"Cannot be told: {self.why_not}", class_="missing")
        return element("section", element("h2", self.title), told, id=self.key)
