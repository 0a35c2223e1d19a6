"""One thing to know about a set."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing to know about a set.

    Attributes:
        level: `error` (training would fail or be misled) or `warning`.
        kind: unreadable, leak, conflict, duplicate, lonely_class, small, stray or note; of boxes size, no_area,
            outside, border, twice, empty, crowd or difficult; of masks mask, size or unlabelled.
        message: one line.
        paths: the files concerned.
    """

    level: str
    kind: str
    message: str
    paths: tuple[str, ...] = ()
