"""`nanocv bench`: server, model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nanocv_cli.commands.options import (
    DebugFlag,
    JsonFlag,
    RefOption,
    RuntimeDeviceOption,
    SetOption,
    complete_ref,
    end_as_failed,
    named_sizes,
    number_option,
    numbers,
    one_of,
    words,
)
from nanocv_cli.engine.runtimes import DEFAULT, FP32, PRECISIONS, RUNTIMES, STORED_PRECISIONS, readers
from nanocv_cli.output import emit, say, tell

if TYPE_CHECKING:
    from nanocv_cli.bench.model import ModelRow
    from nanocv_cli.bench.report import Choice
    from nanocv_cli.bench.sweep import Row, Setting, Target

REFERENCE_DELAYS = "500,1000,2000,4000"


def server(
    ref: RefOption = None,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="A server's HTTP side (https://HOST:PORT: by TLS); else one is started."
        ),
    ] = None,
    grpc_url: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Its gRPC side (--protocol grpc).")] = None,
    engine: Annotated[str, typer.Option(help="The server to start: embedded or triton.")] = "embedded",
    protocol: Annotated[str, typer.Option(help="http or grpc.")] = "http",
    concurrency: Annotated[int, number_option(low=1, high=1024, text="Clients that ask without a pause.")] = 4,
    rate: Annotated[
        float | None,
        number_option(low=0.1, high=1e6, text="Open loop: Poisson arrivals per second, in place of --concurrency."),
    ] = None,
    connections: Annotated[int, number_option(low=1, high=1024, text="Connections that share the --rate.")] = 64,
    max_batch: Annotated[str | None, typer.Option(metavar="N,N", help="To sweep; default 4.")] = None,
    queue_delay_us: Annotated[
        str | None, typer.Option(metavar="N,N", help=f"To sweep; default {REFERENCE_DELAYS}.")
    ] = None,
    instances: Annotated[str | None, typer.Option(metavar="N,N", help="To sweep; default 1,2.")] = None,
    threads: Annotated[
        int | None, number_option(low=0, high=1024, text="ONNX Runtime threads of the server started here.")
    ] = None,
    request_batch: Annotated[int, number_option(low=1, high=4096, text="Images per request.")] = 1,
    filling: Annotated[str, typer.Option("--input", help="random, zeros, or a folder of images.")] = "random",
    shape: Annotated[list[str] | None, typer.Option(metavar="NAME:N,N", help="Sizes of an input that vary.")] = None,
    warmup_s: Annotated[float, number_option(low=0.0, high=3600.0, text="Before the first window, seconds.")] = 1.0,
    window_s: Annotated[float, number_option(low=0.1, high=3600.0, text="Length of a window, seconds.")] = 2.0,
    windows: Annotated[int, number_option(low=3, high=1000, text="Most windows per configuration.")] = 12,
    slo_p99_us: Annotated[
        float | None, number_option(low=1.0, high=1e9, text="Highest p99 the choice may have, usec.")
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="Throughput against p99, PNG; of a sweep: bench.png.")] = None,
    save_baseline: Annotated[Path | None, typer.Option(help="Keep these figures, JSON.")] = None,
    compare: Annotated[Path | None, typer.Option(help="Compare with kept figures; worse ends with exit 1.")] = None,
    tolerance: Annotated[float, number_option(low=0.0, high=1.0, text="How much worse is too much.")] = 0.10,
    overrides: SetOption = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Load a server and measure it: latency percentiles, throughput, the configuration to use.

    Without --url a server is started and given one configuration after the other; each is measured until three
    windows agree. The one to use is named, with the rule it was chosen by. With --url the server that runs there is
    measured as it is.

    \b
    Examples:
      nanocv bench server --model lenet-flowers --figure bench.png
      nanocv bench server --url 127.0.0.1:8000 --model lenet --rate 200
      nanocv bench server --model lenet --set serve.encoded=true --input photos
    """
    from nanocv_cli.bench import baseline
    from nanocv_cli.bench.measure import Plan
    from nanocv_cli.bench.payload import FILLINGS
    from nanocv_cli.bench.report import choose, draw, shares, table
    from nanocv_cli.bench.sweep import run_sweep
    from nanocv_cli.config.project import project_root
    from nanocv_cli.display import Display
    from nanocv_cli.engine.reference import find_graph
    from nanocv_cli.errors import RequestError, ServingError
    from nanocv_cli.files import expect_writable
    from nanocv_cli.folders import is_folder

    one_of("--protocol", protocol, ("http", "grpc"))
    if filling not in FILLINGS and not is_folder(Path(filling)):
        raise RequestError(f"--input {filling!r} is no folder of images", f"or use {' or '.join(FILLINGS)}")
    one_of("--engine", engine, ("embedded", "triton"))
    wanted = _settings(url is not None, max_batch, queue_delay_us, instances)
    shapes = dict(named_sizes("--shape", text) for text in shape or ())
    is_sweep = wanted is not None and len(wanted) > 1
    image = figure or (Path("bench.png") if is_sweep and not as_json else None)
    for target_file in (image, save_baseline):
        if target_file:
            expect_writable(target_file)
    if compare:
        baseline.read(compare)
    plan = Plan(connections if rate else concurrency, request_batch, warmup_s, window_s, windows, rate)
    with _target(ref, url, grpc_url, engine, protocol, threads, overrides) as (target, served):
        display = Display()
        with display.bar("bench") as progress:
            rows = run_sweep(target, wanted, plan, filling, shapes, progress)
        name = target.model
    choice = choose(rows, slo_p99_us)
    conditions = {
        "model": name,
        "protocol": protocol,
        "rows": request_batch,
        "rate": rate,
        "engine": url or engine,
        "input": filling,
    }
    document = {
        "model": name,
        "rows": [row.to_json() for row in rows],
        "choice": vars(choice),
        "conditions": conditions,
        "served": served,
    }
    try:
        if not as_json:  # first of all: what was measured is not lost, whatever comes
            tell(*table(rows, choice))
            _conclude(rows, choice.row, choice.rule)
            tell(shares(rows[choice.row or 0]))
    finally:  # and where nobody reads it, it is kept all the same
        if save_baseline:
            baseline.save(save_baseline, conditions, rows)
        if image:
            load = f"{rate:g}/s" if rate else f"concurrency {concurrency}"
            draw(rows, choice, f"{name}, {protocol}, {load}", image)
        if url is None:
            baseline.keep_in_run(find_graph(ref, project_root()), baseline.OF_SERVER, document)
    changes = baseline.compare(compare, conditions, rows, tolerance) if compare else []
    if as_json:
        emit(document | {"figure": str(image) if image else None, "compared": [vars(change) for change in changes]})
    for change in changes if not as_json else ():
        verdict = "WORSE" if change.worse else "ok"
        tell(f"{verdict:5}  {change.figure} now/then {change.ratio:.3f}  {change.configuration}")
    if image:
        say(f"image: {image}")
    worse = sum(change.worse for change in changes)
    if worse:
        end_as_failed(
            ServingError(
                f"{worse} of {len(changes)} figures are worse than in {compare} by more than {tolerance:.0%}",
                "run it again on a quiet machine, or allow more with --tolerance",
            )
        )


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
        _expect_graph_here(name)
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


