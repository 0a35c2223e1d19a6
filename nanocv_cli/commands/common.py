"""What every command shares: the `--json` and `--debug` flags, where results and failures are printed."""

import json
import sys
from typing import Annotated, Any

import typer

from nanocv_cli.errors import NanocvError, RequestError

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
DebugFlag = Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one config value; may be repeated.")
]
DataOption = Annotated[
    str | None, typer.Option("--data", help="A data config's name or file, or a folder of pictures.")
]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="A model config's name or file, or a torchvision name.")
]
RecipeOption = Annotated[str | None, typer.Option("--train", help="A recipe's name or file; default: the model's own.")]
RefOption = Annotated[
    str | None,
    typer.Option("--model", metavar="REF", help="A trained model: its name, a run folder, .safetensors or .onnx file."),
]


def emit(document: Any) -> None:
    """Prints one JSON document on stdout, on one line."""
    sys.stdout.write(json.dumps(document, allow_nan=False) + "\n")
    sys.stdout.flush()


def say(text: str = "") -> None:
    """Prints a line of progress or advice on stderr, where it never mixes with results."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def print_failure(failure: NanocvError, as_json: bool) -> None:
    """One line what, one line what to do, on stderr; with `as_json` also the error document on stdout."""
    say(f"error: {failure.message}")
    if failure.hint:
        say(f"  try: {failure.hint}")
    if as_json:
        emit({"error": {"message": failure.message, "hint": failure.hint, "kind": failure.kind}})


def numbers(option: str, text: str | None) -> list[int] | None:
    """`2,4` as whole numbers.

    Raises:
        RequestError: it is something else.
    """
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")] if text.strip() else []
    except ValueError as error:
        raise RequestError(f"{option} {text}: expected whole numbers, as in 2,4", "separate them by commas") from error


def named_sizes(option: str, text: str) -> tuple[str, tuple[int, ...]]:
    """`images:224,224,3` as a name and its sizes.

    Raises:
        RequestError: it is something else.
    """
    name, _, sizes = text.rpartition(":")
    found = numbers(option, sizes)
    if not name or not found or min(found) < 1:
        raise RequestError(f"{option} {text}: expected a name and its sizes", f"as in {option} images:224,224,3")
    return name, tuple(found)


def one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Lets a value pass that is one of `allowed`.

    Raises:
        RequestError: it is something else.
    """
    if value not in allowed:
        raise RequestError(f"unknown {option} {value!r}", f"use {' or '.join(allowed)}")
