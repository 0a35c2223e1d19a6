"""A generative model as one ONNX graph: the whole way from noise to images, the network in it once.

One evaluation of the velocity field becomes the body of a `Loop`, with the weights in it. Steps, guidance and
solver are inputs with defaults: a server leaves them as they are, `nanocv sample` sets them.
"""

from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from nanocv_cli.engine.card import ModelCard
from nanocv_cli.errors import ExportError
from nanocv_cli.models.onnx_exporter import OPSET, check_graph, quiet, without_source
from nanocv_cli.tasks.generation.config import SamplingConfig
from nanocv_cli.tasks.generation.sampler import SamplerModule
from nanocv_cli.tasks.generation.sampling import EVALUATIONS, GUIDANCE, HEUN, LABEL, NOISE, STEPS
from nanocv_cli.untrusted import first_line

STATE = ("state", "saved", "slope")
ALL_THE_WAY = 2**31 - 1
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def build_sampler_graph(sampler: SamplerModule, output_names: tuple[str, ...], card: ModelCard) -> onnx.ModelProto:
    """Exports a sampler: `noise` float32 [N,3,S,S] and `label` int64 [N] to `image` uint8 [N,S,S,3].

    Args:
        sampler: in evaluation mode on the CPU.
        output_names: of the graph: one.
        card: goes into the graph's metadata.

    Raises:
        ExportError: torch cannot express an evaluation as ONNX, or onnx's checker objects.
    """
    step = _evaluation(sampler, card)
    side, size = card.input_size, ["batch"]
    # OpenVINO takes no convolution of what has an unknown number of axes.
    images = [*size, 3, side, side]
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["goes_on"]), *step.graph.node],
        "evaluation",
        [_value("index", INT64, []), _value("going", BOOL, []), *(_value(name, FLOAT, images) for name in STATE)],
        [_value("goes_on", BOOL, []), *(_value(f"next_{name}", FLOAT, images) for name in STATE)],
        # Here, not in the outer graph: ONNX Runtime lays out and fuses the weights of convolutions only where it finds
        # them as constants, and sampling takes half the time.
        step.graph.initializer,
    )
    defaults = _defaults(sampler.sampling)
    graph = helper.make_graph(
        [*_trip_count(), _loop(body), *_to_pixels(output_names[0])],
        card.name,
        [
            _value(NOISE, FLOAT, images),
            _value(LABEL, INT64, size),
            # An input with an initializer of its name has that as its default.
            *(_value(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in defaults),
        ],
        [_value(output_names[0], TensorProto.UINT8, [*size, side, side, 3])],
        [*defaults, *_constants(sampler)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=step.ir_version)
    model.functions.extend(step.functions)
    helper.set_model_props(model, card.to_metadata())
    model.producer_name, model.producer_version = "nanocv", card.version
    check_graph(model, card.name)
    return model


def _evaluation(sampler: SamplerModule, card: ModelCard) -> onnx.ModelProto:
    """One evaluation as a graph of its own, by torch's exporter."""
    images = torch.zeros(3, 3, card.input_size, card.input_size)
    example = {
        "index": torch.tensor(1), "state": images, "saved": images + 1, "slope": images + 2,
        LABEL: torch.zeros(3, dtype=torch.int64), STEPS: torch.tensor(12), GUIDANCE: torch.tensor(1.5),
        HEUN: torch.tensor(True),
    }  # fmt: skip
    dynamic = {0: torch.export.Dim.DYNAMIC}
    try:
        with quiet():
            program = torch.onnx.export(
                sampler.evaluation.eval(),
                tuple(example.values()),
                dynamo=True,
                input_names=list(example),
                output_names=[f"next_{name}" for name in STATE],
                dynamic_shapes=tuple(dynamic if name in (*STATE, LABEL) else None for name in example),
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter has no exception tree of its own
        raise ExportError(
            f"{card.name} cannot be exported: {first_line(error)}", "try another torch version"
        ) from error
    if program is None:
        raise ExportError(f"{card.name}: torch's exporter returned nothing", "try another torch version")
    return without_source(program.model_proto)


def _defaults(sampling: SamplingConfig) -> list[TensorProto]:
    values = {
        STEPS: np.int64(sampling.steps),
        GUIDANCE: np.float32(sampling.guidance),
        HEUN: np.bool_(sampling.solver == "heun"),
        EVALUATIONS: np.int64(ALL_THE_WAY),
    }
    return [numpy_helper.from_array(np.array(value), name) for name, value in values.items()]


def _constants(sampler: SamplerModule) -> list[TensorProto]:
    values = {
        "one": np.array(1, np.int64),
        "true": np.array(True),
        "scale": 255.0 * sampler.std.numpy(),
        "shift": 255.0 * sampler.mean.numpy(),
        "black": np.array(0.0, np.float32),
        "white": np.array(255.0, np.float32),
    }
    return [numpy_helper.from_array(value, name) for name, value in values.items()]


def _trip_count() -> list[onnx.NodeProto]:
    """Evaluations of the whole way, n or 2n - 1, or as many as are asked for."""
    return [
        helper.make_node("Add", [STEPS, STEPS], ["twice"]),
        helper.make_node("Sub", ["twice", "one"], ["by_heun"]),
        helper.make_node("Where", [HEUN, "by_heun", STEPS], ["whole_way"]),
        helper.make_node("Min", ["whole_way", EVALUATIONS], ["trips"]),
    ]


def _loop(body: onnx.GraphProto) -> onnx.NodeProto:
    outputs = ["at_end", "saved_at_end", "slope_at_end"]
    return helper.make_node("Loop", ["trips", "true", NOISE, NOISE, NOISE], outputs, body=body)


def _to_pixels(name: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Mul", ["at_end", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["levels"]),
        helper.make_node("Clip", ["levels", "black", "white"], ["clipped"]),
        helper.make_node("Round", ["clipped"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["pixels"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["pixels"], [name], perm=[0, 2, 3, 1]),
    ]


def _value(name: str, kind: int, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
