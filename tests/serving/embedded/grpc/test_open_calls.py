"""Calls of gRPC: whom they wait for, and what they lose."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from nanocv_cli.serving.embedded import budget as module
from nanocv_cli.serving.embedded.budget import Budget
from nanocv_cli.serving.embedded.exchange import Exchange
from nanocv_cli.serving.embedded.grpc.open_calls import OpenCall, Phase

LIMIT = 1000
CONTEXT: Any = SimpleNamespace(peer=lambda: "ipv4:127.0.0.1:1")


def stream(work: Callable[[Budget, OpenCall], Awaitable[None]]) -> OpenCall:
    """A stream whose first message was answered, and what happens after that."""

    async def run() -> OpenCall:
        budget = Budget(LIMIT)
        call = OpenCall(CONTEXT, budget, Phase.BETWEEN, Exchange())
        call.holding.add(100)
        call.take()
        call.expect_next()
        assert (call.phase, budget.held) == (Phase.BETWEEN, 0)
        try:
            await work(budget, call)
        except asyncio.CancelledError:
            assert call.lost
        return call

    return asyncio.run(run())


def test_a_message_is_not_slow_because_the_client_was_silent_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(budget: Budget, call: OpenCall) -> None:
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float("inf")))  # long after the answer
        call.holding.add(300)
        assert not call.holding.is_slow
        large, newcomer = budget.holding(), budget.holding()
        large.add(600)
        newcomer.add(350)
        assert (large.lost, call.holding.lost) == (True, False)

    assert stream(work).lost is None


def test_a_later_message_that_loses_its_bytes_ends_the_stream() -> None:
    async def work(budget: Budget, call: OpenCall) -> None:
        call.holding.add(900)
        budget.holding().add(500)
        await asyncio.sleep(1)
        raise AssertionError("it goes on")

    lost = stream(work).lost
    assert lost is not None
    assert "too many bytes" in lost.message
