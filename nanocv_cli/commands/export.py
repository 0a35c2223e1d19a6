"""`nanocv export`."""

from pathlib import Path
from typing import Annotated

import typer

from nanocv_cli.commands.common import DataOption, DebugFlag, JsonFlag, RefOption
from nanocv_cli.output import emit, say, tell


def onnx(
    ref: RefOption = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write; default: <model>.onnx beside the checkpoint.")
    ] = None,
    data: DataOption = None,
    any_size: Annotated[
        bool, typer.Option("--any-size", help="Let the graph read images of any height and width (segmentation).")
    ] = False,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Write a checkpoint as a self-contained ONNX graph, if the graph answers like it."""
    from nanocv_cli.config.project import project_root
    from nanocv_cli.engine.reference import find_checkpoint
    from nanocv_cli.export.onnx_file import export_onnx, parity_images
    from nanocv_cli.files import expect_writable

    root = project_root()
    checkpoint = find_checkpoint(ref, root)
    target = out or checkpoint.with_suffix(".onnx")
    expect_writable(target)
    images = parity_images(checkpoint, data, root, say)
    exported = export_onnx(checkpoint, target, images, any_size)
    parity = exported.parity
    if as_json:
        emit({
            "path": str(exported.path),
            "precision": exported.card.precision,
            "bytes": exported.bytes,
            "parity": {"max_abs_error": parity.max_abs_error, "n": parity.n, "batch_sizes": parity.batch_sizes},
            "metrics_before": exported.card.metrics,
        })  # fmt: skip
        return
    tell(f"{exported.path}  {exported.bytes / 1e6:.2f} MB  {exported.card.precision}")
    tell(
        f"parity: largest difference {parity.max_abs_error:.2g} over {parity.n} images at batch sizes "
        + ", ".join(map(str, parity.batch_sizes))
    )
