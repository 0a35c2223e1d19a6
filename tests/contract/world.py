"""A project in which every command has something to work on, and a call of each that does its work in a moment.

What takes long and has tests of its own (learning, drawing, exporting, loading a server) is stood in for, so that
thousands of calls run in a minute; everything that reads and judges arguments, and all that writes results, is real.
"""

import json
import os
import shutil
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from matplotlib.figure import Figure
from onnx import TensorProto, helper, numpy_helper

from tests.boxed import write_boxed_set
from tests.conftest import COLOURS, write_tiny_set
from tests.contract.values import write_hostile_files
from tests.engine.graphs import colour_card, write_graph

SIDE, SMALL = 32, 16
Snapshot = dict[str, tuple[int, int, int]]

# By command: its parameters by name. `{server}` is a running KServe-v2 server's address.
BASES: dict[tuple[str, ...], dict[str, str]] = {
    ("data", "list"): {},
    ("data", "pull"): {"name": "tiny"},
    ("data", "make"): {"name": "drawn"},
    ("data", "add"): {"folder": "colours", "name": "mine"},
    ("data", "check"): {"name": "colours"},
    ("data", "show"): {"name": "colours", "out": "sheet.png"},
    ("data", "convert"): {"name": "boxes", "out": "converted"},
    ("train",): {"data": "colours", "model": "lenet", "overrides": f"model.input_size={SIDE}", "out": "run"},
    ("runs",): {},
    ("runs", "rm"): {"names": "first"},
    ("runs", "prune"): {},
    ("eval",): {"ref": "tiny.onnx", "data": "colours", "engine": "onnx", "device": "cpu"},
    ("infer",): {"images": "colours/test/red/000.png", "ref": "tiny.onnx", "out": "annotated"},
    ("sample",): {"ref": "maker.onnx", "count": "1", "batch_size": "1", "out": "samples.png"},
    ("export", "hub"): {"ref": "first", "repository": "me/lenet", "out": "published"},
    ("export", "onnx"): {"ref": "first", "out": "exported.onnx", "data": "colours"},
    ("export", "openvino"): {"ref": "first", "out": "exported.xml", "data": "colours"},
    ("export", "web"): {"ref": "tiny.onnx", "out": "site"},
    ("serve", "config"): {"ref": "tiny.onnx", "repository": "models", "name": "served"},
    ("serve", "list"): {"repository": "served", "out": "tree.png"},
    ("serve", "key"): {"name": "laptop", "key_file": "own-keys.txt"},
    ("serve", "run"): {"repository": "served", "http_port": "0", "grpc_port": "0", "metrics_port": "0"},
    ("bench", "server"): {"url": "{server}", "ref": "fake", "figure": "bench.png", "save_baseline": "kept.json"},
    ("bench", "model"): {
        "refs": "tiny.onnx",
        "batch_sizes": "1",
        "threads": "1",
        "rounds": "1",
        "round_s": "0.01",
        "figure": "costs.png",
    },
    ("analyze", "flops"): {"ref": "tiny.onnx", "figures": "costs"},
    ("report",): {"refs": "tiny.onnx", "out": "report.html"},
    ("config", "show"): {},
    ("config", "explain"): {"key": "train.epochs"},
    ("config", "check"): {"files": "configs/data/drawn.yaml"},
}
# Parameters that a base excludes are tried on another one.
OTHER_BASES: dict[tuple[tuple[str, ...], str], dict[str, str]] = {
    **{(("analyze", "flops"), name): {"ref": "lenet", "input_size": str(SIDE), "classes": "3"}
       for name in ("data", "classes", "input_size", "overrides", "device")},
    **{(("bench", "server"), name): {"ref": "tiny.onnx", "max_batch": "1", "queue_delay_us": "0", "instances": "1"}
       for name in ("engine", "max_batch", "queue_delay_us", "instances", "threads", "overrides")},
    (("bench", "server"), "ref"): {"max_batch": "1", "queue_delay_us": "0", "instances": "1"},
    (("bench", "server"), "grpc_url"): {"url": "{server}", "ref": "fake", "protocol": "grpc"},
    (("bench", "server"), "connections"): {"url": "{server}", "ref": "fake", "rate": "10"},
    (("train",), "resume"): {"resume": "first"},
    (("eval",), "device"): {"ref": "first", "data": "colours"},
    (("eval",), "engine"): {"ref": "first", "data": "colours"},
    **{(("infer",), name): {"images": "colours/test/red/000.png", "ref": "tiny.onnx", "engine": "ray",
                            "ray_address": "127.0.0.1:1", "out": "answers"}
       for name in ("ray_address", "part_images")},
    (("infer",), "tile"): {"images": "colours/test/red/000.png", "ref": "tiny.onnx"},
    (("sample",), "device"): {"ref": "first", "engine": "torch"},
    (("serve", "config"), "storage_uri"): {"ref": "tiny.onnx", "repository": "models", "target": "kserve"},
    (("serve", "config"), "image"): {"ref": "tiny.onnx", "repository": "models", "target": "compose"},
    (("serve", "config"), "out"): {"ref": "tiny.onnx", "repository": "models", "target": "compose"},
    (("data", "pull"), "remote"): {"name": "tiny"},
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """A project's folder, and what it held at first."""

    folder: Path
    pristine: Path

    def snapshot(self) -> Snapshot:
        """All that lies in the project and around it: inode, size and time of change by path."""
        found: Snapshot = {}
        waiting = [str(self.folder.parent)]
        while waiting:
            top = waiting.pop()
            with os.scandir(top) as entries:  # it is told with each name what that is, and thousands are looked at
                for entry in entries:
                    is_folder = entry.is_dir(follow_symlinks=False)
                    if is_folder and top.endswith("/.dvc"):  # DVCLive writes there when it begins, for DVC's own sake
                        continue
                    state = entry.stat(follow_symlinks=False)
                    size, changed = (0, 0) if is_folder else (state.st_size, state.st_mtime_ns)
                    found[entry.path] = (state.st_ino, size, changed)
                    if is_folder:
                        waiting.append(entry.path)
        return found

    def restore(self, changed: Iterable[str]) -> None:
        """Puts back what has changed, by path, as it was: removes what is new, copies what is missing or other."""
        for path in sorted(map(Path, changed), reverse=True):  # what a folder holds comes before it
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        copy_tree(self.pristine, self.folder)


def copy_tree(source: Path, target: Path) -> None:
    """Copies what is not there of a folder, with its links and pipes."""
    target.mkdir(exist_ok=True)
    for entry in source.iterdir():
        own = target / entry.name
        if entry.is_dir() and not entry.is_symlink():
            copy_tree(entry, own)
        elif os.path.lexists(own):
            continue
        elif entry.is_symlink():
            own.symlink_to(entry.readlink())
        elif entry.is_fifo():
            os.mkfifo(own)
        else:
            shutil.copy2(entry, own)


def make_world(folder: Path) -> World:
    """Builds the project below `folder`."""
    pristine = folder / "pristine"
    pristine.mkdir()
    write_hostile_files(pristine)
    write_tiny_set(pristine / "colours", {"train": 2, "val": 1, "test": 1})
    write_boxed_set(pristine / "boxes", {"train": 3, "val": 2})
    for name, text in {
        "drawn": "flowers: {seed: 0, size: 64, train: 4, val: 4, test: 4}\narchive: data/drawn.tar\npath: data/drawn\n",
        "colours": "path: colours\n",
        "flowers": "path: colours\n",  # the default set: here, else whoever is given no name would draw it
    }.items():
        path = pristine / "configs" / "data" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"name: {name}\n{text}")
    (pristine / ".dvc").mkdir()
    (pristine / "weights").mkdir()
    (pristine / "weights" / "tiny.onnx.dvc").write_text("outs:\n- md5: 0\n  size: 1\n  path: tiny.onnx\n")
    model = {"name": "tiny", "architecture": "lenet", "input_size": SMALL}
    config = {"model": model, "data": {"name": "colours", "path": "colours"}}
    card = colour_card(classes=tuple(COLOURS), input_size=SMALL, config=config)
    write_graph(pristine / "tiny.onnx", card, shape=("batch", SMALL, SMALL, 3))
    write_maker(pristine / "maker.onnx", tuple(COLOURS))
    _write_run(pristine / "runs" / "first", card)
    entry = pristine / "served" / "tiny"
    (entry / "1").mkdir(parents=True)
    shutil.copy(pristine / "tiny.onnx", entry / "1" / "model.onnx")
    (entry / "config.pbtxt").write_text('name: "tiny"\nbackend: "onnxruntime"\nmax_batch_size: 4\n')
    world = World(folder / "around" / "project", pristine)
    world.folder.mkdir(parents=True)
    world.restore([])
    return world


