"""The name that was probably meant."""

import difflib
from collections.abc import Iterable

# Names that nanocv gave up, for what they stand for is somebody else's: NanoDet is a published detector.
FORMER_NAMES = {"nanodet": "nanospot", "nanodet-flowers": "nanospot-flowers"}
# Config keys that moved to their owner, or were called by one name under two laws.
FORMER_KEYS = {"model.dropout": "model.args.dropout"}


def nearest(name: str, known: Iterable[str], prefix: str = "", likeness: float = 0.6) -> str:
    """What a name that nobody knows was probably to be, as a hint.

    Args:
        name: as it was given.
        known: the names there are.
        likeness: least of a name that is offered, 0..1 (`difflib`).
        prefix: what stands before the name in the hint.

    Returns:
        `NAME is called OTHER now` for a name that was given up, `did you mean OTHER?` for the known name most like it;
        empty where there is none.
    """
    candidates = list(known)
    now = FORMER_NAMES.get(name)
    if now in candidates:
        return f"{name} is called {now} now"
    near = difflib.get_close_matches(name, candidates, 1, likeness)
    return f"did you mean {prefix}{near[0]}?" if near else ""
