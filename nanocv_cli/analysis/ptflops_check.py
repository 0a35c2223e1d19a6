"""ptflops' counts beside ours, layer by layer, with what explains each difference."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nanocv_cli.analysis.analysed_model import AnalysedModel
from nanocv_cli.analysis.layer import Layer, Model
from nanocv_cli.analysis.report import render

FUNCTIONS = "(functions, not in any module)"


@dataclass(frozen=True)
class Comparison:
    """One module.

    Attributes:
        name: dotted.
        ours: multiply-adds.
        theirs: what ptflops calls MACs.
        explanation: of the difference; empty where there is none.
    """

    name: str
    ours: int
    theirs: int
    explanation: str


def compare_with_ptflops(analysed: AnalysedModel, model: Model) -> list[Comparison]:
    """Counts a subject with ptflops and sets its modules beside our layers.

    Raises:
        ModuleNotFoundError: ptflops is not installed.
    """
    theirs, functions = _count(analysed)
    rows = []
    left = list(model.layers)
    for name, count in theirs.items():
        own = [layer for layer in left if _belongs(layer, name)]
        left = [layer for layer in left if not _belongs(layer, name)]
        ours = sum(layer.macs for layer in own)
        rows.append(Comparison(name, ours, count, _explain(own, ours, count)))
    ours = sum(layer.macs for layer in left)
    kinds = sorted({layer.kind for layer in left if layer.other_ops and not layer.macs})
    explanation = ""
    if functions > ours:
        explanation = f"they count every value of additions, {', '.join(kinds)} as MACs"
    elif functions < ours:
        explanation = "they do not see the products of functions that a module calls: " + _named(left)
    rows.append(Comparison(FUNCTIONS, ours, functions, explanation))
    return rows


def comparison_table(rows: Sequence[Comparison], form: str) -> list[str]:
    """MMACs of both, module by module, then the totals."""
    header = ["<module", "ours MMACs", "ptflops MMACs", "difference", "<why"]
    lines = [
        [
            row.name,
            f"{row.ours / 1e6:.3f}",
            f"{row.theirs / 1e6:.3f}",
            f"{(row.theirs - row.ours) / 1e6:+.3f}",
            row.explanation,
        ]
        for row in rows
        if row.ours or row.theirs
    ]
    ours, theirs = sum(row.ours for row in rows), sum(row.theirs for row in rows)
    lines.append(["total", f"{ours / 1e6:.3f}", f"{theirs / 1e6:.3f}", f"{(theirs - ours) / 1e6:+.3f}", ""])
    return render(header, lines, form)


def comparison_json(rows: Sequence[Comparison]) -> dict[str, Any]:
    """Totals and modules, in MACs."""
    return {
        "ours": sum(row.ours for row in rows),
        "ptflops": sum(row.theirs for row in rows),
        "modules": [vars(row) for row in rows],
    }


def _count(analysed: AnalysedModel) -> tuple[dict[str, int], int]:
    """ptflops' count of every module that it knows, and of all functions together.

    It has to run the network: on shapes alone torch computes with the very functions that it patches.
    """
    from ptflops import pytorch_engine as engine

    network = engine.add_flops_counting_methods(analysed.build())
    network.eval()
    network.start_flops_count(ost=io.StringIO(), verbose=False, ignore_list=[])
    functions: list[int] = []
    products: list[int] = []
    engine.patch_functional(functions)
    engine.patch_tensor_ops(products)
    try:
        with torch.no_grad():
            network(*analysed.inputs("cpu", 1))
        counted = {name: int(module.__flops__) for name, module in _counted(network)}
    finally:
        engine.unpatch_functional()
        engine.unpatch_tensor_ops()
        network.stop_flops_count()
    return counted, int(sum(functions) + sum(products))


def _counted(network: nn.Module) -> list[tuple[str, Any]]:
    return [(name, module) for name, module in network.named_modules() if hasattr(module, "__flops__")]


def _belongs(layer: Layer, module: str) -> bool:
    name = layer.name.partition("#")[0]
    return name == module or name.startswith(f"{module}.")


def _explain(layers: Sequence[Layer], ours: int, theirs: int) -> str:
    if ours == theirs:
        return ""
    if theirs < ours:
        return "they do not see " + _named(layers)
    products = [layer for layer in layers if layer.macs]
    if not products:
        kinds = sorted({layer.kind for layer in layers})
        return f"they count {' and '.join(kinds)} as MACs; it multiplies and adds nothing"
    values = sum(layer.outputs.floats for layer in products)
    if theirs - ours == values:
        return "they add one for each output's bias"
    if any(layer.kind == "attention" for layer in products):
        return "they add biases, scaling and softmax of the attention"
    return "not explained"


def _named(layers: Sequence[Layer]) -> str:
    kinds = sorted({layer.kind for layer in layers if layer.macs})
    return " and ".join(kinds) or "it"
