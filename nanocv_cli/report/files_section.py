"""Whether the exported graph answers like its checkpoint, with which versions, and how to do it all again."""

import re
import shlex
from pathlib import PurePath

from nanocv_cli.config.loader import load_group
from nanocv_cli.config.located import flatten
from nanocv_cli.machine import versions
from nanocv_cli.report.markup import Html, element, joined, listed, note, table
from nanocv_cli.report.section import Section, attempt
from nanocv_cli.report.subject import Subject
from nanocv_cli.report.training_sections import FROM, OPTION, value_text

CONFIG_FILE = re.compile(r"(.+\.ya?ml)(?::\d+)?")
GROUPS = ("data", "model", "train")


def parity_section(subject: Subject) -> Section:
    """How far the graph strays from the checkpoint, as its export measured it."""
    title, summary = "Is the graph the model", subject.summary.value
    if summary is None or summary.parity is None:
        why_not = subject.summary.why_not or "the run did not keep it"
        again = "nanocv export onnx measures it again, and writes no graph that strays"
        return Section("parity", title, None, f"{why_not}; {again}")
    told = f"On {summary.parity.n} real images no output of the exported graph is further from the checkpoint's than "
    return Section("parity", title, element("p", told, element("b", f"{summary.parity.max_abs_error:.2g}"), "."))


def again_section(subject: Subject) -> Section:
    """The commands, and the versions then and now."""
    data = _data_named(subject)
    commands = [
        *([training_command(subject)] if subject.origins.value else []),
        ["nanocv", "eval", "--model", subject.place, *(["--data", data] if data else []), "--engine", "onnx"],
        ["nanocv", "bench", "model", "--model", subject.place],
        ["nanocv", "report", subject.place],
    ]
    told: list[Html] = [element("pre", *(element("code", shlex.join(words)) for words in commands))]
    if not subject.origins.value:
        told.append(note(f"How it was trained is not known word by word: {subject.origins.why_not}"))
    now, then = versions(), subject.summary.value.versions if subject.summary.value else {}
    names = list(dict.fromkeys((*then, *now)))
    if then:
        rows = [(name, then.get(name, ""), now.get(name, "")) for name in names]
        told.append(table(["version of", "trained with", "this page"], rows, words=(0, 1, 2)))
    else:
        told.append(note(f"Trained with nanocv {subject.card.version or 'of an unknown version'}; this page with"))
        told.append(listed((name, now[name]) for name in names))
    told.append(note(f"Hash of what decides what is learnt: {subject.card.config_hash}"))
    return Section("again", "How to do it again", joined(told))


def training_command(subject: Subject) -> list[str]:
    """The training as one command: each group by its name or file, and what options gave as `--set` or `--from`."""
    values, origins = flatten(subject.card.config), subject.origins.value or {}
    words = ["nanocv", "train"]
    for group in GROUPS:
        if named := _named(group, values, origins):
            words += [f"--{group}", named]
    for key, value in values.items():
        origin = origins.get(key, "")
        if origin == FROM:
            words += [FROM, value_text(value)]
        elif origin.startswith(OPTION) and origin.lstrip("-") not in GROUPS:
            words += ["--set", f"{key}={value_text(value)}"]
    return words


def _data_named(subject: Subject) -> str | None:
    """The set as `--data` takes it: as the run was asked for it, else by the config of its name that leads to the same
    folder, else by its folder.
    """
    values = flatten(subject.card.config)
    if named := _named("data", values, subject.origins.value or {}):
        return named
    where, name = values.get("data.path"), subject.card.data
    known = attempt(lambda: load_group("data", name)[0].model_dump()["path"]).value
    return name if where and known == where else str(where) if where else None


def _named(group: str, values: dict[str, object], origins: dict[str, str]) -> str | None:
    """What chose a group: the config's name, the file that is none of the project's, or a folder of images."""
    for key, origin in origins.items():
        if not key.startswith(f"{group}."):
            continue
        if found := CONFIG_FILE.fullmatch(origin):
            path = PurePath(found[1])
            return path.stem if path.parent.name == group else str(path)
        if origin == f"{OPTION}{group}":
            chosen = values.get(f"{group}.path") if group == "data" else values.get(f"{group}.architecture")
            return str(chosen) if chosen else None
    return None
