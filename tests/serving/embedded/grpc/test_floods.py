"""Floods of HTTP/2: whatever frames some connections send, others are answered, and the server grows no larger."""

import time
from collections.abc import Iterator

import psutil
import pytest

from nanocv_cli.serving.embedded.limits import Limits
from tests.serving.embedded.attackers import Habit, attackers
from tests.serving.embedded.grpc.floods import FLOODS, expanding_heads, inflating
from tests.serving.embedded.honest import honest_clients
from tests.serving.embedded.small_server import SmallServer, small_server
from tests.serving.models import entry_config, write_model

pytestmark = pytest.mark.slow(8)

ATTACKERS = 6
SECONDS = 0.3
LIMITS = Limits(message_bytes=16 << 20, flight_bytes=64 << 20)
MOST_GROWTH = 250 << 20
# Bytes that one byte stands for, where the server takes it at its word. Of other floods a whole test sends less than
# such a bound, so that none of them could pass it.
EXPANDED = {expanding_heads: 3900, inflating: 1000}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallServer]:
    repository = tmp_path_factory.mktemp("repository")
    write_model(repository, entry_config("doubling", "doubling", backend="onnxruntime"), "doubling")
    with small_server(repository, LIMITS) as running:
        yield running
        # After all floods of this process, which need not be all there are: nothing is logged or left.
        with honest_clients(running):
            pass
        assert running.said() == ""
        deadline = time.monotonic() + 30
        while any(one.status == psutil.CONN_ESTABLISHED for one in psutil.Process(running.pid).net_connections("tcp")):
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture(scope="module")
def before(server: SmallServer) -> int:
    """Bytes of memory of the server when it has answered some requests."""
    with honest_clients(server):
        pass
    return psutil.Process(server.pid).memory_info().rss


@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.__name__)
def test_others_are_answered_while_it_lasts(server: SmallServer, before: int, flood: Habit) -> None:
    with attackers(server, flood, ATTACKERS) as crowd, honest_clients(server):
        time.sleep(SECONDS)
        grown = psutil.Process(server.pid).memory_info().rss - before
    if flood in EXPANDED:
        assert grown < MOST_GROWTH < EXPANDED[flood] * sum(one.sent for one in crowd)
