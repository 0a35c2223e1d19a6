"""A tracker told from a thread of its own: one that is down or slow never stops a training, nor slows it."""

import re
import threading
from collections.abc import Callable
from typing import Any

from nanocv_cli.training.recorders.tracker import Outcome, Tracker
from nanocv_cli.untrusted import first_line

LONGEST_PAUSE = 60.0  # seconds between two attempts
PATIENCE = 60.0  # seconds that the end of a training waits for a tracker that answers, such as for a large model

Telling = Callable[[Tracker], Any]
Say = Callable[[str], None]


class BackgroundTracker:
    """Tells a tracker the story as it happens, and again from the start after a failure.

    What waits is the story itself: an entry for each evaluated epoch, whose rows the training's state holds anyway.

    Args:
        name: of the tracker, for people.
        make: opens it, in the thread; importing its library is part of that.
        say: takes a line for people, from any thread.
    """

    def __init__(self, name: str, make: Callable[[], Tracker], say: Say) -> None:
        self._name, self._make, self._say = name, make, say
        self._story: list[Telling] = []
        self._told = 0
        self._changed = threading.Condition()
        self._closing = self._gave_up = False
        self._thread = threading.Thread(target=self._work, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def tell(self, telling: Telling) -> None:
        """Adds to the story; returns at once."""
        with self._changed:
            self._story.append(telling)
            self._changed.notify_all()

    def close(self, outcome: Outcome) -> None:
        """Ends the story, and waits for what is still to be told: until it fails once more, or `PATIENCE` is over."""
        with self._changed:
            self._story.append(lambda tracker: self._note(tracker.end(outcome)))
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._gave_up or self._told == len(self._story), PATIENCE)
            missing = len(self._story) - self._told
            self._gave_up = True
        if missing:
            self._say(f"warning: {self._name}: the last {missing} of {len(self._story)} entries are lost there; "
                      "the run folder holds all of them")  # fmt: skip

    def _work(self) -> None:
        tracker: Tracker | None = None
        failures, warned, recovered = 0, False, False
        told, place, begun = 0, "", False
        while self._wait_for_work(begun):
            try:
                tracker = tracker or self._make()
                if not begun:
                    before, place, told = place, tracker.begin(), 0
                    self._note(place if place != before else "")
                    begun = True
                while told < len(self._story):
                    self._story[told](tracker)
                    told += 1
                    with self._changed:
                        self._told = max(self._told, told)
                        self._changed.notify_all()
            # Libraries of others, and the servers behind them, fail in any way there is; training goes on.
            except Exception as error:
                failures, begun = failures + 1, False
                if not warned:
                    # A tracker's address may hold a password.
                    why = re.sub(r"//[^/@\s]*@", "//", first_line(error))
                    self._say(f"warning: {self._name} records nothing at present: {why}; the training goes on, and "
                              "what is missed is recorded later")  # fmt: skip
                    warned = True
                self._pause(min(2.0**failures, LONGEST_PAUSE))
            else:
                if failures and not recovered:
                    self._say(f"{self._name} records again, and has what it missed")
                    recovered = True
                failures = 0

    def _wait_for_work(self, begun: bool) -> bool:
        """Waits until there is something to tell, which there is at the beginning; whether it is still wanted."""
        with self._changed:
            self._changed.wait_for(lambda: self._gave_up or not begun or self._told < len(self._story))
            return not self._gave_up

    def _pause(self, seconds: float) -> None:
        """Waits before the next attempt; where the training has ended, there is none."""
        with self._changed:
            if self._closing:
                self._gave_up = True
                self._changed.notify_all()
            else:
                self._changed.wait_for(lambda: self._closing, seconds)

    def _note(self, text: str) -> None:
        if text:
            self._say(f"{self._name}: {text}")
