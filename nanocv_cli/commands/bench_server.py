"""`nanocv bench server`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nanocv_cli.commands.bench_model import expect_graph_here
from nanocv_cli.commands.options import (
    DebugFlag,
    JsonFlag,
    RefOption,
    SetOption,
    end_as_failed,
    named_sizes,
    number_option,
    numbers,
    one_of,
)
from nanocv_cli.output import emit, say, tell

if TYPE_CHECKING:
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
    expect_graph_here(ref)
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
