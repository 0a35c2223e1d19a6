"""Completion as shells ask for it: by environment variables, and by the shells themselves where they are installed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shellingham
import typer

from nanocv_cli.app import app
from nanocv_cli.commands.completion import VARIABLE
from tests.conftest import REPOSITORY, Command
from tests.training.run_folders import write_begun_run, write_run

HOSTILE = ["$(touch pwned)", "`touch pwned`", "a b", "a;b", "*", "'", '"', "-rf", "ümlaut", "a\nb", "a:b", "~", "a&b"]


@pytest.fixture
def completed(nanocv: Command, monkeypatch: pytest.MonkeyPatch) -> "Completed":
    return Completed(nanocv, monkeypatch)


class Completed:
    """What bash is offered for the last of some words."""

    def __init__(self, nanocv: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        self._nanocv, self._patch = nanocv, monkeypatch

    def __call__(self, line: str) -> list[str]:
        words = ["nanocv", *line.split(" ")]
        self._patch.setenv("COMP_WORDS", "\n".join(words))
        self._patch.setenv("COMP_CWORD", str(len(words) - 1))
        self._patch.setenv(VARIABLE, "complete_bash")
        outcome = self._nanocv()
        assert (outcome.code, outcome.err) == (0, "")
        return outcome.out.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("tra", ["train"]),
        ("data sh", ["show"]),
        ("train --ep", ["--epochs"]),
        ("train --data flo", ["flowers"]),
        ("data check flo", ["flowers"]),
        ("config show --train seg", ["segment", "segment-few"]),
        ("train --model nanos", ["nanoseg", "nanospot"]),
        ("train --model resnet1", ["resnet101", "resnet152", "resnet18"]),
        ("analyze flops --gpu h", ["h100", "h200"]),
        ("analyze flops --gpu lo", ["local"]),
        ("serve config --serve def", ["default"]),
        ("infer photo", []),  # files are the shell's own business
        ("train --data=flo", ["flowers"]),
        ("no-such-command --data fl", []),
    ],
)
def test_commands_options_and_shipped_names(project: Path, completed: Completed, line: str, offered: list[str]) -> None:
    assert completed(line) == offered


def commands_with(option: str) -> list[str]:
    """The command lines that take an option, from the tree that typer builds."""

    def below(node: Any, words: tuple[str, ...]) -> Iterator[str]:
        for name, child in getattr(node, "commands", {}).items():
            yield from below(child, (*words, name))
        if any(option in parameter.opts for parameter in node.params):
            yield " ".join((*words, option))

    return list(below(typer.main.get_command(app), ()))


@pytest.mark.parametrize(
    ("option", "begun", "name"),
    [("--data", "flow", "flowers"), ("--gpu", "v1", "v100"), ("--train", "qu", "quick"), ("--serve", "de", "default"),
     ("--model", "len", "lenet")],
)  # fmt: skip
def test_wherever_an_option_takes_a_name_it_is_completed(
    project: Path, completed: Completed, option: str, begun: str, name: str
) -> None:
    write_run(project, "run", 0.5, model="lenet")
    lines = commands_with(option)
    assert lines
    assert [line for line in lines if name not in completed(f"{line} {begun}")] == []


def test_torchvisions_hundred_names_wait_for_a_letter(project: Path, completed: Completed) -> None:
    assert "resnet18" not in completed("train --model ")
    assert "lenet" in completed("train --model ")


def test_names_of_the_project(project: Path, completed: Completed) -> None:
    write_run(project, "demo/first", 0.5, model="mine")
    write_begun_run(project, "stopped")
    (project / "weights").mkdir()
    (project / "weights" / "lenet-flowers.onnx.dvc").touch()
    (project / "weights" / "nanoseg-flowers.safetensors").touch()
    (project / "weights" / "notes.json").touch()
    (project / "configs" / "data").mkdir(parents=True)
    (project / "configs" / "data" / "photos.yaml").touch()
    assert completed("runs rm ") == completed("train --resume ") == ["demo/first", "stopped"]
    weights = ["lenet-flowers", "nanoseg-flowers"]
    models = ["demo/first", "lenet", "lenet-flowers", "mine", "nanoseg", "nanoseg-flowers", "stopped"]
    assert completed("infer --model ") == completed("eval --model ") == completed("report ") == models
    assert completed("data pull ") == ["flowers", *weights, "photos"]


def test_only_names_that_no_shell_gives_a_meaning_to_are_offered(project: Path, completed: Completed) -> None:
    for name in HOSTILE:
        write_begun_run(project, name)
    write_begun_run(project, "plain-1.0_x/y")
    assert completed("runs rm ") == ["plain-1.0_x/y"]


def test_looking_does_nothing(project: Path, completed: Completed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project / "home"))
    for option in ("--version", "--install-completion", "--show-completion"):
        assert completed(f"{option} runs ") == ["rm", "prune"]
    assert not (project / "home").exists()


def test_what_goes_wrong_is_silent(project: Path, nanocv: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "complete_bash")  # without the words
    monkeypatch.delenv("COMP_WORDS", raising=False)
    assert (nanocv().code, nanocv().out, nanocv().err) == (1, "", "")


START_FILES = {"bash": ".bashrc", "zsh": ".zshrc", "fish": ""}


@pytest.mark.parametrize("shell", START_FILES)
def test_installing_writes_the_script_and_one_line(
    project: Path, nanocv: Command, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    home = project / "home"
    home.mkdir()
    start_file = home / (START_FILES[shell] or "none")
    start_file.write_bytes(b"mine \xff")
    for name in ("XDG_CONFIG_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(shellingham, "detect_shell", lambda: (shell, f"/bin/{shell}"))
    shown = nanocv("--show-completion")
    installed = nanocv("--install-completion")
    assert (shown.code, installed.code) == (0, 0), installed.err
    script = Path(installed.out.split()[1])
    assert script.is_relative_to(home) and script.read_text() == shown.out
    once = start_file.read_bytes()
    lines = once.splitlines()
    assert lines[0] == b"mine \xff" and len(lines) == (2 if START_FILES[shell] else 1)
    assert nanocv("--install-completion").code == 0
    assert start_file.read_bytes() == once


def test_a_start_file_that_cannot_be_written_is_told(
    project: Path, nanocv: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / ".bashrc").mkdir()
    monkeypatch.setenv("HOME", str(project))
    monkeypatch.setattr(shellingham, "detect_shell", lambda: ("bash", "/bin/bash"))
    refused = nanocv("--install-completion")
    assert refused.code == 1
    assert "try: add the line yourself: source ~/.bash_completions/nanocv.sh" in refused.err


def test_the_users_own_shell_stands_in_and_others_are_refused(
    project: Path, nanocv: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise shellingham.ShellDetectionFailure

    monkeypatch.setattr(shellingham, "detect_shell", fail)
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert nanocv("--show-completion").out.startswith("complete --command nanocv")
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    refused = nanocv("--show-completion")
    assert (refused.code, refused.err) == (2, "error: no completion for tcsh\n  try: use bash, zsh or fish\n")


# Each shell reads the script as its start file would, and tells what it would offer.
ASKING = {
    "bash": """eval "$(nanocv --show-completion)"
COMP_WORDS=(nanocv runs rm ''); COMP_CWORD=3
_nanocv_completion nanocv
printf '%s\\n' "${COMPREPLY[@]}"
complete -p nanocv | grep -q _nanocv_completion""",
    "zsh": """compdef() { }
_arguments() { print -r -- "$@" }
eval "$(nanocv --show-completion)"
words=(nanocv runs rm ''); CURRENT=4
_nanocv_completion | tr -d '"(): *' """,
    "fish": """nanocv --show-completion | source
complete -C 'nanocv runs rm '""",
}
OPTIONS = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}


@pytest.mark.parametrize("shell", ASKING)
def test_the_shell_itself_completes(project: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    for name in ("first", *HOSTILE):
        write_begun_run(project, name)
    program = project / "bin" / "nanocv"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m nanocv_cli.app "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HOME": str(project),
                   "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}  # fmt: skip
    done = subprocess.run(
        [shell, *OPTIONS[shell], "-c", f"{ASKING[shell]}\ntrue"],
        cwd=project, env=environment, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["first"], done.stderr
    assert not (project / "pwned").exists()
