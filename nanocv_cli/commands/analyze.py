"""`nanocv analyze`: flops."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from nanocv_cli.analysis import MEASURERS
from nanocv_cli.commands.completion import (
    completing,
    config_names,
    model_names,
    run_names,
    torchvision_names,
    weight_names,
    word,
)
from nanocv_cli.commands.options import (
    DataOption,
    DebugFlag,
    JsonFlag,
    SetOption,
    named_sizes,
    number_option,
    numbers,
    one_of,
)
from nanocv_cli.engine.runtimes import DEFAULT
from nanocv_cli.output import emit, say, tell

if TYPE_CHECKING:
    from nanocv_cli.analysis.analysed_model import AnalysedModel
    from nanocv_cli.analysis.layer import Model
    from nanocv_cli.analysis.measured import Measured, Measurer
    from nanocv_cli.analysis.roofline import Roofline
    from nanocv_cli.config.schema import GpuConfig

LOCAL = "local"
LARGEST_CLASSES = 1_000_000
LARGEST_INPUT = 16_384
LARGEST_BATCH = 2**20
DTYPES = ("fp32", "tf32", "fp16", "bf16", "int8")


@dataclass(frozen=True)
class _Analysed:
    """A model's layers, and how to run it: as torch's module or as a graph with the shapes of its inputs."""

    model: "Model"
    analysed: "AnalysedModel | None"
    graph: Path | None
    shapes: dict[str, tuple[int, ...]]


def flops(
    ref: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="REF",
            help="A name (trained, of a config, or torchvision's), a run folder, .safetensors or .onnx file.",
            autocompletion=completing(config_names("model"), torchvision_names, model_names, weight_names, run_names),
        ),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            help="A GPU config's name or file; local: this machine, measured.",
            autocompletion=completing(config_names("gpu"), word(LOCAL)),
        ),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(metavar="T,T", help=f"{', '.join(DTYPES)}; default fp16 (local: fp32).")
    ] = None,
    batch_sizes: Annotated[str, typer.Option(metavar="N,N", help="Images per run; the first is tabled.")] = "1",
    data: DataOption = None,
    classes: Annotated[
        int | None, number_option(low=1, high=LARGEST_CLASSES, text="Classes; default: those of --data.")
    ] = None,
    input_size: Annotated[
        int | None, number_option(low=1, high=LARGEST_INPUT, text="Side of the image, pixels.")
    ] = None,
    shape: Annotated[list[str] | None, typer.Option(metavar="NAME:N,N", help="Of an open input of a graph.")] = None,
    overrides: SetOption = None,
    unit: Annotated[str, typer.Option(help="flops (two per multiply-add) or macs.")] = "flops",
    form: Annotated[str, typer.Option("--format", help="table, markdown or csv.")] = "table",
    top: Annotated[
        int | None, number_option(low=1, high=10_000, text="Only the layers that take longest, longest first.")
    ] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder for roofline.png and, of a sweep, sweep.png.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Run the model here; predicted beside measured.")] = False,
    engine: Annotated[
        str | None, typer.Option(help=f"What --measure runs a graph by: {', '.join(MEASURERS)}; default {DEFAULT}.")
    ] = None,
    check: Annotated[str | None, typer.Option(help="ptflops: its counts beside ours.")] = None,
    device: Annotated[str, typer.Option(help="For --gpu local and --measure: auto, cpu, cuda or mps.")] = "auto",
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Where a model spends its arithmetic and its bytes, and how a GPU's roofline stands to each layer.

    For each layer: FLOPs, parameters, bytes, arithmetic intensity, and whether memory or arithmetic holds it up on
    that GPU. No weight is allocated and nothing is downloaded.

    \b
    Examples:
      nanocv analyze flops --model lenet --gpu v100
      nanocv analyze flops --model resnet18 --batch-sizes 1,4,16 --figures costs
    """
    from nanocv_cli.analysis import report
    from nanocv_cli.analysis.roofline import Roofline, compute_bound_from, sweep
    from nanocv_cli.files import expect_folder

    if figures:
        expect_folder(figures)
    one_of("--unit", unit, report.UNITS)
    one_of("--format", form, report.FORMATS)
    one_of("--check", check or "ptflops", ("ptflops",))
    _expect_measurable(measure, engine, ref is not None and ref.endswith(".onnx"))
    sizes, dtypes = numbers("--batch-sizes", batch_sizes, 1, LARGEST_BATCH), _dtypes(dtype, gpu)
    gpu_config = _gpu(gpu, device)
    roofline = Roofline(gpu_config, dtypes[0])
    with _without_collecting():
        analysed = _analyse(ref, data, classes, input_size, tuple(shape or ()), tuple(overrides or ()))
    model = analysed.model
    points = sweep(model, gpu_config, dtypes, sizes)
    at, is_sweep = points[0], len(points) > 1
    turns = [compute_bound_from(layer, roofline) for layer in model.layers] if is_sweep else []
    measured = _measure(analysed, engine, device, dtypes[0], sizes[0]) if measure else None
    order = list(range(len(model.layers)))
    if top:
        order = sorted(order, key=lambda number: at.layers[number].seconds, reverse=True)[:top]
    document = report.document(model, roofline, at)
    if is_sweep:
        document |= report.sweep_json(points, turns, model)
    tables = [report.layer_table(model, at, unit, form, order)]
    if is_sweep:
        tables += [report.sweep_table(points, form), report.moves_table(model, points, turns, form)]
    if measured:
        from nanocv_cli.analysis.measured import conclusion, measured_json, measured_table

        document["measured"] = measured_json(model, at, measured)
        tables.append([*measured_table(model, at, measured, form, order), *conclusion(model, at, measured)])
    if check:
        document["ptflops"], table = _ptflops(analysed, form)
        tables.append(table)
    images = _draw(analysed.model, roofline, points, is_sweep, figures) if figures else []
    if as_json:
        emit(document | {"figures": [str(path) for path in images]})
        return
    for number, lines in enumerate(tables):
        tell(*([""] if number else []), *lines)
    for line in report.notes(model, roofline):
        say(line)
    for path in images:
        say(f"image: {path}")


