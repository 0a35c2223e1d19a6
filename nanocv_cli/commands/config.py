"""`nanocv config`: show, check."""

from pathlib import Path
from typing import Annotated

import typer

from nanocv_cli.commands.common import DataOption, DebugFlag, JsonFlag, ModelOption, SetOption, emit


def show(
    prefix: Annotated[str, typer.Argument(help="Only keys that begin with this: train, model.input_size, ...")] = "",
    data: DataOption = None,
    model: ModelOption = None,
    recipe: Annotated[str | None, typer.Option("--train", help="A recipe's name or file.")] = None,
    gpu: Annotated[str | None, typer.Option(help="A GPU config's name or file.")] = None,
    overrides: SetOption = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Show the resolved config and where each value came from."""
    from nanocv_cli.config.flatten import flatten
    from nanocv_cli.config.loader import resolve

    resolved = resolve(data, model, recipe, gpu, overrides or ())
    values = resolved.config.model_dump(mode="json")
    if as_json:
        emit({"config": values, "origin": resolved.origins})
        return
    rows = [
        (key, str(value), resolved.origins[key]) for key, value in flatten(values).items() if key.startswith(prefix)
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    for key, value, origin in rows:
        typer.echo(f"{key:{widths[0]}}  {value:{min(widths[1], 40)}}  {origin}")


def check(
    files: Annotated[list[Path] | None, typer.Argument(help="Config files; default: all under configs/.")] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Validate config files; exit 2 where one is wrong."""
    from nanocv_cli.config.check import check_file
    from nanocv_cli.config.project import project_root

    chosen = files or sorted((project_root() / "configs").rglob("*.yaml"))
    checked = [check_file(path) for path in chosen]
    if as_json:
        emit(
            {
                "files": [
                    {"path": str(c.path), "group": c.group, "errors": [e.message for e in c.errors]} for c in checked
                ]
            }
        )
    else:
        for one in checked:
            typer.echo(f"{one.path}: {one.group}: " + ("ok" if not one.errors else f"{len(one.errors)} wrong"))
            for error in one.errors:
                typer.echo(f"  {error.message}" + (f" ({error.hint})" if error.hint else ""))
    if any(one.errors for one in checked):
        raise typer.Exit(2)
