"""`nanocv serve run`: serves a model repository, by nanocv's own server or by NVIDIA's."""

import contextlib
import re
from pathlib import Path
from typing import Annotated

import typer

from nanocv_cli.commands.options import DebugFlag, JsonFlag, number_option, one_of
from nanocv_cli.output import emit

# A name or an IP address; whether this machine has it, binding to it tells.
HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_\-]{1,63}(\.[A-Za-z0-9_\-]{1,63})*|[0-9A-Fa-f:.]{2,45}(%\w{1,15})?", re.ASCII
)

COLLECTOR = re.compile(r"https?://[^\s/?#@]{1,260}/[^\s?#]{1,1000}", re.ASCII)  # of its door for traces


def run(
    repository: Annotated[Path, typer.Option(help="The model repository.")] = Path("model_repository"),
    engine: Annotated[str, typer.Option(help="embedded: nanocv's own server; triton: NVIDIA's.")] = "embedded",
    host: Annotated[str, typer.Option(help="Address to listen on; loopback unless you say otherwise.")] = "127.0.0.1",
    http_port: Annotated[int, number_option(low=0, high=65535, text="KServe v2 over HTTP; 0: any free one.")] = 8000,
    grpc_port: Annotated[int, number_option(low=0, high=65535, text="KServe v2 over gRPC; 0: any free one.")] = 8001,
    metrics_port: Annotated[int, number_option(low=0, high=65535, text="Prometheus; 0: any free one.")] = 8002,
    control: Annotated[
        str, typer.Option(help="explicit: requests may load and unload models; none: they may not.")
    ] = "none",
    poll_s: Annotated[
        float, number_option(low=0.0, high=86_400.0, text="Look for changed entries this often, seconds; 0: never.")
    ] = 0.0,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name that clients know this server by; may be repeated (embedded)."),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keys, one of which each request must carry (embedded); see serve key."),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Certificate, and its chain: TLS on all ports (embedded).")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="PEM", help="Its private key (embedded).")] = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option(metavar="PEM", help="Who must have signed the certificate that each client shows (embedded)."),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let everybody in who can reach --host, though there are no keys.")
    ] = False,
    no_page: Annotated[
        bool, typer.Option("--no-page", help="Leave out the page to try the models with, at / (embedded).")
    ] = False,
    access_log: Annotated[
        str, typer.Option(help="off, text or json: a line on stderr for each request (embedded).")
    ] = "off",
    otlp: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Send requests as spans there: OpenTelemetry's OTLP over HTTP (embedded)."),
    ] = None,
    max_message_mb: Annotated[int, number_option(low=1, high=2047, text="Largest request (embedded).")] = 64,
    max_json_mb: Annotated[int, number_option(low=1, high=2047, text="Most JSON in a request (embedded).")] = 4,
    max_in_flight_mb: Annotated[int, number_option(low=1, high=1 << 20, text="All requests at once (embedded).")] = 512,
    max_run_s: Annotated[
        int, number_option(low=1, high=86_400, text="Longest run of a graph, seconds (embedded).")
    ] = 60,
    max_load_s: Annotated[
        int, number_option(low=1, high=86_400, text="Longest load of a model with its warm-up, seconds (embedded).")
    ] = 60,
    max_copies: Annotated[
        int,
        number_option(
            low=0, high=65_536, text="Most instances of a model, over its versions (embedded); 0: by the machine."
        ),
    ] = 0,
    max_threads: Annotated[
        int, number_option(low=0, high=65_536, text="Most threads of an instance (embedded); 0: by the machine.")
    ] = 0,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Serve a model repository: KServe v2 over HTTP and gRPC, and Prometheus metrics.

    nanocv's own server listens on loopback and answers to its own names; Triton's rules of batching hold. It runs
    until Ctrl-C.

    \b
    Examples:
      nanocv serve run --repository model_repository
      nanocv serve run --http-port 9000 --grpc-port 9001 --metrics-port 9002
    """
    from nanocv_cli.config.project import project_root
    from nanocv_cli.errors import RequestError, ServingError
    from nanocv_cli.serving.ports import Addresses, Control, Ports, is_loopback
    from nanocv_cli.serving.repository.versions import bring_versions

    ports = Ports(host, http_port, grpc_port, metrics_port)
    one_of("--engine", engine, ("embedded", "triton"))
    one_of("--control", control, ("none", "explicit"))
    one_of("--access-log", access_log, ("off", "text", "json"))
    if otlp is not None and not COLLECTOR.fullmatch(otlp):
        shown = otlp.rpartition("@")[2].partition("?")[0]  # what stands before and behind it may be secret
        raise RequestError(
            f"--otlp {shown!r} is no URL of a collector, or has a user or a query in it",
            "--otlp http://127.0.0.1:4318/v1/traces; OTEL_EXPORTER_OTLP_HEADERS tells who sends",
        )
    if not HOST.fullmatch(host):
        raise RequestError(f"{host!r} is no address to listen on", "--host 127.0.0.1, or a name of this machine")
    if not repository.is_dir():
        raise RequestError(
            f"there is no model repository {repository}", f"nanocv serve config --repository {repository} writes one"
        )
    if poll_s and control == "explicit":
        raise RequestError("--poll-s and --control explicit exclude each other", "leave one of them out")
    if not (key_file or insecure or is_loopback(host)):
        raise RequestError(
            f"--host {host} may let other machines in, and there are no keys",
            "--key-file FILE, which nanocv serve key writes; or --insecure, to let everybody in",
        )
    root = project_root()
    manner: Control = "poll" if poll_s else "explicit" if control == "explicit" else "none"
    if engine == "triton":
        if key_file or tls_cert or tls_key or tls_ca:
            raise RequestError(
                "keys and TLS are of nanocv's own server",
                "leave --key-file and --tls-... out, or put a proxy before it",
            )
        from nanocv_cli.serving.triton import find_triton, run_triton

        bring_versions(repository, root)
        status = run_triton(find_triton(root), repository, ports, manner, poll_s)
        if status:
            raise ServingError(f"Triton ended with status {status}", "its own words stand above")
        return

    from nanocv_cli.serving.embedded.certificates import TlsFiles
    from nanocv_cli.serving.embedded.credentials import CredentialFiles
    from nanocv_cli.serving.embedded.limits import DEFAULT_LIMITS, Limits, ModelLimits
    from nanocv_cli.serving.embedded.server import Settings, run, serve
    from nanocv_cli.serving.embedded.server_log import ServerLog
    from nanocv_cli.tasks.table import postprocessor_for

    if bool(tls_cert) != bool(tls_key) or (tls_ca and not tls_cert):
        raise RequestError("--tls-cert and --tls-key need each other, and --tls-ca needs both", "give them together")
    tls = TlsFiles(tls_cert, tls_key, tls_ca) if tls_cert and tls_key else None

    def tell(addresses: Addresses) -> None:
        if as_json:
            emit(vars(addresses))
        scheme = "https" if tls else "http"
        log.say(f"HTTP {addresses.http}   gRPC {addresses.grpc}   metrics {scheme}://{addresses.metrics}/metrics")
        if not no_page:
            log.say(f"a page to try the models: {scheme}://{addresses.http}/")
        if key_file and not tls and not is_loopback(host):
            log.say("warning: keys travel in the clear; --tls-cert and --tls-key have nobody on the way read them")

    models = ModelLimits(
        copies=max_copies or DEFAULT_LIMITS.copies,
        threads=max_threads or DEFAULT_LIMITS.threads,
        load_seconds=max_load_s,
        run_seconds=max_run_s,
    )
    limits = Limits(
        message_bytes=max_message_mb << 20, text_bytes=max_json_mb << 20, flight_bytes=max_in_flight_mb << 20
    )
    settings = Settings(
        ports, limits, models, manner, poll_s, tuple(allowed_host or ()), CredentialFiles(key_file, tls), not no_page
    )
    with ServerLog(access_log) as log, contextlib.ExitStack() as sent:
        if otlp:
            from nanocv_cli.serving.embedded.spans import sending

            log.also = sent.enter_context(sending(otlp))
        bring_versions(repository, root, log.say)
        run(serve(repository, settings, postprocessor_for, log, tell))
