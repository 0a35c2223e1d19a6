"""The body of a loop is a graph like others: taken out, fed as in samplings, quantised, put back."""

import numpy as np
import onnx
import onnxruntime
import pytest

from nanocv_cli.errors import ExportError
from nanocv_cli.exporting.loop_body import LoopBody
from nanocv_cli.exporting.precision import layers_of, quantise, to_brain
from nanocv_cli.models.onnx_exporter import all_nodes
from tests.exporting.loops import TRIPS, loop_feed, loop_graph


def answer(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found: np.ndarray = session.run(None, feed)[0]
    return found


def test_a_body_taken_out_is_fed_what_the_loop_feeds_it() -> None:
    model, given = loop_graph(), [loop_feed(seed) for seed in range(3)]
    body = LoopBody.of(model)
    assert body is not None
    onnx.checker.check_model(body.graph, full_check=True)
    feeds = body.feeds(given, most=24)
    assert [int(feed["index"]) for feed in feeds] == 3 * list(range(TRIPS))
    np.testing.assert_array_equal(feeds[0]["state"], given[0]["noise"])
    # One more step from the last state is what the whole loop answers.
    last = feeds[TRIPS - 1]
    stepped = onnxruntime.InferenceSession(body.graph.SerializeToString()).run(["next_state"], last)[0]
    np.testing.assert_allclose(stepped, answer(model, given[0]), atol=1e-6)
    np.testing.assert_array_equal(answer(body.put_back(body.graph), given[1]), answer(model, given[1]))


def test_fewer_samplings_are_made_where_fewer_are_wanted() -> None:
    body = LoopBody.of(loop_graph())
    assert body is not None
    feeds = body.feeds([loop_feed(seed) for seed in range(4)], most=16)
    assert [int(feed["index"]) for feed in feeds] == 2 * list(range(TRIPS))


def test_a_network_inside_of_a_loop_is_quantised() -> None:
    model, given = loop_graph(), [loop_feed(seed) for seed in range(8)]
    before = model.SerializeToString()
    quantised = quantise(model, given, ())
    assert model.SerializeToString() == before
    assert LoopBody.of(quantised) is not None  # with one quantised convolution: the first and last are left alone
    assert (
        sum(node.op_type == "QuantizeLinear" for node in all_nodes(quantised.graph)) == 1
    )  # not of the first and last
    exact, found = answer(model, given[0]), answer(quantised, given[0])
    assert 0 < np.abs(found - exact).max() < 0.1 * np.abs(exact).max()
    with pytest.raises(ExportError, match="no layer"):
        quantise(model, given, ["conv"])
    with pytest.raises(ExportError, match="int8 already"):
        quantise(quantised, given, ())


def test_weights_inside_of_a_loop_are_kept_in_bf16() -> None:
    model, feed = loop_graph(), loop_feed(0)
    assert layers_of(model) == ["first", "conv", "last"]
    brain = to_brain(model, [], ())
    onnx.checker.check_model(brain, full_check=True)
    exact, found = answer(model, feed), answer(brain, feed)
    assert 0 < np.abs(found - exact).max() < 0.02 * np.abs(exact).max()
    np.testing.assert_array_equal(answer(to_brain(model, [], ["first", "conv", "last"]), feed), exact)