def _analyse(
    ref: str | None,
    data: str | None,
    classes: int | None,
    input_size: int | None,
    shapes: tuple[str, ...],
    overrides: tuple[str, ...],
) -> _Analysed:
    """The layers of whatever was named; a graph is read without torch."""
    from nanocv_cli.config.project import project_root
    from nanocv_cli.errors import RequestError

    if ref is not None and ref.endswith(".onnx"):
        from nanocv_cli.analysis.onnx_graph import analyse_graph

        if data is not None or classes is not None or overrides:
            raise RequestError("a graph has its classes already", "leave out --data, --classes and --set")
        wanted = dict(named_sizes("--shape", text) for text in shapes)
        graph = analyse_graph(Path(ref), input_size, wanted)
        return _Analysed(graph.model, None, Path(ref), graph.shapes)
    from nanocv_cli.analysis.analysed_model import Query, analyse, find_analysed_model

    if shapes:
        raise RequestError("--shape is for .onnx files", "use --input-size")
    analysed = find_analysed_model(Query(ref, data, classes, input_size, overrides), project_root())
    return _Analysed(analyse(analysed), analysed, None, {})


@contextmanager
def _without_collecting() -> Iterator[None]:
    """No garbage collection: importing torch makes objects that all live on, and looking through them takes longer
    than counting a model does.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _gpu(name: str | None, device: str) -> "GpuConfig":
    if name == LOCAL:
        from nanocv_cli.analysis.local import local_peaks
        from nanocv_cli.config.project import cache_folder, project_root
        from nanocv_cli.models.device import pick_device

        return local_peaks(pick_device(device), cache_folder(project_root()), say)
    from nanocv_cli.config.loader import resolve

    return resolve(gpu=name).config.gpu


def _expect_measurable(measure: bool, engine: str | None, is_graph: bool) -> None:
    """Refuses an engine where nothing is run by it.

    Raises:
        RequestError: nothing is measured, the model is no graph, or the engine is not among `MEASURERS` or not
            installed.
    """
    from nanocv_cli.engine.runtimes import find_runtime
    from nanocv_cli.errors import RequestError

    if engine is None:
        return
    if not measure or not is_graph:
        raise RequestError("--engine says what --measure runs a graph by", "--measure --model FILE.onnx")
    one_of("--engine", engine, tuple(MEASURERS))
    find_runtime(engine)


def _measure(analysed: _Analysed, engine: str | None, device: str, dtype: str, batch: int) -> "Measured":
    from nanocv_cli.errors import RequestError

    if analysed.graph is not None:
        measurer = cast("Measurer", resolve_name(MEASURERS[engine or DEFAULT]))
        return measurer(analysed.graph, analysed.model, analysed.shapes, batch)
    from nanocv_cli.analysis.measure_torch import measure_torch
    from nanocv_cli.models.device import pick_device

    if analysed.analysed is None:
        raise RequestError("--measure has nothing to run", "name a model with --model")
    return measure_torch(analysed.analysed, analysed.model, pick_device(device), dtype, batch)


def _ptflops(analysed: _Analysed, form: str) -> tuple[dict[str, Any], list[str]]:
    from nanocv_cli.errors import RequestError

    if analysed.analysed is None:
        raise RequestError("ptflops counts torch models, not graphs", "name the run or the model")
    from nanocv_cli.analysis.ptflops_check import compare_with_ptflops, comparison_json, comparison_table

    rows = compare_with_ptflops(analysed.analysed, analysed.model)
    return comparison_json(rows), comparison_table(rows, form)


def _draw(model: "Model", roofline: "Roofline", points: list[Any], is_sweep: bool, folder: Path) -> list[Path]:
    from nanocv_cli.analysis.plots import draw_roofline, draw_sweep

    images = [folder / "roofline.png"]
    draw_roofline(model, roofline, points[0], images[0])
    if is_sweep:
        images.append(folder / "sweep.png")
        draw_sweep(model, points, roofline, images[1])
    return images


def _dtypes(text: str | None, gpu: str | None) -> list[str]:
    names = (text or ("fp32" if gpu == LOCAL else "fp16")).split(",")
    for name in names:
        one_of("--dtype", name, DTYPES)
    return list(dict.fromkeys(names))
