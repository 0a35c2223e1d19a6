"""What each key of a config means and who reads it: rows for `nanocv config explain`, and docs/config.md."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from nanocv_cli.config.expected_type import expected, fields_at
from nanocv_cli.config.nearest import nearest
from nanocv_cli.config.owners import Owner, owners
from nanocv_cli.config.schema import GROUP_MODELS
from nanocv_cli.errors import ConfigError

PAGE_HEAD = """# Config keys

Every key is declared by who reads it, and refused where nobody does. `nanocv config explain KEY` prints a row of these
tables, `nanocv config show` the values of a run and where each came from, `--set KEY=VALUE` changes one.
This page is made by `python scripts/config_page.py`.
"""


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        name: dotted, with its group: `train.augment.flip`.
        meaning: what it is for, with its unit.
        takes: its type and range, in words.
        default: as YAML has it; empty where there is none, for the key must be given.
        owner: who reads it.
    """

    name: str
    meaning: str
    takes: str
    default: str
    owner: str


def keys(group: str) -> Iterator[Key]:
    """All keys of a group, owner by owner."""
    for owner in owners(group):
        yield from _of(owner, group, [])


def explained(wanted: str) -> list[Key]:
    """The keys that are called so, or stand below it; all of them for an empty text.

    Raises:
        ConfigError: there is no such key.
    """
    known = [key for group in GROUP_MODELS for key in keys(group)]
    found = [key for key in known if not wanted or key.name == wanted or key.name.startswith(f"{wanted}.")]
    if not found:
        names = {key.name: None for key in known} | {key.name.rpartition(".")[2]: None for key in known}
        hint = nearest(wanted, names) or "nanocv config explain lists all keys"
        meant = [key.name for key in known if key.name.rpartition(".")[2] == wanted]
        raise ConfigError(f"no key {wanted!r}", f"did you mean {meant[0]}?" if meant else hint)
    return found


def page() -> str:
    """All keys as one page of Markdown, a table for each owner."""
    parts = [PAGE_HEAD]
    for group in GROUP_MODELS:
        parts.append(f"\n## {group}\n")
        owner = ""
        for key in keys(group):
            if key.owner != owner:
                owner = key.owner
                parts.append(f"\n### {owner}\n\n| key | meaning | takes | default |\n|---|---|---|---|\n")
            cells = (f"`{key.name}`", key.meaning, key.takes, f"`{key.default}`" if key.default else "must be given")
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return "".join(parts)


def _of(owner: Owner, group: str, path: list[str]) -> Iterator[Key]:
    inherited = fields_at(owner.inherited, path) if owner.inherited else {}
    for name, field in fields_at(owner.section, path).items():
        if name in inherited:
            continue
        here = [*path, name]
        if fields_at(owner.section, here):
            yield from _of(owner, group, here)
        elif not (group == "model" and here == ["args"]):
            full = f"{group}.{owner.prefix}{'.'.join(here)}"
            yield Key(full, field.description or "", expected(owner.section, here), _default(field), owner.name)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    return _as_yaml(field.get_default(call_default_factory=True, validated_data={}))


def _as_yaml(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_as_yaml, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
