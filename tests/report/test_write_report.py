"""The page of a run, of a file that is no run, and of what is damaged or gone."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, TrainedRun, run_nanocv
from tests.engine.graphs import colour_card, write_graph


@pytest.fixture(scope="module")
def of_run(trained: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What `nanocv report --json` prints of the run, and the page."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    done = run_nanocv("report", trained.folder, "--out", path, "--json")
    assert done.code == 0, done.err
    assert done.document["report"] == str(path)
    return done.document, path.read_text()


def told(document: dict[str, list[dict[str, object]]]) -> set[object]:
    return {section["name"] for section in document["sections"] if section["told"]}


def test_a_run_tells_what_was_asked_and_how_it_learnt(of_run: tuple[dict[str, Any], str]) -> None:
    document, page = of_run
    assert {"metrics", "curves", "config"} <= told(document)
    assert "model.input_size" in page and "--set" in page
    assert {"mistakes"} <= {section["name"] for section in document["sections"]}
    assert re.search(r"<td[^>]*>top1</td><td[^>]*>[01]\.\d{4}</td><td[^>]*>[01]\.\d{4} to [01]\.\d{4}</td>", page)
    chart = json.loads(re.search(r'data-chart="([^"]*)"', page)[1].replace("&quot;", '"'))  # type: ignore[index]
    assert chart["texts"] == [str(epoch) for epoch in range(1, 7)]
    assert [line["name"] for line in chart["lines"]] == ["train", "val"]


def test_the_policy_allows_the_pages_own_script_and_style_alone(of_run: tuple[dict[str, Any], str]) -> None:
    _, page = of_run
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]  # type: ignore[index]
    assert policy.startswith("default-src &#x27;none&#x27;; ")
    for tag in ("style", "script"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[1]  # type: ignore[index]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src &#x27;sha256-{digest}&#x27;" in policy
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    assert "unsafe" not in policy and " style=" not in page


def test_a_file_that_is_no_run_tells_what_it_can(project: Path, nanocv: Command) -> None:
    hostile = "<b>\x1b[31m\"'"
    write_graph(project / "model.onnx", colour_card(name="plain", classes=("a", "b", "c"), metrics={hostile: 0.5}))
    done = nanocv("report", "model.onnx", "--json")
    assert done.code == 0, done.err
    assert "metrics" in told(done.document)
    (curves,) = [section for section in done.document["sections"] if section["name"] == "curves"]
    assert not curves["told"] and "no run folder" in curves["why_not"]
    page = (project / "report.html").read_text()
    assert r"&lt;b&gt;\x1b[31m&quot;&#x27;" in page and "<b>\x1b" not in page


@pytest.mark.parametrize("content", ["", "[]", '{"epochs": "many"}', '{"score": {"name": "x"}, "epochs": [{}]}'])
def test_a_damaged_record_is_said_and_the_page_goes_on(
    trained: TrainedRun, nanocv: Command, tmp_path: Path, content: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.folder, run)
    (run / "history.json").write_text(content)
    done = nanocv("report", run, "--out", tmp_path / "page.html", "--json")
    assert done.code == 0, done.err
    assert "config" in told(done.document)
    assert "history.json" in (tmp_path / "page.html").read_text()


def test_an_unknown_model_leaves_no_page(project: Path, nanocv: Command) -> None:
    refused = nanocv("report", "nothing-of-that-name")
    assert refused.code == 2
    assert not (project / "report.html").exists()


def test_the_set_its_balance_and_its_findings_are_told(of_run: tuple[dict[str, Any], str]) -> None:
    document, page = of_run
    assert told(document) >= {"data", "parity", "cost", "again"}
    assert '<td class="word">blue</td><td class="figure" data-value="40">40</td>' in page
    assert "finds 0 errors and 0 warnings" in page
    assert page.count("data:image/") > 15
    assert "nanocv train --data " in page and "--model lenet" in page and "train.epochs=6" in page
    assert len(re.findall(r'<td class="word">conv2d</td>', page)) == 5
    assert "NVIDIA Tesla V100" in page and re.search(
        r'data-tip="[^"]*conv[^"]*operations per byte', page, re.IGNORECASE
    )


def test_a_set_that_is_gone_is_said_and_what_the_run_drew_stands_for_it(
    trained: TrainedRun, nanocv: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.folder, run)
    (run / "history.json").unlink()
    shutil.move(trained.data, tmp_path / "elsewhere")
    try:
        done = nanocv("report", run, "--out", tmp_path / "page.html", "--json")
    finally:
        shutil.move(tmp_path / "elsewhere", trained.data)
    assert done.code == 0, done.err
    reasons = {section["name"]: section["why_not"] for section in done.document["sections"] if not section["told"]}
    assert set(reasons) == {"data", "mistakes", "bench"}
    assert "not here" in reasons["data"] and "not here" in reasons["mistakes"]
    page = (tmp_path / "page.html").read_text()
    assert {'alt="curves"', 'alt="confusion"'} <= set(re.findall(r'alt="[a-z]+"', page))
    assert "no interval" in page and str(trained.summary["metrics"]["top1"])[:6] in page


def test_what_a_summary_names_is_never_looked_for_outside_of_its_run(
    trained: TrainedRun, nanocv: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.folder, run, ignore=shutil.ignore_patterns("*.png"))
    shutil.copy(trained.folder / "confusion.png", tmp_path / "secret.png")
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(
        json.dumps(summary | {"pictures": ["../secret.png", str(tmp_path / "secret.png")]})
    )
    (run / "config.yaml").write_text("")
    done = nanocv("report", run, "--out", tmp_path / "page.html")
    assert done.code == 0, done.err
    assert "secret" not in (tmp_path / "page.html").read_text()


@pytest.mark.slow(15)
def test_what_was_benched_stands_in_the_run_and_on_its_page(
    trained: TrainedRun, nanocv: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.folder, run)
    untold = nanocv("report", run, "--out", tmp_path / "page.html", "--json").document["sections"]
    (bench,) = [section for section in untold if section["name"] == "bench"]
    assert not bench["told"] and f"nanocv bench server --model {run}" in bench["why_not"]
    of_model = nanocv("bench", "model", "--model", run, "--batch-sizes", "2", "--threads", "1", "--rounds", "1",
                      "--round-s", "0.01", "--json")  # fmt: skip
    of_server = nanocv("bench", "server", "--model", run, "--max-batch", "2", "--queue-delay-us", "0", "--instances",
                       "1", "--warmup-s", "0.1", "--window-s", "0.1", "--windows", "3", "--json")  # fmt: skip
    assert of_model.code == of_server.code == 0, of_model.err + of_server.err
    assert json.loads((run / "bench-model.json").read_text())["rows"] == of_model.document["rows"]
    assert json.loads((run / "bench-server.json").read_text())["choice"] == of_server.document["choice"]
    done = nanocv("report", run, "--out", tmp_path / "page.html", "--json")
    assert "bench" in told(done.document)
    page = (tmp_path / "page.html").read_text()
    for row in (of_model.document["rows"][0], of_server.document["rows"][0]):
        assert f'data-value="{row["p99_us"]!r}"' in page
    assert "<b>use this</b>" in page


def test_without_the_training_side_the_card_and_the_records_are_told(trained: TrainedRun, tmp_path: Path) -> None:
    script = "import sys; sys.modules['torch'] = None; from nanocv_cli.app import main; main()"
    words = ["report", str(trained.folder), "--out", str(tmp_path / "page.html"), "--json"]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sections = json.loads(done.stdout)["sections"]
    reasons = {section["name"]: section["why_not"] for section in sections if not section["told"]}
    assert set(reasons) == {"mistakes", "data", "bench"}
    assert "nanocv[train]" in reasons["mistakes"] and "nanocv[train]" in reasons["data"]
    assert f"{trained.summary['metrics']['top1']:.4f}" in (tmp_path / "page.html").read_text()
