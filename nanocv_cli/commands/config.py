"""`nanocv config`: show, check, explain."""

import json
from pathlib import Path
from typing import Annotated

import typer

from nanocv_cli.commands.completion import completing, config_names
from nanocv_cli.commands.options import (
    BatchSizeOption,
    DataOption,
    DebugFlag,
    EpochsOption,
    JsonFlag,
    ModelOption,
    NameOption,
    RateOption,
    RecipeOption,
    SeedOption,
    SetOption,
    end_as_failed,
)
from nanocv_cli.output import emit, say, tell


def show(
    prefix: Annotated[str, typer.Argument(help="Only keys that begin with this: train, model.input_size, ...")] = "",
    data: DataOption = None,
    model: ModelOption = None,
    recipe: RecipeOption = None,
    gpu: Annotated[
        str | None, typer.Option(help="A GPU config's name or file.", autocompletion=completing(config_names("gpu")))
    ] = None,
    epochs: EpochsOption = None,
    batch_size: BatchSizeOption = None,
    lr: RateOption = None,
    seed: SeedOption = None,
    name: NameOption = None,
    overrides: SetOption = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Show the resolved config and where each value came from.

    A value comes from a file (with its line), an option or a default. It takes the options of `nanocv train` and
    trains nothing.

    \b
    Examples:
      nanocv config show train --model nanoseg
      nanocv config show --epochs 3 --json
    """
    from nanocv_cli.config.loader import resolve
    from nanocv_cli.config.located import flatten, nest
    from nanocv_cli.config.nearest import nearest
    from nanocv_cli.config.overrides import TrainOptions
    from nanocv_cli.errors import ConfigError

    options = TrainOptions(epochs, batch_size, lr, seed, name)
    resolved = resolve(data, model, recipe, gpu, overrides or (), options)
    known = flatten(resolved.config.model_dump(mode="json"))
    values = {key: value for key, value in known.items() if key.startswith(prefix)}
    if not values:
        raise ConfigError(
            f"no key begins with {prefix!r}", nearest(prefix, known) or "nanocv config show lists all keys"
        )
    origins = {key: resolved.origins[key] for key in values}
    if as_json:
        emit({"config": nest(values), "origin": origins})
        return
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    key_width, text_width = max(map(len, texts)), max(map(len, texts.values()))
    for key, text in texts.items():
        tell(f"{key:{key_width}}  {text:{text_width}}  {origins[key]}")


def check(
    files: Annotated[list[Path] | None, typer.Argument(help="Config files; default: all under configs/.")] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Validate config files; exit 2 where one is wrong.

    Errors name file and line, the allowed values and the nearest known key. A recipe does not say which task it is
    for: those that it fits are named.

    \b
    Examples:
      nanocv config check
      nanocv config check configs/data/flowers.yaml
    """
    from nanocv_cli.config.check import check_file
    from nanocv_cli.config.project import project_root, shown
    from nanocv_cli.errors import ConfigError

    folder = project_root() / "configs"
    checked = [check_file(path) for path in files or sorted(folder.rglob("*.y*ml"))]
    if not checked:
        say(f"no config files in {folder}")
    if as_json:
        errors = [[{"message": e.message, "hint": e.hint} for e in one.errors] for one in checked]
        rows = zip(checked, errors, strict=True)
        emit(
            {
                "files": [
                    {"path": str(one.path), "group": one.group, "errors": wrong}
                    | ({"tasks": one.tasks} if one.group == "train" else {})
                    for one, wrong in rows
                ]
            }
        )
    else:
        for one in checked:
            for error in one.errors:
                tell(f"error  {error.message}" + (f" ({error.hint})" if error.hint else ""))
            if not one.errors:
                tell(f"ok     {shown(one.path)}" + (f"  for {', '.join(one.tasks)}" if one.tasks else ""))
    wrong = [shown(one.path) for one in checked if one.errors]
    if wrong:
        end_as_failed(ConfigError(f"{len(wrong)} of {len(checked)} config files are wrong: {', '.join(wrong)}",
                                  "mend the lines named above"))  # fmt: skip


def explain(
    key: Annotated[str, typer.Argument(help="A key (train.epochs) or a part of the config (train.augment).")] = "",
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Say what a key means, what it takes, its default, and who reads it.

    Without a key: all of them, as docs/config.md has them.

    \b
    Examples:
      nanocv config explain train.epochs
      nanocv config explain train.augment
    """
    from dataclasses import asdict

    from nanocv_cli.config.explain import explained

    found = explained(key)
    if as_json:
        emit({"keys": [asdict(one) for one in found]})
        return
    for one in found:
        tell(f"{one.name}  ({one.owner})")
        tell(f"    {one.meaning}")
        tell(f"    takes {one.takes}; " + (f"default {one.default}" if one.default else "must be given"))
