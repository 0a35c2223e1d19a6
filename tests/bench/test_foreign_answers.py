"""What a server says of its models, and what a file keeps as figures, may be anything: an error, never a traceback."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanocv_cli.bench import baseline, sweep
from nanocv_cli.bench.measure import Plan
from nanocv_cli.bench.server_api import ServerApi
from nanocv_cli.bench.sweep import Setting, Target, run_sweep
from nanocv_cli.errors import NanocvError, RequestError

PLAN = Plan(1, 1, 0.0, 0.1, 3)
KEYS = ["inputs", "outputs", "versions", "name", "datatype", "shape", "max_batch_size", "dynamic_batching",
        "instance_group", "count", "model_warmup", "batch_size", "max_queue_delay_microseconds"]  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["FP32", "UINT8", "x", "\ud800", "-1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=12,
)
SOUND = {
    "name": "m",
    "versions": ["1"],
    "inputs": [{"name": "x", "datatype": "UINT8", "shape": [-1, 4]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}],
}
CONFIG = {"max_batch_size": 8, "dynamic_batching": {}, "instance_group": [{"count": 1}]}


def swept(metadata: Any, config: Any, wanted: list[Setting] | None) -> None:
    documents = {"/v2/models/m": metadata, "/v2/models/m/config": config}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ServerApi, "_ask", lambda self, path, body=None: json.dumps(documents.get(path, {})).encode())
        patch.setattr(sweep, "measure", lambda *arguments: None)
        target = Target(ServerApi("127.0.0.1:1"), "m", "http", "")
        run_sweep(target, wanted, PLAN, "zeros", {}, lambda *told: None)


@settings(max_examples=150, deadline=None)
@given(ANYTHING, ANYTHING, st.sampled_from([None, [Setting(4, 100, 1)]]))
def test_any_description_is_used_or_refused(metadata: Any, config: Any, wanted: list[Setting] | None) -> None:
    for described in ((metadata, config), (SOUND, config), (metadata, CONFIG)):
        try:
            swept(*described, wanted)
        except NanocvError as error:
            assert error.message and error.hint


def test_a_sound_description_is_used() -> None:
    swept(SOUND, CONFIG, None)
    swept(SOUND, CONFIG, [Setting(4, 100, 1)])


@pytest.mark.parametrize("shape", [[-1, 10**9, 10**9], [-1, 2**62], [-1, 10**12]])
def test_tensors_beyond_this_machines_memory_are_refused_before_they_are_made(shape: list[int]) -> None:
    tensor = {"name": "x", "datatype": "FP64", "shape": shape}
    with pytest.raises(RequestError, match="GiB"):
        swept({**SOUND, "inputs": [tensor]}, CONFIG, None)


@pytest.mark.parametrize(
    "address", ["", "here", "host:", ":80", "host:0", "host:65536", "host:99999", "a b:80", "host:8x", "u@h:1", "h/p:1"]
)
def test_what_is_no_address_is_a_wrong_request(address: str) -> None:
    with pytest.raises(RequestError, match="no address"):
        ServerApi(address)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(["conditions", "rows", "throughput", "p99_us", "max_batch"]), ANYTHING)
def test_any_baseline_is_read_or_refused(key: str, value: Any) -> None:
    row = {"max_batch": 1, "queue_delay_us": 0, "instances": 1, "concurrency": 1}
    row |= {"throughput": 1.0, "p99_us": 1.0, "p50_us": 1.0}
    document: dict[str, Any] = {"conditions": {}, "rows": [row]}
    (document if key in document else row)[key] = value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baseline, "read_regular", lambda path, most: json.dumps(document).encode())
        try:
            conditions, figures = baseline.read(Path("kept.json"))
        except RequestError as error:
            assert "is no baseline" in error.message
        else:
            assert isinstance(conditions, dict)
            assert all(0 < figure < float("inf") for row in figures.values() for figure in row)
