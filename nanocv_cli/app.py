"""The `nanocv` command: names every subcommand, imports none of their work, turns failures into one line each."""

import contextlib
import copy
import functools
import itertools
import os
import sys
import traceback
from typing import Annotated, Any

import typer

from nanocv_cli import __version__
from nanocv_cli.commands import (
    analyze,
    bench_model,
    bench_server,
    completion,
    config,
    data,
    evaluate,
    export,
    infer,
    report,
    runs,
    sample,
    serve,
    serve_key,
    serve_run,
    train,
)
from nanocv_cli.errors import NanocvError, RequestError, as_failure
from nanocv_cli.interrupts import EXIT_CODE, keeping_interrupts, raising
from nanocv_cli.output import OutputError, emit, prepare_streams, say, say_failure, silence, tell


def _group(help_text: str) -> typer.Typer:
    # Plain help: rich's panels would double the time that `nanocv --help` takes to appear.
    group = typer.Typer(help=help_text, invoke_without_command=True, add_completion=False, rich_markup_mode=None)
    group.callback()(_help_without_command)
    return group


def _help_without_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        tell(*context.get_help().splitlines())


app = _group("""Small computer-vision models from images to a measured, served model.

    Each command's --help has an example. Names may be those of `nanocv data list` and `nanocv runs`.

    \b
    Examples:
      nanocv data pull lenet-flowers
      nanocv infer photo.jpg --model lenet-flowers --out annotated
      nanocv train --data flowers --model lenet
    """)

data_app = _group("Data sets: list, pull, draw, add, check, show, convert.")
data_app.command("list")(data.list_sets)
data_app.command("pull")(data.pull)
data_app.command("make")(data.make)
data_app.command("add")(data.add)
data_app.command("check")(data.check)
data_app.command("show")(data.show)
data_app.command("convert")(data.convert)
app.add_typer(data_app, name="data")

app.command("train")(train.train)
runs_app = _group(str(runs.list_all.__doc__))
runs_app.callback()(runs.list_all)
runs_app.command("rm")(runs.remove)
runs_app.command("prune")(runs.prune)
app.add_typer(runs_app, name="runs")

app.command("eval")(evaluate.evaluate)
app.command("infer")(infer.infer)
app.command("sample")(sample.sample)

export_app = _group("Model files for other runtimes.")
export_app.command("onnx")(export.onnx)
export_app.command("openvino")(export.openvino)
export_app.command("hub")(export.hub)
export_app.command("web")(export.web)
app.add_typer(export_app, name="export")

serve_app = _group("Trained models on a server.")
serve_app.command("config")(serve.config)
serve_app.command("list")(serve.list_models)
serve_app.command("key")(serve_key.key)
serve_app.command("run")(serve_run.run)
app.add_typer(serve_app, name="serve")

bench_app = _group("How fast a model answers: on a server, or in this process.")
bench_app.command("server")(bench_server.server)
bench_app.command("model")(bench_model.model)
app.add_typer(bench_app, name="bench")

analyze_app = _group("What a model costs: arithmetic, bytes, and where each layer stands on a device's roofline.")
analyze_app.command("flops")(analyze.flops)
app.add_typer(analyze_app, name="analyze")

app.command("report")(report.report)

config_app = _group("Configs: what a command would use, valid or not, and what a key means.")
config_app.command("show")(config.show)
config_app.command("check")(config.check)
config_app.command("explain")(config.explain)
app.add_typer(config_app, name="config")


def _print_version(context: typer.Context, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        tell(f"nanocv {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    install_completion: Annotated[
        bool,
        typer.Option(
            "--install-completion",
            callback=completion.install,
            is_eager=True,
            help="Let this shell complete commands, options and names.",
        ),
    ] = False,
    show_completion: Annotated[
        bool,
        typer.Option(
            "--show-completion",
            callback=completion.show,
            is_eager=True,
            help="Print the script that --install-completion would install.",
        ),
    ] = False,
) -> None:
    _help_without_command(context)


def main() -> None:
    """Runs the command line; exit status 0 done, 1 failed, 2 the request was wrong, 130 interrupted."""
    # The libraries nanocv calls are told not to report usage: nanocv never phones home.
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    os.environ.setdefault("DVC_STUDIO_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    prepare_streams()
    if instruction := os.environ.get(completion.VARIABLE):
        sys.exit(completion.answer_shell(_command(), instruction))
    status = _run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError:
        silence()
    sys.exit(status)


def _run(arguments: list[str]) -> int:
    """Runs one command and tells of its failure, whatever it is; returns the exit status."""
    flags = list(itertools.takewhile(lambda argument: argument != "--", arguments))
    try:
        with keeping_interrupts(), raising():
            _expect_no_empty(arguments)
            command = _command(next(iter(arguments), None))
            with command.make_context("nanocv", list(arguments)) as context:
                command.invoke(context)
        return 0
    except typer.Exit as done:
        return done.exit_code
    except BrokenPipeError:  # nobody reads on: what is left is not worth doing, and that is no failure
        return 0
    except KeyboardInterrupt:
        return EXIT_CODE
    except Exception as error:
        if "--debug" in flags:
            for line in traceback.format_exc().splitlines():
                say(line)
        failure = as_failure(error)
        _print_failure(failure, "--json" in flags)
        return failure.exit_code


@functools.cache
def _command(name: str | None = None) -> Any:
    """The tree of commands, or the branch of one: making all of them takes longer than many a command's own work.

    Made once, for a process may run many.

    Args:
        name: of a command or group; what is none asks for the whole tree, which says so.
    """
    branch = copy.copy(app)
    branch.registered_commands = [command for command in app.registered_commands if command.name == name]
    branch.registered_groups = [group for group in app.registered_groups if group.name == name]
    return typer.main.get_command(branch if branch.registered_commands or branch.registered_groups else app)


def _expect_no_empty(arguments: list[str]) -> None:
    """Refuses an argument or an option's value that is empty: an unset variable of a shell, which names nothing."""
    for former, argument in itertools.pairwise(["", *arguments]):
        option, equals, value = argument.partition("=")
        if not argument:
            what = f"the value of {former}" if former.startswith("-") else "an argument"
        elif equals and not value and option.startswith("--"):
            what = f"the value of {option}"
        else:
            continue
        raise RequestError(f"{what} is empty", "is a variable of the shell unset? give a value, or leave it out")


def _print_failure(failure: NanocvError, as_json: bool) -> None:
    say_failure(failure)
    if as_json and not isinstance(failure, OutputError):
        with contextlib.suppress(OutputError, OSError):  # the line on stderr has told it
            emit({"error": {"message": failure.message, "hint": failure.hint, "kind": failure.kind}})


if __name__ == "__main__":
    main()
