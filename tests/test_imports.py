"""Torch stops at export: a module may reach torch only where a room of the training side is declared here.

Every other module, also one that is new, must neither import torch nor anything that does, inside functions included.
So a module that infers, serves, benches or reports cannot be forgotten. `lint-imports` holds which way imports run.
"""

import subprocess
import sys
from fnmatch import fnmatchcase

import grimp
import pytest

TORCH = {"torch", "torchvision", "timm", "torchmetrics", "safetensors"}
# A name declares a module or a room with all that is in it; `*` stands for any room of a task.
TRAINING_SIDE = (
    "models",
    "training",
    "evaluation",
    "exporting",
    "tasks.base",
    "tasks.*.task",
    "tasks.*.metrics",
    "tasks.*.torchvision_*",
    "tasks.classification.teacher",
    "tasks.generation.distances",
    "tasks.generation.sampler",
    "tasks.generation.sampler_graph",
    "data.augment",
    "data.batches",
    "data.painting",
    "data.random_views",
    "data.stream",
    "data.views",
    "analysis.analysed_model",
    "analysis.data_dependent",
    "analysis.local",
    "analysis.measure_torch",
    "analysis.ptflops_check",
    "analysis.torch_layers",
    "analysis.torch_trace",
    # They reach the training side from inside their functions only, which the last test here holds.
    "api.publishing",
    "api.training",
    "commands.analyze",
    "commands.evaluate",
    "commands.export",
    "commands.report",
    "commands.sample",
    "commands.train",
)
# Runs inside Triton alone, which brings a module of its own.
IN_TRITON = "nanocv_cli.serving.repository.python_backend.model"


def is_declared(module: str, room: str) -> bool:
    return fnmatchcase(module, f"nanocv_cli.{room}") or fnmatchcase(module, f"nanocv_cli.{room}.*")


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Who imports whom, but for imports that only types need, and the command line's own table of commands."""
    graph = grimp.build_graph("nanocv_cli", include_external_packages=True, exclude_type_checking_imports=True)
    for command in graph.find_modules_directly_imported_by("nanocv_cli.app"):
        if command.startswith("nanocv_cli.commands"):
            graph.remove_import(importer="nanocv_cli.app", imported=command)
    return graph


@pytest.fixture(scope="module")
def modules(graph: grimp.ImportGraph) -> list[str]:
    return sorted(module for module in graph.modules if module.startswith("nanocv_cli"))


def test_no_module_reaches_torch_but_those_of_the_training_side(graph: grimp.ImportGraph, modules: list[str]) -> None:
    chains = []
    for module in modules:
        if any(is_declared(module, room) for room in TRAINING_SIDE):
            continue
        for library in sorted(TORCH & graph.find_upstream_modules(module)):
            chains.append(" -> ".join(graph.find_shortest_chain(importer=module, imported=library) or ()))
    assert not chains, "\n".join(chains)


@pytest.mark.parametrize("room", TRAINING_SIDE)
def test_what_is_declared_is_there_and_needs_torch(graph: grimp.ImportGraph, modules: list[str], room: str) -> None:
    assert any(TORCH & graph.find_upstream_modules(module) for module in modules if is_declared(module, room))


def test_commands_and_all_torch_free_modules_are_imported_without_torch(modules: list[str]) -> None:
    free = [
        module
        for module in modules
        if module != IN_TRITON
        and (module.startswith("nanocv_cli.commands") or not any(is_declared(module, room) for room in TRAINING_SIDE))
    ]
    assert len(free) > 100
    script = f"import importlib, sys\nfor name in {free!r}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not TORCH & set(done.stdout.split())
