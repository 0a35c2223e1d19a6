"""The contract of the command line, for every command, every parameter and every hostile value of it.

The commands and parameters are those of the command line itself, so that none can be forgotten. For each pair: exit
status 0, 1 or 2 within 20 seconds; no traceback and no defect; a failure is one line what and one line what to do;
with `--json` stdout parses; nothing on either stream acts on a terminal; what fails leaves nothing behind.
"""

import contextlib
import io
import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from nanocv_cli.app import app, main
from nanocv_cli.config.expected_type import fields_at
from nanocv_cli.config.owners import owners
from nanocv_cli.config.schema import GROUP_MODELS
from tests.bench.fake_server import Behaviour, fake_server
from tests.contract.values import values_for
from tests.contract.world import BASES, OTHER_BASES, World, end_server_when_ready, make_world, stand_ins

pytestmark = pytest.mark.slow(120)

SECONDS = 20
# Of these no value is hostile: they take none.
FLAGS = {"as_json", "debug", "version", "help"}


@dataclass(frozen=True)
class Parameter:
    """One parameter of the command line: `option` is empty for a positional one."""

    command: tuple[str, ...]
    name: str
    option: str
    is_flag: bool
    takes: str  # what its value is called: N a whole number, X any


def parameters() -> list[Parameter]:
    """All of them, from the tree that typer builds."""

    def below(node: Any, path: tuple[str, ...]) -> Iterator[Parameter]:
        for name, child in getattr(node, "commands", {}).items():
            yield from below(child, (*path, name))
        if not hasattr(node, "commands") or path:  # a group with parameters is a command too
            for one in node.params:
                option = max(one.opts, key=len) if one.param_type_name == "option" else ""
                yield Parameter(
                    path, one.name, option, bool(getattr(one, "is_flag", False)), one.metavar or one.type.name
                )

    return list(below(typer.main.get_command(app), ()))


ALL = parameters()
COMMANDS = list(dict.fromkeys(one.command for one in ALL))


class Told(io.StringIO):
    """A stream that remembers what it is told, and tells `serve run` to end."""

    def write(self, text: str) -> int:
        end_server_when_ready(text)
        return super().write(text)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = make_world(tmp_path_factory.mktemp("contract"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.folder)
        patch.setenv("NANOCV_CACHE", str(made.pristine.parent / "cache"))
        yield made


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with fake_server(Behaviour()) as address:
        yield address


def call(command: tuple[str, ...], given: dict[str, str], server: str, *more: str) -> tuple[int, str, str]:
    """Runs a command in this process; returns its exit status, stdout and stderr."""
    by_name = {one.name: one for one in ALL if one.command == command}
    positional = [text for name, text in given.items() if not by_name[name].option]
    options = [part for name, text in given.items() if by_name[name].option for part in (by_name[name].option, text)]
    words = [text.replace("{server}", server) for text in (*positional, *options)]
    out, err = Told(), Told()

    def too_long(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"not done after {SECONDS} s")

    former = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patch.setattr(sys, "argv", ["nanocv", *command, *words, *more])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"no image")))
            with pytest.raises(SystemExit) as ended:
                main()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
    assert isinstance(ended.value.code, int)
    return ended.value.code, out.getvalue(), err.getvalue()


def broken_rules(code: int, out: str, err: str, as_json: bool, is_debugged: bool) -> list[str]:
    """Every rule of the contract that a command's ending breaks."""
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    hints = [line for line in err.splitlines() if line.startswith("  try: ")]
    broken = {
        f"exit status {code}": code not in (0, 1, 2),
        "traceback": "Traceback" in err + out and not is_debugged,
        "defect": "defect of nanocv" in err,
        f"{len(errors)} lines what, {len(hints)} what to do": code != 0 and (len(errors), len(hints)) != (1, 1),
        "an error, but exit status 0": code == 0 and bool(errors),
        "an empty line what or what to do": any(len(line.split(": ", 1)[1].strip()) < 3 for line in errors + hints),
        "a line too long": max(map(len, (errors + hints) or [""])) > 1100,
        "letters that act on a terminal": not all(map(str.isprintable, (out + err).split("\n"))),
        "no UTF-8": bool((out + err).encode(errors="replace").count(b"?") - (out + err).count("?")),
    }
    if as_json:
        try:
            documents = [json.loads(line) for line in out.splitlines()]
            broken["no document"] = code == 0 and not documents
        except ValueError:
            broken["no JSON on stdout"] = True
    return [rule for rule, is_broken in broken.items() if is_broken]


