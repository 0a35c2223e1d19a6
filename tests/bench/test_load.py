"""Load against a server whose behaviour is known."""

import json
import time
from typing import Any

import numpy as np
import pytest

from nanocv_cli.bench.load import Arrivals, HttpConnection, Load, Refused
from nanocv_cli.bench.measure import Plan
from nanocv_cli.bench.payload import as_http, build_payload
from nanocv_cli.bench.server_api import ServerApi
from nanocv_cli.bench.sweep import Row, Setting, Target, run_sweep, with_setting
from nanocv_cli.errors import NanocvError, RequestError, ServingError
from tests.bench.fake_server import Behaviour, fake_server

pytestmark = pytest.mark.slow(40)

QUICK = Plan(concurrency=3, rows=1, warmup_s=0.1, window_s=0.2, most_windows=4)


def quiet(done: int, total: int, what: str) -> None:
    """No progress."""


def sweep(address: str, wanted: list[Setting] | None = None, plan: Plan = QUICK, **shapes: Any) -> list[Row]:
    return run_sweep(Target(ServerApi(address), "fake", "http", ""), wanted, plan, "random", shapes, quiet)


def test_figures_of_a_server_with_a_known_pace() -> None:
    with fake_server(Behaviour(service_s=0.005)) as address:
        figures = sweep(address)[0].figures
    # One request at a time, 5 ms each: at most 200 a second, and three clients wait for each other.
    assert 20 < figures.throughput < 201
    assert figures.p50_us >= 3 * 5000 * 0.95
    assert figures.errors == 0
    assert figures.server_us == pytest.approx(5000, rel=0.05)
    assert figures.batch_size == pytest.approx(1.0, rel=0.05)
    assert figures.server_share is not None
    assert figures.client_share == pytest.approx(1 - figures.server_share)


def test_rows_count_as_inferences() -> None:
    with fake_server(Behaviour(service_s=0.005)) as address:
        single = sweep(address)[0].figures
        triple = sweep(address, plan=Plan(3, 3, 0.1, 0.2, 4))[0].figures
    assert triple.throughput / triple.requests == pytest.approx(3 * single.throughput / single.requests, rel=0.35)
    assert triple.batch_size == pytest.approx(3.0, rel=0.05)


def test_errors_are_counted_and_not_taken_for_answers() -> None:
    with fake_server(Behaviour(fail_every=4)) as address:
        figures = sweep(address)[0].figures
    assert figures.errors == pytest.approx((figures.errors + figures.requests) / 4, rel=0.1)


def test_a_server_that_answers_nothing_but_errors() -> None:
    with fake_server(Behaviour(fail_every=1)) as address, pytest.raises(ServingError, match="I do not like this one"):
        sweep(address)


def test_a_server_that_dies() -> None:
    with fake_server(Behaviour(close_after=20)) as address, pytest.raises(ServingError, match=r"none of|stopped"):
        sweep(address)


def test_nothing_listens() -> None:
    with pytest.raises(ServingError, match="no server answers at"):
        sweep("127.0.0.1:9")


def test_an_unknown_model() -> None:
    with fake_server(Behaviour()) as address:
        target = Target(ServerApi(address), "nobody", "http", "")
        with pytest.raises(ServingError, match="nothing at /v2/models/nobody"):
            run_sweep(target, None, QUICK, "random", {}, quiet)


@pytest.mark.parametrize("address", ["nowhere", "https://there", ""])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(RequestError, match="no address"):
        ServerApi(address)


def test_a_sweep_gives_each_setting_and_puts_the_former_config_back() -> None:
    behaviour = Behaviour()
    former = json.loads(json.dumps(behaviour.config))
    with fake_server(behaviour) as address:
        rows = sweep(address, [Setting(2, 700, 1), Setting(4, 0, 2)])
    assert [row.setting for row in rows] == [Setting(2, 700, 1), Setting(4, 0, 2)]
    first, second, restored = behaviour.loads
    assert (first["max_batch_size"], second["max_batch_size"]) == (2, 4)
    assert first["dynamic_batching"]["max_queue_delay_microseconds"] == 700
    assert first["dynamic_batching"]["preferred_batch_size"] == []
    assert [warmup["batch_size"] for warmup in first["model_warmup"]] == [1]
    assert second["instance_group"] == [{"kind": "KIND_CPU", "count": 2}]
    assert restored == former


def test_a_failed_sweep_puts_the_former_config_back_too() -> None:
    behaviour = Behaviour(fail_every=1)
    former = json.loads(json.dumps(behaviour.config))
    with fake_server(behaviour) as address, pytest.raises(ServingError):
        sweep(address, [Setting(2, 700, 1)])
    assert behaviour.loads[-1] == former


def test_a_server_without_configs_is_measured_as_it_is_but_not_swept() -> None:
    with fake_server(Behaviour(has_config=False)) as address:
        figures = sweep(address)[0].figures
        assert figures.throughput > 0
        assert figures.server_us is None
        with pytest.raises(ServingError, match="does not tell a model's config"):
            sweep(address, [Setting(2, 700, 1)])


