"""`nanocv bench model`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nanocv_cli.commands.options import (
    DebugFlag,
    JsonFlag,
    RuntimeDeviceOption,
    complete_ref,
    number_option,
    numbers,
    words,
)
from nanocv_cli.engine.runtimes import DEFAULT, FP32, PRECISIONS, RUNTIMES, STORED_PRECISIONS, readers
from nanocv_cli.output import emit, say, tell

if TYPE_CHECKING:
    from nanocv_cli.bench.model import ModelRow
    from nanocv_cli.bench.report import Choice


def model(
    refs: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="REF", help="Trained models; may be repeated.", autocompletion=complete_ref),
    ] = None,
    batch_sizes: Annotated[str, typer.Option(metavar="N,N", help="Images per run.")] = "1,2,4,8",
    threads: Annotated[str, typer.Option(metavar="N,N", help="Of the engine; 0: it chooses.")] = "1,2",
    engines: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME", help=f"Of {', '.join(RUNTIMES)}; default: {DEFAULT} if it reads the file."),
    ] = None,
    precisions: Annotated[
        str,
        typer.Option(
            metavar="NAME,NAME", help="fp32, bf16: computed in; fp16, int8: of the graph that export wrote beside it."
        ),
    ] = "fp32",
    device: RuntimeDeviceOption = "auto",
    rounds: Annotated[int, number_option(low=1, high=1000, text="Turns that each combination gets.")] = 5,
    round_s: Annotated[float, number_option(low=0.01, high=3600.0, text="Length of a turn, seconds.")] = 0.3,
    max_drop: Annotated[
        float, number_option(low=0.0, high=100.0, text="Most that the choice may have lost by its precision, points.")
    ] = 1.0,
    slo_p99_us: Annotated[
        float | None, number_option(low=1.0, high=1e9, text="Highest p99 the choice may have, usec.")
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="Metric against latency, PNG.")] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Time a graph in this process, without a server.

    Combinations take turns, so that what else the machine does falls on all of them alike. A served model has its
    figures by `nanocv bench server --url`.

    \b
    Example:
      nanocv bench model --model lenet --batch-sizes 1,4 --figure costs.png
    """
    from nanocv_cli.bench import baseline
    from nanocv_cli.bench.model import bench_model, choose_row, graph_beside, run_settings
    from nanocv_cli.bench.score_chart import NoChart, draw_scores
    from nanocv_cli.config.project import project_root
    from nanocv_cli.display import Display
    from nanocv_cli.engine.reference import find_runnable
    from nanocv_cli.files import expect_writable

    if figure:
        expect_writable(figure)
    sizes, counts = numbers("--batch-sizes", batch_sizes, 1, 2**31), numbers("--threads", threads, 0, 1024)
    asked = words("--precisions", precisions, (*PRECISIONS, *STORED_PRECISIONS))
    computed, stored = ([one for one in asked if one in known] for known in (PRECISIONS, STORED_PRECISIONS))
    runtimes = words("--engines", engines, tuple(RUNTIMES)) if engines is not None else None
    names: list[str | None] = [*(refs or ())] or [None]
    for name in names:
        expect_graph_here(name)
    found = [find_runnable(name, project_root()) for name in names]
    able = {graph: runtimes or readers(graph)[:1] for graph in found}
    wanted = {graph: run_settings(able[graph], computed, counts, device) for graph in found if computed}
    # In fp32 an engine computes a graph in the precision that it is stored in.
    wanted |= {graph_beside(graph, precision): run_settings(able[graph], [FP32], counts, device)
               for graph in found for precision in stored}  # fmt: skip
    with Display().bar("bench") as progress:
        rows = bench_model(wanted, sizes, rounds, round_s, progress, say)
    for graph in wanted:
        own = [row for row in rows if row.model == str(graph)]
        kept = {"rows": [row.to_json() for row in own], "choice": vars(choose_row(own, max_drop, slo_p99_us))}
        baseline.keep_in_run(graph, baseline.OF_MODEL, kept)
    choice = choose_row(rows, max_drop, slo_p99_us)
    if not as_json:  # first of all: what was measured is not lost, whatever comes
        _tell_model_rows(rows, choice)
    drawn = None
    if figure:
        try:
            draw_scores(rows, choice, slo_p99_us, figure)
            drawn = str(figure)
            say(f"image: {figure}")
        except NoChart as reason:
            say(f"no image: {reason}")
    if as_json:
        emit({"rows": [row.to_json() for row in rows], "choice": vars(choice), "figure": drawn})


def _tell_model_rows(rows: "list[ModelRow]", choice: "Choice") -> None:
    head = f"{'engine':>11}  {'precision':>9}  {'batch':>5}  {'threads':>7}"
    tell(f"{head}  {'p50 us':>8}  {'p99 us':>8}  {'inf/s':>7}  model")
    for row in rows:
        tell(
            f"{row.engine:>11}  {row.precision:>9}  {row.batch_size:>5}  {row.threads:>7}  {row.p50_us:>8.0f}  "
            f"{row.p99_us:>8.0f}  {row.throughput:>7.0f}  {row.model}"
        )
    chosen = rows[choice.row] if choice.row is not None else None
    used = f"{chosen.engine} {chosen.precision}, batches of {chosen.batch_size}" if chosen else "none"
    tell(f"use: {used}  ({choice.rule})")


def expect_graph_here(ref: str | None) -> None:
    """Refuses the URL of a served model, whose time is its server's.

    Raises:
        RequestError: it is one.
    """
    from nanocv_cli.engine.model_url import parse_model_url
    from nanocv_cli.engine.reference import is_url
    from nanocv_cli.errors import RequestError

    if ref is not None and is_url(ref):
        served = parse_model_url(ref)
        raise RequestError(
            f"{served} is served: there is no graph here to run",
            f"nanocv bench server --url {served.address} --model {served.model} measures the server that runs there",
        )