def test_every_command_has_a_base_and_no_base_is_of_no_command() -> None:
    assert set(BASES) == set(COMMANDS)
    known = {(one.command, one.name) for one in ALL}
    assert {(command, name) for command, base in BASES.items() for name in base} <= known
    assert {(command, name) for (command, _), base in OTHER_BASES.items() for name in base} <= known
    assert set(OTHER_BASES) <= known


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_bases_do_their_work(world: World, server: str, command: tuple[str, ...]) -> None:
    """Else the sweep would stop at an error that has nothing to do with the value."""
    before = world.snapshot()
    for base in [BASES[command], *(other for (owner, _), other in OTHER_BASES.items() if owner == command)]:
        with stand_ins(server):
            code, _, err = call(command, base, server, *([] if command == ("infer",) else ["--json"]))
        world.restore(dict(world.snapshot().items() ^ before.items()))
        before = world.snapshot()
        reached = code == 0 or any(
            words in err for words in ("tested here", "no stage of dvc.yaml", "storage URI", "makes no images",
                                       "needs --grpc-url", "only answers", "--tile is for", "finished",
                                       "nothing was removed", "that is a cluster")
        )  # fmt: skip
        assert reached, (base, code, err)


@pytest.mark.parametrize("parameter", ALL, ids=lambda one: f"{' '.join(one.command)} {one.option or one.name}")
def test_no_value_breaks_the_contract(world: World, server: str, parameter: Parameter) -> None:
    base = OTHER_BASES.get((parameter.command, parameter.name), BASES[parameter.command])
    failures = []
    before = world.snapshot()
    with stand_ins(server):
        for kind, value in ({"given": ""} if parameter.is_flag else values_for(parameter.name)).items():
            given = base if parameter.is_flag else {**base, parameter.name: value}
            more = [parameter.option] if parameter.is_flag else []
            # What stands behind `--` is no option; and lines for people are looked at too.
            as_json = "--json" not in more and kind not in ("controls", "dashes")
            code, out, err = call(parameter.command, given, server, *more, *(["--json"] if as_json else []))
            broken = broken_rules(code, out, err, as_json, parameter.name == "debug")
            changed = dict(world.snapshot().items() ^ before.items())
            if changed:
                if code != 0:
                    broken.append(f"left behind or changed: {sorted(changed)[:4]}")
                world.restore(changed)
                before = world.snapshot()
            if broken:
                failures.append(f"{kind}: {', '.join(broken)}\n    {err[-300:]}")
    assert not failures, "\n".join(failures)
    assert Path("/dev/full").is_char_device() and Path("/dev/zero").is_char_device()


NO_NUMBERS = [
    "NaN",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "1e308",
    "-1e308",
    "9" * 5000,
    "10" * 30,
    "-" + "9" * 30,
    "x",
    "0x10",
    ",",
]
# Judged by the schema of serve configs, as they stand in files too.
BY_SCHEMA = {"max_batch", "queue_delay_us", "instances", "threads", "version"}


@pytest.mark.parametrize("parameter", [one for one in ALL if one.takes in ("N", "X", "N,N", "int", "float")],
                         ids=lambda one: f"{' '.join(one.command)} {one.option}")  # fmt: skip
def test_every_number_is_finite_and_bounded(world: World, server: str, parameter: Parameter) -> None:
    assert parameter.takes not in ("int", "float") or (
        parameter.command == ("serve", "config") and parameter.name in BY_SCHEMA
    ), "numbers in options are made by `number_option`, with bounds"
    base = OTHER_BASES.get((parameter.command, parameter.name), BASES[parameter.command])
    with stand_ins(server):
        for value in [*NO_NUMBERS, *(["0.5"] if parameter.takes != "X" else [])]:
            code, out, err = call(parameter.command, {**base, parameter.name: value}, server, "--json")
            assert code == 2, (value, err)
            assert parameter.option.removeprefix("--") in err and not broken_rules(code, out, err, True, False)


SCALARS = ["nan", "-.inf", "-1", "1e400", "9" * 5000, "1e308", "''", "null", "[nan, nan, nan]", "{a: {b: c}}",
           "a\x1b]0;t\x07\r\nb", "\udcff", "x" * 5000, "*a"]  # fmt: skip


def keys_of(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """Every dotted key of a config, and those of what is nested in it."""
    for name in model.model_fields:
        yield f"{prefix}.{name}"
        yield from (f"{prefix}.{name}.{inner}" for inner in fields_at(model, [name]))


@pytest.mark.parametrize("group", GROUP_MODELS)
def test_no_value_of_any_config_key_breaks_the_contract(world: World, server: str, group: str) -> None:
    is_run = group != "serve"
    command = ("config", "show") if is_run else ("serve", "config")
    base, more = ({}, []) if is_run else (BASES[command], ["--check"])
    failures = []
    before = world.snapshot()
    for key in dict.fromkeys(
        key for owner in owners(group) for key in keys_of(owner.section, f"{group}.{owner.prefix}".rstrip("."))
    ):
        for value in SCALARS:
            code, out, err = call(command, {**base, "overrides": f"{key}={value}"}, server, "--json", *more)
            if broken := broken_rules(code, out, err, True, False):
                failures.append(f"{key}={value[:40]}: {', '.join(broken)}\n    {err[-300:]}")
    assert not failures, "\n".join(failures)
    assert world.snapshot() == before
