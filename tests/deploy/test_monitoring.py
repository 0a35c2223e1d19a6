"""Alerts and dashboard ask for metrics that a server has, with labels that these have."""

import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml

from nanocv_cli.serving.launch import started
from tests.conftest import REPOSITORY
from tests.serving.models import entry_config, write_model

pytestmark = pytest.mark.slow(3)

DEPLOY = REPOSITORY / "deploy"
BY_PROMETHEUS = {"job", "instance"}  # labels that it adds to whatever it scrapes
ALERTS = [
    rule
    for group in yaml.safe_load((DEPLOY / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((DEPLOY / "dashboard.json").read_text(encoding="utf-8"))


def asked(expression: str) -> tuple[dict[str, set[str]], set[str]]:
    """The metrics of an expression of PromQL, the labels that each is chosen by, and the labels it is grouped by."""
    found: dict[str, set[str]] = {}
    grouped: set[str] = set()

    def look(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.setdefault(node.name, set()).update(matcher.name for matcher in node.matchers.matchers)
        elif isinstance(node, promql_parser.MatrixSelector):
            look(node.vector_selector)
        elif isinstance(node, promql_parser.AggregateExpr):
            grouped.update(node.modifier.labels if node.modifier else ())
            look(node.expr)
        elif isinstance(node, promql_parser.BinaryExpr):
            look(node.lhs)
            look(node.rhs)
        elif isinstance(node, promql_parser.Call):
            for argument in node.args:
                look(argument)
        elif isinstance(node, promql_parser.ParenExpr):
            look(node.expr)
        else:
            assert isinstance(node, promql_parser.NumberLiteral), node

    look(promql_parser.parse(expression.replace("$__rate_interval", "5m")))
    return found, grouped


TARGETS = [(panel, target) for panel in DASHBOARD["panels"] for target in panel["targets"]]
EXPRESSIONS = {rule["alert"]: rule["expr"] for rule in ALERTS} | {
    f"{panel['title']} {target['refId']}": target["expr"] for panel, target in TARGETS
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, set[str]]]:
    """The metrics of a live server, and the labels of each."""
    repository = tmp_path_factory.mktemp("repository")
    write_model(repository, entry_config("doubling", "doubling", backend="onnxruntime"), "doubling")
    with started(repository, "embedded") as server:
        with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        metrics: dict[str, set[str]] = {"up": set()}  # that one Prometheus makes itself
        for line in lines:
            if not line.startswith("#"):
                name, _, rest = line.partition(" ")[0].partition("{")
                metrics.setdefault(name, set()).update(re.findall(r'(\w+)="', rest))
        yield metrics


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_asks_for_what_a_server_exports(exported: dict[str, set[str]], name: str) -> None:
    metrics, grouped = asked(EXPRESSIONS[name])
    assert metrics
    for metric, labels in metrics.items():
        assert metric in exported
        assert labels <= exported[metric] | BY_PROMETHEUS
        assert grouped <= exported[metric] | BY_PROMETHEUS


def test_the_dashboard_shows_every_metric(exported: dict[str, set[str]]) -> None:
    shown = {metric for _, target in TARGETS for metric in asked(target["expr"])[0]}
    assert shown == exported.keys() - {"up"}


def test_variables_and_legends_name_labels_that_are_there(exported: dict[str, set[str]]) -> None:
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    for one in (variables["instance"], variables["model"]):
        metric, label = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", one["query"]["query"]).groups()  # type: ignore[union-attr]
        assert label in exported[metric] | BY_PROMETHEUS
    for panel, target in TARGETS:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert set(re.findall(r"\$(\w+)", target["expr"])) <= variables.keys() | {"__rate_interval"}
        metrics, grouped = asked(target["expr"])
        here = grouped or set.union(*(exported[metric] | BY_PROMETHEUS for metric in metrics))
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= here


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    lines = (REPOSITORY / page).read_text(encoding="utf-8").splitlines()
    headings = [line.lstrip("# ").lower() for line in lines if line.startswith("#")]
    assert anchor == rule["alert"].lower()
    assert anchor in headings
    _, grouped = asked(rule["expr"])
    assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= (grouped or BY_PROMETHEUS)
