"""Kept figures against new ones."""

from pathlib import Path

import pytest

from nanocv_cli.bench import baseline
from nanocv_cli.errors import RequestError
from tests.bench.rows import row

CONDITIONS = {"model": "lenet", "protocol": "http"}


def kept(folder: Path) -> Path:
    path = folder / "baseline.json"
    baseline.save(path, CONDITIONS, [row(100, 1000), row(200, 2000, delay=500)])
    return path


@pytest.mark.parametrize(
    ("throughput", "p99_us", "worse"),
    [(100, 1000, []), (91, 1000, []), (89, 1000, ["throughput"]), (100, 1111, ["p99_us"]), (120, 500, [])],
)
def test_worse_is_worse_by_more_than_the_tolerance(
    tmp_path: Path, throughput: float, p99_us: float, worse: list[str]
) -> None:
    changes = baseline.compare(kept(tmp_path), CONDITIONS, [row(throughput, p99_us)], 0.10)
    assert [change.figure for change in changes if change.worse] == worse
    assert {change.figure: change.ratio for change in changes}["throughput"] == pytest.approx(throughput / 100)


def test_like_is_compared_with_like(tmp_path: Path) -> None:
    changes = baseline.compare(kept(tmp_path), CONDITIONS, [row(200, 2000, delay=500)], 0.10)
    assert {change.ratio for change in changes} == {1.0}
    with pytest.raises(RequestError, match="protocol http, this with grpc"):
        baseline.compare(kept(tmp_path), {**CONDITIONS, "protocol": "grpc"}, [row(1, 1)], 0.10)
    with pytest.raises(RequestError, match="none of the configurations"):
        baseline.compare(kept(tmp_path), CONDITIONS, [row(1, 1, delay=7)], 0.10)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"conditions": {}, "rows": [{}]}'])
def test_what_is_no_baseline(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "baseline.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(RequestError, match="is no baseline"):
        baseline.compare(path, CONDITIONS, [row(1, 1)], 0.10)
