"""Which row of a graph's figures is the one to use."""

from nanocv_cli.bench.model import ModelRow, choose_row
from tests.bench.rows import model_row


def row(throughput: float, drop: float | None = 0.0, p99_us: float = 100.0, name: str = "lenet") -> ModelRow:
    return model_row(throughput=throughput, drop=drop, p99_us=p99_us, p50_us=p99_us / 2, name=name)


def test_the_fastest_row_that_lost_little_is_chosen() -> None:
    rows = [row(10), row(30, drop=0.9), row(40, drop=1.1), row(90, drop=None)]
    assert choose_row(rows, 1.0, None).row == 1
    assert choose_row(rows, 0.5, None).row == 0
    assert choose_row(rows, 2.0, None).row == 2


def test_a_limit_of_latency_is_kept() -> None:
    rows = [row(10, p99_us=50), row(30, p99_us=200)]
    assert choose_row(rows, 1.0, 100.0).row == 0
    nothing = choose_row(rows, 1.0, 20.0)
    assert (nothing.row, "at most 20 us: there is none" in nothing.rule) == (None, True)


def test_none_is_chosen_of_several_models() -> None:
    assert choose_row([row(10), row(20, name="nanores")], 1.0, None).row is None