def test_more_rows_than_the_smallest_batch() -> None:
    with fake_server(Behaviour()) as address, pytest.raises(RequestError, match="--request-batch 3"):
        sweep(address, [Setting(2, 700, 1)], Plan(3, 3, 0.1, 0.2, 4))


def test_a_stall_shows_in_open_loop_from_the_intended_time() -> None:
    """A server that stands still for half a second delays every arrival meanwhile, not only the one it was serving."""
    behaviour = Behaviour(service_s=0.0005, stall_at=60, stall_s=0.5)
    with fake_server(behaviour) as address:
        payload = build_payload(ServerApi(address).metadata("fake"), "fake", 1, "zeros", {}, True)
        request = as_http(payload, address)
        with Load(lambda: HttpConnection(address, [request]), 8, Arrivals(200.0)) as load:
            time.sleep(1.5)
            latencies = np.array([record.answered - record.sent for record in load.taken()]) / 1e9
    # 200 a second for half a second: about a hundred arrivals were late, by a quarter of a second on average.
    assert (latencies > 0.1).sum() > 50
    assert latencies.max() > 0.45


def test_open_loop_says_what_rate_was_delivered() -> None:
    with fake_server(Behaviour(service_s=0.005)) as address:
        # A window is at least a hundred answers long.
        calm = sweep(address, plan=Plan(16, 1, 0.2, 0.4, 4, rate=80.0))[0].figures
        swamped = sweep(address, plan=Plan(16, 1, 0.2, 0.4, 4, rate=800.0))[0].figures
    assert calm.delivered_rate == pytest.approx(80, rel=0.35)
    assert swamped.offered_rate == 800.0
    assert swamped.delivered_rate is not None
    assert swamped.delivered_rate < 201
    assert swamped.p99_us > calm.p50_us


def test_arrivals_are_poisson_and_the_same_for_the_same_seed() -> None:
    first, second = Arrivals(1000.0, 3), Arrivals(1000.0, 3)
    gaps = np.diff([first.take() for _ in range(4000)])
    np.testing.assert_array_equal(gaps, np.diff([second.take() for _ in range(4000)]))
    assert gaps.mean() == pytest.approx(1e6, rel=0.1)
    assert gaps.std() == pytest.approx(1e6, rel=0.15)  # of an exponential distribution, as large as its mean


def test_refusals_leave_the_connection_whole() -> None:
    with fake_server(Behaviour(fail_every=2)) as address:
        payload = build_payload(ServerApi(address).metadata("fake"), "fake", 1, "zeros", {}, True)
        connection = HttpConnection(address, [as_http(payload, address)])
        connection.infer()
        with pytest.raises(Refused, match="do not like"):
            connection.infer()
        connection.infer()
        connection.close()


@pytest.mark.parametrize(
    ("dims", "shapes", "words"),
    [
        ([-1], {}, "sizes that vary"),
        ([-1, 2], {"x": (3,)}, "does not fit"),
        ([-1, 2], {"x": (3, 4)}, "does not fit"),
        ([-1], {"x": (0,)}, "does not fit"),
        ([4], {"z": (4,)}, "no input"),
    ],
)
def test_shapes_that_do_not_fit(dims: list[int], shapes: dict[str, tuple[int, ...]], words: str) -> None:
    with fake_server(Behaviour(dims=dims)) as address, pytest.raises(NanocvError, match=words):
        sweep(address, **shapes)


def test_sizes_that_vary_are_taken_from_the_option() -> None:
    behaviour = Behaviour(dims=[-1, 2])
    with fake_server(behaviour) as address:
        sweep(address, x=(5, 2))
    assert b'"shape":[1,5,2]' in behaviour.bodies[-1]
    assert b'"binary_data_size":10' in behaviour.bodies[-1]


def test_a_setting_gives_a_config_without_batching_one() -> None:
    changed = with_setting({"max_batch_size": 0}, Setting(4, 500, 2))
    assert changed["dynamic_batching"]["max_queue_delay_microseconds"] == 500
    assert changed["instance_group"] == [{"kind": "KIND_CPU", "count": 2}]


def test_a_server_whose_line_always_breaks_ends_the_test() -> None:
    class Broken:
        def infer(self) -> None:
            raise ConnectionError("cut off")

        def close(self) -> None:
            pass

    with Load(Broken, 1) as load, pytest.raises(ServingError, match="stopped answering: cut off"):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            load.taken()
            time.sleep(0.05)


def test_indices_are_ones_that_every_model_knows() -> None:
    shapes = {"noise": ("FP32", [-1, 3, 8, 8]), "label": ("INT64", [-1, 1]), "images": ("UINT8", [-1, 8, 8, 3])}
    inputs = [{"name": name, "datatype": kind, "shape": shape} for name, (kind, shape) in shapes.items()]
    payload = build_payload({"inputs": inputs, "outputs": []}, "maker", 2, "random", {}, True)
    assert payload.inputs["label"][1].tolist() == [[0], [0]]
    assert payload.inputs["noise"][1].std() > 0.1
    assert payload.inputs["images"][1].std() > 50
