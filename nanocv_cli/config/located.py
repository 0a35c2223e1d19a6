"""Nested values by their dotted keys, and where each was written: what messages and `config show` point at."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Located:
    """Nested values before they are typed.

    Attributes:
        values: as they were read.
        places: where each was written, by dotted key: `file:line`, `--data`, `--set train.epochs=5`;
            of list items too (`mean.0`).
        start: the place of what is not written at all, such as a missing key.
    """

    values: dict[str, Any]
    places: dict[str, str]
    start: str

    def where(self, key: str) -> str:
        """The place of a dotted key, or of the nearest enclosing one that has a place."""
        while key and key not in self.places:
            key = key.rpartition(".")[0]
        return self.places.get(key, self.start)

    def value(self, key: str) -> Any:
        """What is written at a dotted key; None where nothing is."""
        node: Any = self.values
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        return node

    def holds(self, key: str) -> bool:
        """Whether a dotted key is written, be it as null."""
        parent, _, name = key.rpartition(".")
        enclosing = self.value(parent) if parent else self.values
        return isinstance(enclosing, dict) and name in enclosing

    def part(self, key: str) -> "Located | None":
        """What is written below a key, with its places; None where no mapping is."""
        values = self.values.get(key)
        if not isinstance(values, dict):
            return None
        places = {name.removeprefix(f"{key}."): at for name, at in self.places.items() if name.startswith(f"{key}.")}
        return Located(values, places, self.where(key))

    def replaced(self, key: str, value: Any, place: str) -> "Located":
        """A copy in which a dotted key, and all below it, is `value`, written at `place`.

        An enclosing key that holds no mapping becomes one, and is then written at `place` too.
        """
        values, places = deepcopy(self.values), {key: place}
        *parents, last = key.split(".")
        target = values
        for depth, parent in enumerate(parents, 1):
            if not isinstance(target.get(parent), dict):
                target[parent] = {}
                places[".".join(parents[:depth])] = place
            target = target[parent]
        target[last] = value
        kept = {old: at for old, at in self.places.items() if not old.startswith(f"{key}.")}
        return Located(values, kept | places, self.start)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"train": {"epochs": 5}}` becomes `{"train.epochs": 5}`; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def nest(flat: dict[str, Any]) -> dict[str, Any]:
    """`{"train.epochs": 5}` becomes `{"train": {"epochs": 5}}`."""
    values: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        target = values
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = value
    return values
