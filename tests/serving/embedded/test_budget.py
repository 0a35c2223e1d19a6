"""Who loses bytes when there are too many: rules that hold for any order of events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanocv_cli.serving.embedded import budget as module
from nanocv_cli.serving.embedded.budget import Budget, Holding
from nanocv_cli.serving.embedded.faults import Fault, Status

LIMIT, CLIENTS = 1000, 8


class Clock:
    """The only clock that the budget looks at."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def holdings(budget: Budget, number: int = CLIENTS) -> list[Holding]:
    return [budget.holding() for _ in range(number)]


events = st.lists(
    st.tuples(st.integers(0, CLIENTS - 1), st.one_of(st.integers(1, 600), st.sampled_from(["release", "keep"]))),
    max_size=60,
)


@given(events)
def test_the_limit_holds_and_all_is_given_back(happens: list[tuple[int, int | str]]) -> None:
    budget = Budget(LIMIT)
    clients = holdings(budget)
    for number, event in happens:
        client = clients[number]
        if event == "release" or client.lost:
            client.release()
            clients[number] = budget.holding()
        elif event == "keep":
            client.keep()
        else:
            assert isinstance(event, int)
            try:
                client.add(event)
            except Fault as fault:
                assert fault.status is Status.UNAVAILABLE
        assert 0 <= budget.held <= LIMIT
        assert budget.held == sum(client.size for client in clients)
    for client in clients:
        client.release()
    assert (budget.held, budget.losable) == (0, set())


@given(events, st.integers(0, CLIENTS - 1))
def test_nobody_within_his_equal_share_loses_or_is_refused(happens: list[tuple[int, int | str]], honest: int) -> None:
    """Whatever all others do, as long as no model holds their bytes."""
    budget = Budget(LIMIT)
    clients, share = holdings(budget), LIMIT // CLIENTS
    for number, event in happens:
        client = clients[number]
        if isinstance(event, str):
            client.release()
            clients[number] = budget.holding()
        elif number == honest:
            client.add(min(event, share - client.size))  # it never asks for more
        else:
            try:
                client.add(event)
            except Fault:
                client.release()
                clients[number] = budget.holding()
        assert not clients[honest].lost


def test_who_has_stopped_loses_before_who_sends(clock: Clock) -> None:
    budget, lost = Budget(LIMIT), list[str]()
    stopped, dripping, sending = holdings(budget, 3)
    for name, client in (("stopped", stopped), ("dripping", dripping), ("sending", sending)):
        client.move(lambda name=name: lost.append(name))  # type: ignore[misc]
        client.add(200)
        client.moved(200)
    for _ in range(20):
        clock.now += 0.1
        dripping.add(1)
        dripping.moved(1)
        sending.add(10)
        sending.moved(10)
    newcomer = budget.holding()
    newcomer.add(150)
    assert lost == []
    newcomer.add(100)
    assert lost == ["stopped"]
    newcomer.add(200)
    assert lost == ["stopped", "dripping"]
    assert not sending.lost


def test_a_client_has_a_while_to_send_on(clock: Clock) -> None:
    budget, lost = Budget(LIMIT), list[str]()
    first, second = holdings(budget, 2)
    first.move(lambda: lost.append("first"))
    first.add(500)
    first.moved(500)
    clock.now += 0.3
    second.add(400)
    with pytest.raises(Fault):  # it would hold more than the first one does
        second.add(200)
    clock.now += 1.0
    second.add(200)
    assert lost == ["first"]


def test_what_a_model_works_on_is_never_lost(clock: Clock) -> None:
    budget = Budget(LIMIT)
    large, small = holdings(budget, 2)
    large.add(900)
    large.keep()
    clock.now += 100
    with pytest.raises(Fault, match="hold 900 of at most 1,000 bytes"):
        small.add(101)
    assert not large.lost
    assert small.size == 0


def test_what_was_lost_cannot_be_used(clock: Clock) -> None:
    budget = Budget(LIMIT)
    large, small = holdings(budget, 2)
    large.add(990)
    small.add(50)
    assert large.lost
    for use in (lambda: large.add(1), large.keep):
        with pytest.raises(Fault):
            use()
    assert budget.held == 50