@contextmanager
def _target(
    ref: str | None,
    url: str | None,
    grpc_url: str | None,
    engine: str,
    protocol: str,
    threads: int | None,
    overrides: list[str] | None,
) -> "Iterator[tuple[Target, dict[str, Any] | None]]":
    """The model to measure: on a server that runs already, or on one started for it, and then what that serves."""
    from nanocv_cli.bench.server_api import ServerApi, host_and_port
    from nanocv_cli.bench.sweep import Target
    from nanocv_cli.bench.taken import sha256_of
    from nanocv_cli.config.loader import resolve_serve
    from nanocv_cli.config.project import project_root
    from nanocv_cli.engine.reference import default_model, find_graph
    from nanocv_cli.errors import RequestError
    from nanocv_cli.serving.launch import serving

    root = project_root()
    if url is not None:
        if threads is not None or overrides:
            raise RequestError("--threads and --set are for a server that is started here", "leave them out with --url")
        if protocol == "grpc" and grpc_url is None:
            raise RequestError("--protocol grpc with --url needs --grpc-url too", "as in --grpc-url 127.0.0.1:8001")
        address = host_and_port(grpc_url) if grpc_url else ""
        yield Target(ServerApi(url), ref or default_model(root), protocol, address), None
        return
    if grpc_url is not None:
        raise RequestError("--grpc-url is for a server that runs already", "give its --url too")
    _expect_graph_here(ref)
    # The Triton that pip installs has the Python backend only.
    options: dict[str, Any] = {"threads": threads, "backend": "python" if engine == "triton" else None}
    settings = resolve_serve(None, options, overrides or ())
    graph = find_graph(ref, root)
    say(f"starting the {engine} server")
    served = {
        "graph": str(graph),
        "sha256": sha256_of(graph),
        **settings.model_dump(include={"backend", "precision", "threads"}),
    }
    with serving(graph, settings, engine) as (running, name):
        yield Target(ServerApi(running.http), name, protocol, running.grpc), served


def _expect_graph_here(ref: str | None) -> None:
    """Refuses the URL of a served model, whose time is its server's.

    Raises:
        RequestError: it is one.
    """
    from nanocv_cli.engine.kserve import parse_model_url
    from nanocv_cli.engine.reference import is_url
    from nanocv_cli.errors import RequestError

    if ref is not None and is_url(ref):
        served = parse_model_url(ref)
        raise RequestError(
            f"{served} is served: there is no graph here to run",
            f"nanocv bench server --url {served.address} --model {served.model} measures the server that runs there",
        )


def _settings(
    is_foreign: bool, max_batch: str | None, delays: str | None, instances: str | None
) -> "list[Setting] | None":
    """What to sweep over; None to measure a foreign server as it is."""
    from nanocv_cli.bench.sweep import settings

    if is_foreign and max_batch is None and delays is None and instances is None:
        return None
    return settings(
        numbers("--max-batch", "4" if max_batch is None else max_batch, 1, 4096),
        numbers("--queue-delay-us", REFERENCE_DELAYS if delays is None else delays, 0, 60_000_000),
        numbers("--instances", "1,2" if instances is None else instances, 1, 64),
    )


def _conclude(rows: "list[Row]", chosen: int | None, rule: str) -> None:
    from nanocv_cli.bench.sweep import describe

    if len(rows) > 1 or chosen is None:
        tell(f"use: {describe(rows[chosen].setting) if chosen is not None else 'none'}  ({rule})")
    offered, delivered = rows[0].figures.offered_rate, rows[0].figures.delivered_rate
    if offered is not None and delivered is not None:
        from nanocv_cli.bench.measure import DELIVERED_WITHIN

        short = "" if abs(delivered / offered - 1) <= DELIVERED_WITHIN else ": NOT the rate asked for"
        tell(f"offered {offered:.1f} requests/s, delivered {delivered:.1f}{short}")
