"""Help: every command tells what it does and how, by examples that parse; nothing is coloured but on a terminal."""

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from nanocv_cli.app import app
from tests.conftest import Command

TREE = typer.main.get_command(app)
WIDTH = 78  # what help is wrapped at


def commands(node: Any = TREE, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """All that can be called: the program, commands, and groups that are commands themselves."""
    if not hasattr(node, "commands") or node.params:
        yield words
    for name, child in getattr(node, "commands", {}).items():
        yield from commands(child, (*words, name))


def parse(words: list[str]) -> None:
    """Has the tree of commands judge a command line, and runs nothing.

    Raises:
        UsageError: it is refused.
    """
    node, name, parent = TREE, "nanocv", None
    while True:
        context = node.make_context(name, list(words), parent=parent)
        words = [*context._protected_args, *context.args]
        if not hasattr(node, "commands") or not words:
            return
        name, node, words = node.resolve_command(context, words)
        parent = context


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_help_has_examples_of_the_command_that_parse(nanocv: Command, command: tuple[str, ...]) -> None:
    lines = nanocv(*command, "--help").out.splitlines()
    assert max(map(len, lines)) <= 80
    examples = [line.strip() for line in lines if line.startswith("    nanocv ")]
    assert examples
    for example in examples:
        words = shlex.split(example)
        assert tuple(words[: len(command) + 1]) == ("nanocv", *command)
        assert len(example) <= WIDTH - 4
        parse(words[1:])


def test_the_parser_of_these_tests_refuses_what_the_command_line_refuses() -> None:
    for wrong in (
        ["train", "--epoch", "3"],
        ["train", "--epochs", "0"],
        ["runs", "rm"],
        ["no-such"],
        ["train", "extra"],
    ):
        with pytest.raises(typer._click.exceptions.UsageError):
            parse(wrong)


def test_a_groups_list_has_one_line_for_each_command(nanocv: Command) -> None:
    lines = nanocv("runs", "--help").out.splitlines()
    assert lines[lines.index("Commands:") + 1 :] == [
        "  rm     Remove runs; one that is being written stays.",
        "  prune  Remove finished runs but for the newest and the best of each...",
    ]
