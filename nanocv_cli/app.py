"""The `nanocv` command: names every subcommand, imports none of their work, turns failures into one line each."""

import os
import sys
from typing import Annotated

import typer

from nanocv_cli import __version__
from nanocv_cli.commands import analyze, bench, config, data, evaluate, export, infer, sample, serve, serve_run, train
from nanocv_cli.commands.common import print_failure
from nanocv_cli.errors import MissingExtraError, NanocvError, RequestError, StorageError

EXTRA_OF_MODULE = {
    "google": "triton",
    "grpc": "triton",
    "httptools": "triton",
    "prometheus_client": "triton",
    "tritonclient": "triton",
    "dvc": "dvc",
    "dvclive": "train",
    "faster_coco_eval": "train",
    "matplotlib": "train",
    "onnx": "train",
    "onnxscript": "train",
    "ptflops": "ptflops",
    "safetensors": "train",
    "torch": "train",
    "torch_fidelity": "fid",
    "torchmetrics": "train",
    "torchvision": "train",
}


def _group(help_text: str) -> typer.Typer:
    # Plain help: rich's panels would double the time that `nanocv --help` takes to appear.
    return typer.Typer(help=help_text, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


app = _group("Small computer-vision models from images to a measured, served model.")

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
app.command("eval")(evaluate.evaluate)
app.command("infer")(infer.infer)
app.command("sample")(sample.sample)

export_app = _group("Model files for other runtimes.")
export_app.command("onnx")(export.onnx)
# A callback keeps `onnx` a named subcommand; typer would fold a group of one command into its parent.
export_app.callback()(lambda: None)
app.add_typer(export_app, name="export")

serve_app = _group("Trained models on a server.")
serve_app.command("config")(serve.config)
serve_app.command("run")(serve_run.run)
app.add_typer(serve_app, name="serve")

bench_app = _group("How fast a model answers: on a server, or in this process.")
bench_app.command("server")(bench.server)
bench_app.command("model")(bench.model)
app.add_typer(bench_app, name="bench")

analyze_app = _group("What a model costs: arithmetic, bytes, and where each layer stands on a device's roofline.")
analyze_app.command("flops")(analyze.flops)
analyze_app.callback()(lambda: None)
app.add_typer(analyze_app, name="analyze")

config_app = _group("Configs: what a command would use, valid or not.")
config_app.command("show")(config.show)
config_app.command("check")(config.check)
app.add_typer(config_app, name="config")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nanocv {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Small computer-vision models from images to a measured, served model."""


def main() -> None:
    """Runs the command line; exit status 0 done, 1 failed, 2 the request was wrong, 130 interrupted."""
    # The libraries nanocv calls are told not to report usage: nanocv never phones home.
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    os.environ.setdefault("DVC_STUDIO_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    debug = "--debug" in sys.argv
    as_json = "--json" in sys.argv
    try:
        status = app(standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except Exception as error:
        failure = _as_failure(error)
        if debug or failure is None:
            raise
        print_failure(failure, as_json)
        sys.exit(failure.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def _as_failure(error: Exception) -> NanocvError | None:
    """The one-line form of an expected failure; None for a defect of nanocv itself."""
    if isinstance(error, NanocvError):
        return error
    if isinstance(error, ModuleNotFoundError) and (extra := EXTRA_OF_MODULE.get((error.name or "").split(".")[0])):
        return MissingExtraError(f"this command needs {error.name}", f"pip install 'nanocv[{extra}]'")
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return StorageError(f"{where}{error.strerror or error}", "check the path, its permissions and the free space")
    # typer's own errors (it has carried its own copy of click since 0.20) share these two attributes.
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        return RequestError(error.format_message(), "nanocv COMMAND --help lists arguments and options")
    return None


if __name__ == "__main__":
    main()
