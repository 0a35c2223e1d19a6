"""How fast the model answers, in a process and on a server, as `nanocv bench` last found it."""

from nanocv_cli.config.project import shown
from nanocv_cli.report.markup import Html, element, joined, note, table
from nanocv_cli.report.run_records import ModelBench, ServerBench, read_model_bench, read_server_bench
from nanocv_cli.report.section import Section, attempt
from nanocv_cli.report.subject import Subject

TITLE = "How fast it answers"


def bench_section(subject: Subject) -> Section:
    """Both tables; where one of them was not made, how to make it."""
    run = subject.run
    if run is None:
        return Section("bench", TITLE, None, f"{shown(subject.graph)} is no run folder, and only those keep it")
    of_model, of_server = attempt(lambda: read_model_bench(run)), attempt(lambda: read_server_bench(run))
    if of_model.value is None and of_server.value is None:
        return Section("bench", TITLE, None, f"{of_model.why_not}; {of_server.why_not}")
    told = [
        element("h3", "In a process"),
        note(of_model.why_not) if of_model.value is None else _of_model(of_model.value),
        element("h3", "On a server"),
        note(of_server.why_not) if of_server.value is None else _of_server(of_server.value),
    ]
    return Section("bench", TITLE, joined(told))


def _of_model(bench: ModelBench) -> Html:
    header = ["engine", "precision", "device", "batch", "threads", "p50, us", "p99, us", "images/s"]
    rows = [
        (row.engine, row.precision, row.device, row.batch_size, row.threads, row.p50_us, row.p99_us, row.throughput)
        for row in bench.rows
    ]
    return joined([note(f"Measured {bench.when}."), table(header, rows, words=(0, 1, 2), sortable=True)])


def _of_server(bench: ServerBench) -> Html:
    header = ["max batch", "delay, us", "instances", "concurrency", "inferences/s", "p50, us", "p90, us", "p95, us",
              "p99, us", "errors", ""]  # fmt: skip
    rows = [
        (row.max_batch, row.queue_delay_us, row.instances, row.concurrency, row.throughput, row.p50_us, row.p90_us,
         row.p95_us, row.p99_us, row.errors, _remark(number, bench))
        for number, row in enumerate(bench.rows)
    ]  # fmt: skip
    asked = ", ".join(f"{key} {value}" for key, value in bench.conditions.items() if value is not None)
    told = f"Measured {bench.when}: {asked}. Chosen by the rule: {bench.choice.rule or 'none'}."
    return joined([note(told), table(header, rows, words=(10,), sortable=True)])


def _remark(number: int, bench: ServerBench) -> Html | str:
    if number == bench.choice.row:
        return element("b", "use this")
    return "" if bench.rows[number].stable else "not stable"
