"""What Prometheus reads: Triton's names, and models' names as they are."""

from types import SimpleNamespace
from typing import cast

from prometheus_client.parser import text_string_to_metric_families

from nanocv_cli.serving.embedded.library import Library
from nanocv_cli.serving.embedded.management import exposition
from nanocv_cli.serving.embedded.statistics import Execution, Statistics


def library_of(*names: str) -> Library:
    """A library of models that ran one batch of two requests with three images, and refused one request."""
    models = []
    for name in names:
        statistics = Statistics()
        statistics.ran(Execution(3, (0, 500), 1_000, 3_000, 9_000, 9_000, 10_000))
        statistics.failed(0, "REJECTED")
        models.append(SimpleNamespace(name=name, version=7, statistics=statistics, waiting=4))
    return cast(Library, SimpleNamespace(loaded=lambda: models))


def test_metrics_have_tritons_names_and_numbers() -> None:
    lines = exposition(library_of("lenet"), 2).decode().splitlines()
    labels = '{model="lenet",version="7"}'
    assert f"nv_inference_request_success{labels} 2.0" in lines
    assert f"nv_inference_count{labels} 3.0" in lines
    assert f"nv_inference_exec_count{labels} 1.0" in lines
    assert f"nv_inference_compute_infer_duration_us{labels} 12.0" in lines
    assert f"nv_inference_pending_request_count{labels} 4.0" in lines
    assert 'nv_inference_request_failure{model="lenet",reason="REJECTED",version="7"} 1.0' in lines
    assert "nanocv_log_lines_dropped 2.0" in lines
    assert "# TYPE nv_inference_count counter" in lines
    assert "# TYPE nv_inference_pending_request_count gauge" in lines
    assert not [line for line in lines if "_total" in line or "EOF" in line]


def test_a_models_name_is_told_as_it_is() -> None:
    name = 'sum_total "a" \\ _total{b'
    families = list(text_string_to_metric_families(exposition(library_of(name), 0).decode()))
    assert {sample.labels.get("model", name) for family in families for sample in family.samples} == {name}
