"""`nanocv export`."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from nanocv_cli.commands.options import DataOption, DebugFlag, JsonFlag, RefOption, number_option
from nanocv_cli.output import emit, tell

if TYPE_CHECKING:
    from nanocv_cli.exporting.graph_file import Exported

AnySizeOption = Annotated[
    bool, typer.Option("--any-size", help="Let the graph read images of any height and width, where the model can.")
]
PrecisionOption = Annotated[
    str | None, typer.Option(help="fp32, bf16, fp16, int8 (extra `int8`); default: as trained, else fp32.")
]
MaxDropOption = Annotated[
    float, number_option(low=0.0, high=100.0, text="Most that less than fp32 may lose, points of the metric.")
]


def onnx(
    ref: RefOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write; default: <model>.onnx beside the checkpoint (a run's int8: model-int8.onnx)."
        ),
    ] = None,
    data: DataOption = None,
    any_size: AnySizeOption = False,
    precision: PrecisionOption = None,
    max_drop: MaxDropOption = 1.0,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Write a checkpoint as a self-contained ONNX graph, if the graph answers like it.

    The graph takes raw uint8 images and answers finished predictions; class names and resize rule are in its
    metadata. Checkpoint and graph answer the same images before anything is written, and the largest difference is
    told. In less than fp32 the task's metric is measured on the validation split, and a graph that loses more than
    --max-drop is not written.

    \b
    Examples:
      nanocv export onnx --model runs/first --out lenet.onnx
      nanocv export onnx --model nanoseg-flowers --any-size --out any.onnx
      nanocv export onnx --model lenet-flowers --precision int8 --max-drop 0.5
    """
    from nanocv_cli.api import training

    exported = training.export(ref, out, data=data, any_size=any_size, precision=precision, max_drop=max_drop)
    _tell(exported, "onnx", as_json)


def openvino(
    ref: RefOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="An .xml file or a folder; default: <model>.xml beside the checkpoint."),
    ] = None,
    data: DataOption = None,
    any_size: AnySizeOption = False,
    precision: PrecisionOption = None,
    max_drop: MaxDropOption = 1.0,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Write a checkpoint as OpenVINO's two files, if they answer like it (extra `openvino`).

    An .xml holds the graph and the model card, a .bin of the same name beside it the weights. The .xml stands for the
    model in infer, eval, sample and bench model, and OpenVINO's own tools read it.

    \b
    Examples:
      nanocv export openvino --model runs/first --out lenet.xml
      nanocv export openvino --model nanoseg --precision int8 --out served/
    """
    from nanocv_cli.api import training

    exported = training.export(
        ref, out, data=data, any_size=any_size, precision=precision, max_drop=max_drop, target="openvino"
    )
    _tell(exported, "openvino", as_json)


def hub(
    repository: Annotated[str, typer.Option("--repo", metavar="OWNER/NAME", help="Repository on the hub.")],
    ref: RefOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: hub/OWNER/NAME.")] = None,
    licence: Annotated[
        str, typer.Option("--license", metavar="ID", help="Of the model, as the hub names it.")
    ] = "unknown",
    private: Annotated[bool, typer.Option("--private", help="Make a repository that only you can read.")] = False,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Write a model as a repository of a Hugging Face hub; upload it if you are logged in.

    The folder holds graph, checkpoint, an image of results and a model card; without a login it is all that is made.

    \b
    Example:
      nanocv export hub --repo me/flowers --model lenet --license apache-2.0
    """
    from nanocv_cli.api.publishing import publish

    done = publish(ref, repository, out, licence, private)
    if as_json:
        emit(
            {
                "repo": done.repository,
                "folder": str(done.folder),
                "files": list(done.files),
                "url": done.url,
                "commit": done.commit,
            }
        )
        return
    for name in done.files:
        tell(str(done.folder / name))
    if done.url:
        tell(f"uploaded: {done.url}", f"use it: nanocv infer IMAGES --model hf://{done.repository}")
    else:
        tell("not uploaded: there is no token; set HF_TOKEN or log in (hf auth login), and run it again")


def web(
    out: Annotated[Path, typer.Option(help="Folder to write; files of the same names are replaced.")],
    ref: RefOption = None,
    runtime: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="ONNX Runtime for browsers, as npm packs it; default: npm fetches it once."),
    ] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Write a folder for any static host: a page that runs the model in the browser.

    Images stay in the browser, and it answers as `nanocv infer` and `nanocv sample` do. The page asks nothing but its
    own host, and no server of nanocv is needed. A page opened as a file may not load its parts: it has to be served.

    \b
    Examples:
      nanocv export web --model lenet-flowers --out site
      python -m http.server --directory site --bind 127.0.0.1
    """
    from nanocv_cli.web.folder import write_web_folder

    written = write_web_folder(ref, out, runtime)
    if as_json:
        emit(
            {
                "path": str(written.folder),
                "target": "web",
                "precision": written.card.precision,
                "bytes": written.bytes,
                "files": list(written.files),
                "runtime": written.runtime,
            }
        )
        return
    tell(
        f"{written.folder}  {written.bytes / 1e6:.2f} MB  {written.card.name}  {written.card.precision}",
        f"look at it: python -m http.server --directory {quote(str(written.folder))} --bind 127.0.0.1",
    )


def _tell(exported: "Exported", target: str, as_json: bool) -> None:
    parity, reduced = exported.parity, exported.reduced
    if as_json:
        emit(
            {
                "path": str(exported.path),
                "target": target,
                "precision": exported.card.precision,
                "bytes": exported.bytes,
                "parity": {"max_abs_error": parity.max_abs_error, "n": parity.n, "batch_sizes": parity.batch_sizes},
                "metrics_before": reduced.before if reduced else exported.card.metrics,
                "metrics_after": exported.card.metrics,
                "drop": reduced.drop if reduced else 0.0,
                "engine": reduced.engine if reduced else None,
                "kept": reduced.kept if reduced else (),
                "sensitivity": reduced.sensitivity if reduced else {},
            }
        )
        return
    tell(f"{exported.path}  {exported.bytes / 1e6:.2f} MB  {exported.card.precision}")
    tell(
        f"parity: largest difference {parity.max_abs_error:.2g} over {parity.n} images at batch sizes "
        + ", ".join(map(str, parity.batch_sizes))
    )
    if reduced:
        kept = f"; left in fp32: {', '.join(reduced.kept)}" if reduced.kept else ""
        tell(f"the metric lost {reduced.drop:.2f} on the validation split (worst engine: {reduced.engine}){kept}")
