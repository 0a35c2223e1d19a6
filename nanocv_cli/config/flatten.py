"""Nested values as dotted keys, and back."""

from typing import Any


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
