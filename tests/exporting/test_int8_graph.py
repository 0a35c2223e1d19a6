"""The graph of a network that was trained in int8: int8 weights, norms folded, and the answers of the network."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.engine.graph import Graph
from nanocv_cli.engine.openvino_graph import OpenVinoGraph
from nanocv_cli.errors import ExportError
from nanocv_cli.exporting.int8_graph import whole_numbers
from nanocv_cli.models.onnx_exporter import build_graph, build_single_graph
from nanocv_cli.models.quantised import choose_ranges, quantise_layers

CARD = ModelCard("mixed", "classification", ("a", "b", "c"), 16, "crop", "set", {}, "0", precision="int8")


class Mixed(nn.Module):
    """What networks are made of: norms of any sign, a shortcut, groups, and a linear layer on a list of places."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.left = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.right = nn.Conv2d(8, 8, 1)
        self.norm_right = nn.BatchNorm2d(8)
        self.places = nn.Linear(8, 12)
        self.last = nn.Linear(12, 3)
        for norm in (self.norm, self.norm_right):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
        with torch.no_grad():
            self.norm.weight[2] = 0.0
            self.last.weight *= 4  # one class stands out

    def forward(self, images: Tensor) -> tuple[Tensor]:
        x = self.norm(self.first(images.permute(0, 3, 1, 2).float() / 255.0)).relu()
        x = (self.left(x) + self.norm_right(self.right(x))).relu()
        x = self.places(x.flatten(2).transpose(1, 2)).relu().mean(1)
        return (self.last(x).softmax(1),)


@pytest.mark.slow(5)
@pytest.mark.parametrize("build", [build_graph, build_single_graph])
def test_the_graph_says_what_the_network_says_in_whole_numbers(tmp_path: Path, build) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    network = quantise_layers(Mixed()).eval()
    choose_ranges(network, network, [torch.from_numpy(images)])
    model = build(network, ("probabilities",), CARD)
    before = model.SerializeToString()
    graph = whole_numbers(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(graph, full_check=True)

    kinds = [node.op_type for node in graph.graph.node]
    # Five layers, two of which read the same values: rounded once, by nodes that nothing else can stand between.
    assert "BatchNormalization" not in kinds and kinds.count("QuantizeLinear") == 4
    assert kinds.count("DequantizeLinear") == 4 + 5
    weights = [tensor for tensor in graph.graph.initializer if len(tensor.dims) > 1]
    assert [tensor.data_type for tensor in weights if np.prod(tensor.dims) > 3].count(TensorProto.INT8) == 5
    scales = {node.input[1] for node in graph.graph.node if node.op_type == "DequantizeLinear"}
    assert sorted(len(tensor.dims) for tensor in graph.graph.initializer if tensor.name in scales) == [0] * 4 + [1] * 5

    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    expected = network(torch.from_numpy(images))[0].detach().numpy()
    first, second = np.sort(expected, axis=1).T[:-3:-1]
    assert (first - second > 0.5).all()
    exact = Graph(tmp_path / "model.onnx", whole_numbers=False)
    np.testing.assert_allclose(exact.run(images)["probabilities"], expected, atol=2e-3)
    for engine in (Graph(tmp_path / "model.onnx"), OpenVinoGraph(tmp_path / "model.onnx")):
        answered = engine.run(images)["probabilities"]
        # Processors without instructions for int8 sum pairs of products in 16 bits, which cuts off the largest.
        np.testing.assert_allclose(answered, expected, atol=0.3)
        np.testing.assert_array_equal(answered.argmax(1), expected.argmax(1))
        np.testing.assert_allclose(answered.sum(1), 1, atol=1e-3)


def test_many_shortcuts_are_walked_once() -> None:
    nodes = [onnx.helper.make_node("Add", [f"x{n}", f"x{n}"], [f"x{n + 1}"]) for n in range(60)]
    nodes.append(onnx.helper.make_node("QuantizeLinear", ["x60", "scale", "zero"], ["whole"]))
    nodes.append(onnx.helper.make_node("DequantizeLinear", ["whole", "scale", "zero"], ["y"]))
    stored = [numpy_helper.from_array(np.array(v, t), n) for n, v, t in (("scale", 2, "f4"), ("zero", 0, "u1"))]
    ends = [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x0", "y")]
    graph = onnx.helper.make_graph(nodes, "shortcuts", ends[:1], ends[1:], stored)
    assert len(whole_numbers(onnx.helper.make_model(graph)).graph.node) == len(nodes)


def test_a_graph_without_rounding_is_refused() -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    value = [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "plain", value[:1], value[1:]))
    with pytest.raises(ExportError, match="nothing in it is quantised"):
        whole_numbers(model)
