"""Which configuration is recommended, and the Pareto front."""

from hypothesis import given
from hypothesis import strategies as st

from nanocv_cli.bench.report import choose, pareto
from tests.bench.rows import row


def test_the_fastest_of_those_that_are_not_late() -> None:
    rows = [row(100, 1000), row(150, 1400), row(400, 1600)]
    choice = choose(rows, None)
    assert choice.row == 1
    assert "1.5x of the lowest p99 seen (1000 us)" in choice.rule


def test_a_bound_on_p99() -> None:
    rows = [row(100, 1000), row(150, 1400), row(400, 1600)]
    assert choose(rows, 1600).row == 2
    assert choose(rows, 1200).row == 0
    assert choose(rows, 900).row is None
    assert "no configuration is that fast" in choose(rows, 900).rule


def test_errors_disqualify() -> None:
    assert choose([row(100, 1000), row(150, 1000, errors=1)], None).row == 0
    assert choose([row(150, 1000, errors=1)], None).row is None


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=12))
def test_nothing_beats_the_front_and_the_front_beats_the_rest(figures: list[tuple[int, int]]) -> None:
    rows = [row(throughput, p99) for throughput, p99 in figures]
    front = {figures[number] for number in pareto(rows)}

    def beaten(one: tuple[int, int]) -> bool:
        return any(t >= one[0] and p <= one[1] and (t, p) != one for t, p in figures)

    assert front == {one for one in figures if not beaten(one)}
