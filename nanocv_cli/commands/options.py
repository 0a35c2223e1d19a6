"""The options that commands share, and the one law for numbers in options."""

import math
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from nanocv_cli.commands.completion import (
    completing,
    config_names,
    model_names,
    run_names,
    torchvision_names,
    weight_names,
)
from nanocv_cli.engine.runtimes import RUNTIMES, runtime_names
from nanocv_cli.errors import NanocvError, RequestError
from nanocv_cli.output import say_failure

MOST_NUMBERS = 64  # in one list
LARGEST_SIDE = 1 << 31

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
DebugFlag = Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one config value; may be repeated.")
]
complete_data = completing(config_names("data"))
complete_ref = completing(model_names, weight_names, run_names)
DataOption = Annotated[
    str | None,
    typer.Option("--data", help="A data config's name or file, or a folder of images.", autocompletion=complete_data),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="A model config's name or file, or a torchvision name.",
        autocompletion=completing(config_names("model"), torchvision_names),
    ),
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--train",
        help="A recipe's name or file; default: the model's own.",
        autocompletion=completing(config_names("train")),
    ),
]
RefOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="REF",
        help="A trained model: its name, a run folder, a .safetensors, .onnx or .xml file, hf://OWNER/NAME.",
        autocompletion=complete_ref,
    ),
]

ServedRefOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="REF",
        help="Name, run folder, model file, hf://OWNER/NAME, or URL of a served model.",
        autocompletion=complete_ref,
    ),
]


def number_option(*names: str, low: float, high: float, text: str) -> Any:
    """An option that takes one finite number within bounds; whole numbers where both bounds are whole.

    Args:
        names: of the option, where it is not named after its parameter.
        low: smallest value.
        high: largest value.
        text: what the option means, for `--help`.
    """
    kind = int if isinstance(low, int) and isinstance(high, int) else float
    metavar = "N" if kind is int else "X"
    return typer.Option(*names, parser=_parser(kind, low, high), metavar=metavar, help=f"{text}  [{_span(low, high)}]")


def _span(low: float, high: float) -> str:
    """Both bounds, for people."""
    return " to ".join(f"{bound:,}" if isinstance(bound, int) else f"{bound:,g}" for bound in (low, high))


def _parser(kind: Callable[[str], float], low: float, high: float) -> Callable[[Any], float]:
    def parse(given: Any) -> float:
        try:
            value = kind(str(given))
        except ValueError:
            value = math.nan
        # NaN is within no bounds.
        if not low <= value <= high:
            noun = "whole number" if kind is int else "number"
            raise typer.BadParameter(f"{given}: expected a {noun} from {_span(low, high)}")
        return value

    return parse


# Options that stand for one config key each (`config/overrides.py`).
EpochsOption = Annotated[int | None, number_option("--epochs", low=1, high=100_000, text="train.epochs.")]
BatchSizeOption = Annotated[int | None, number_option("--batch-size", low=1, high=65_536, text="train.batch_size.")]
RateOption = Annotated[float | None, number_option("--lr", low=1e-12, high=100.0, text="train.learning_rate.")]
SeedOption = Annotated[int | None, number_option("--seed", low=0, high=2**31 - 1, text="train.seed.")]
NameOption = Annotated[
    str | None, typer.Option("--name", help="model.name: what the trained model is called, and found by.")
]


RuntimeOption = Annotated[
    str | None,
    typer.Option("--engine", help=f"What runs the graph: {', '.join(RUNTIMES)}, or auto: the fastest one here."),
]
# Where a checkpoint can be run as well.
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine", help=f"torch: the checkpoint; onnx: the graph; {', '.join(runtime_names())}: what runs it."
    ),
]
PrecisionOption = Annotated[
    str, typer.Option("--precision", help="What the graph is computed in: fp32; openvino: bf16 where the CPU can.")
]
RuntimeDeviceOption = Annotated[str, typer.Option("--device", help="auto or cpu; onnxruntime: cuda, cuda:N, coreml.")]
EngineDeviceOption = Annotated[
    str, typer.Option("--device", help="auto or cpu; torch: cuda, mps; onnxruntime: cuda, cuda:N, coreml.")
]
ThreadsOption = Annotated[int, number_option(low=0, high=1024, text="Of the engine; 0: it chooses.")]


def numbers(option: str, text: str, low: int, high: int) -> list[int]:
    """`2,4` as whole numbers, each once, in their order.

    Raises:
        RequestError: it is something else, or one is out of bounds.
    """
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or len(found) > MOST_NUMBERS or not all(low <= number <= high for number in found):
        raise RequestError(
            f"{option} {text}: expected whole numbers from {low} on, {high:,} the largest, {MOST_NUMBERS} at most",
            f"separate them by commas, as in {option} {low},{min(high, low + 1)}",
        )
    return list(dict.fromkeys(found))


def words(option: str, text: str, allowed: tuple[str, ...]) -> list[str]:
    """`fp32,bf16` as names, each once, in their order.

    Raises:
        RequestError: one is not allowed.
    """
    found = list(dict.fromkeys(text.split(",")))
    for word in found:
        one_of(option, word, allowed)
    return found


def named_sizes(option: str, text: str) -> tuple[str, tuple[int, ...]]:
    """`images:224,224,3` as a name and its sizes.

    Raises:
        RequestError: it is something else.
    """
    name, _, sizes = text.rpartition(":")
    try:
        found = tuple(int(part) for part in sizes.split(","))
    except ValueError:
        found = ()
    if not name or not 0 < len(found) <= MOST_NUMBERS or not all(1 <= size <= LARGEST_SIDE for size in found):
        raise RequestError(
            f"{option} {text}: expected a name and its sizes, from 1 on", f"as in {option} images:224,224,3"
        )
    return name, found


def one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Lets a value pass that is one of `allowed`.

    Raises:
        RequestError: it is something else.
    """
    if value not in allowed:
        raise RequestError(f"unknown {option} {value!r}", f"use {' or '.join(allowed)}")


def end_as_failed(failure: NanocvError) -> NoReturn:
    """Ends a command whose results stand on stdout already, and say themselves what is wrong."""
    say_failure(failure)
    raise typer.Exit(failure.exit_code)