def write_maker(path: Path, classes: tuple[str, ...]) -> Path:
    """A graph that makes grey images: noise and label in, with a sampler's other inputs and their defaults."""
    defaults = {"steps": np.array(2), "guidance": np.array(1.0, np.float32), "heun": np.array(True),
                "evaluations": np.array(9)}  # fmt: skip
    kinds = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in defaults.items()}
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["noise", "guidance"], ["scaled"]),
            helper.make_node("Cast", ["scaled"], ["pixels"], to=TensorProto.UINT8),
            helper.make_node("Transpose", ["pixels"], ["image"], perm=[0, 2, 3, 1]),
        ],
        "maker",
        [
            helper.make_tensor_value_info("noise", TensorProto.FLOAT, ["batch", 3, 8, 8]),
            helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
            *(helper.make_tensor_value_info(name, kind, []) for name, kind in kinds.items()),
        ],
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 8, 8, 3])],
        [numpy_helper.from_array(value, name) for name, value in defaults.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    sampling = {"sampling": {"steps": 2, "guidance": 1.0, "solver": "heun"}}
    card = colour_card(name="maker", task="generation", classes=classes, config={"model": sampling})
    helper.set_model_props(model, card.to_metadata())
    onnx.save(model, str(path))
    return path


def _write_run(folder: Path, card: Any) -> None:
    """A finished run of an untrained network."""
    from nanocv_cli.config.loader import resolve
    from nanocv_cli.models.checkpoint import save_weights
    from nanocv_cli.models.registry import build_model

    config = resolve(model="lenet", overrides=[f"model.input_size={SIDE}"]).config
    network = build_model(config.model, len(card.classes))
    sections = config.model_dump(mode="json", include={"model", "train"}) | {"data": card.config["data"]}
    own = colour_card(name="lenet", classes=card.classes, input_size=SIDE, config=sections)
    save_weights(folder / "checkpoints" / "best.safetensors", network.state_dict(), own)
    shutil.copy(folder.parents[1] / "tiny.onnx", folder / "model.onnx")
    (folder / "config.yaml").write_text("name: x\n")
    (folder / "summary.json").write_text(json.dumps({"model": "lenet"}))


@contextmanager
def stand_ins(address: str) -> Iterator[None]:
    """What takes long is done in a moment inside the block."""
    from nanocv_cli.api import publishing
    from nanocv_cli.bench import sweep
    from nanocv_cli.bench.measure import Figures
    from nanocv_cli.data import flowers
    from nanocv_cli.dvc import retrieve
    from nanocv_cli.errors import TrainingError
    from nanocv_cli.exporting import graph_file
    from nanocv_cli.exporting.parity import Parity
    from nanocv_cli.models import onnx_exporter
    from nanocv_cli.serving import launch
    from nanocv_cli.serving.launch import Server
    from nanocv_cli.training import train
    from nanocv_cli.web import runtime

    figures = Figures(**dict.fromkeys(Figures.__dataclass_fields__, 1.0) | {"errors": 0, "stable": True})  # type: ignore[arg-type]

    @contextmanager
    def serving(graph: Path, settings: Any, engine: str) -> Iterator[tuple[Server, str]]:
        yield Server(address, address, address, os.getpid()), "fake"

    def draw_set(config: Any, folder: Path, progress: Any) -> None:
        (folder / "train").mkdir()
        (folder / "train" / "image").write_text("drawn")

    def learn_epoch(*arguments: Any) -> None:
        raise TrainingError("that was all of the training that is tested here", "other tests go on")

    def savefig(figure: Figure, target: Path, **options: Any) -> None:
        target.write_bytes(b"drawn")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", savefig)
        patch.setattr(publishing, "_has_token", lambda: False)
        patch.setattr(publishing, "_training", lambda card: ())  # the run's graph is another model's
        patch.setattr(sweep, "measure", lambda *arguments: figures)
        patch.setattr(launch, "serving", serving)
        patch.setattr(flowers, "draw_set", draw_set)
        patch.setattr(retrieve, "_dvc", lambda root, *arguments: 1)
        patch.setattr(train, "learn_epoch", learn_epoch)
        patch.setattr(onnx_exporter, "build_graph", lambda *arguments: onnx.load("tiny.onnx"))
        patch.setattr(runtime, "_fetch", lambda: b"packed")
        patch.setattr(runtime, "_used", lambda content: {"onnxruntime.js": content})
        patch.setattr(graph_file, "check_parity", lambda *arguments: Parity(0.0, 1, (1,)))
        yield


def end_server_when_ready(text: str) -> None:
    """`serve run` says where it listens once it does; then it is asked to end."""
    if "metrics http://" in text:
        os.kill(os.getpid(), signal.SIGTERM)
