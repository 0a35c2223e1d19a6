"""Live progress on stderr: bars on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nanocv_cli.output import say
from nanocv_cli.untrusted import escaped, printable

SECONDS_BETWEEN_LINES = 10.0
LONGEST_NOTE = 100  # characters


class Display:
    """Where long work tells how far it is.

    Args:
        console: stderr by default; bars are drawn if it is a terminal that can move its cursor (`TERM=dumb` says it
            cannot), coloured unless `NO_COLOR` is set.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._draws = self.console.is_terminal and not self.console.is_dumb_terminal

    @classmethod
    def silent(cls) -> "Display":
        """One that tells nothing: of a process that does not lead."""
        return cls(Console(quiet=True))

    def say(self, text: str) -> None:
        """One line."""
        if self._draws:  # above a bar that may be there
            self.console.print(escaped(text), markup=False, emoji=False)
        elif not self.console.quiet:
            say(text, self.console.file)

    @contextmanager
    def bar(self, title: str) -> Iterator[Callable[..., None]]:
        """Yields `update(done, total, note="")` for one piece of work.

        On a terminal a bar with the time left, which vanishes at the end; elsewhere a line every ten seconds.
        """
        if self._draws:
            columns = (
                # Names are in these texts, and `[` in a name begins no markup.
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}", markup=False),
            )
            with Progress(*columns, TimeRemainingColumn(), console=self.console, transient=True) as progress:
                bar = progress.add_task(escaped(title), total=None, note="")

                def draw(done: int, total: int, note: str = "") -> None:
                    progress.update(bar, completed=done, total=total, note=printable(note, LONGEST_NOTE))

                yield draw
            return
        last = time.monotonic()

        def print_now_and_then(done: int, total: int, note: str = "") -> None:
            nonlocal last
            if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                self.say(f"{title} {done}/{total} {note}".rstrip())

        yield print_now_and_then
