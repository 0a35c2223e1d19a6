"""What `--model REF` means: a name, a run folder, a `.safetensors` or an `.onnx` file, resolved to one file."""

import difflib
import json
from dataclasses import dataclass
from pathlib import Path

from nanocv_cli.config.project import config_folders
from nanocv_cli.errors import ModelError, RequestError

GRAPH = "model.onnx"
CHECKPOINT = "checkpoints/best.safetensors"


@dataclass(frozen=True)
class FinishedRun:
    """A run folder with a summary: the model it trained and when it finished."""

    folder: Path
    model: str
    finished: float


def find_graph(ref: str | None, root: Path) -> Path:
    """The `.onnx` file of a reference.

    A checkpoint stands for the graph beside it (same stem), or for the graph of its run folder.

    Args:
        ref: what the user named; None for the default model.
        root: the project.

    Raises:
        RequestError: nothing of that name.
        ModelError: there is a checkpoint, but no graph was exported from it.
    """
    ref = ref or default_model(root)
    if ref.endswith(".safetensors"):
        checkpoint = _existing(Path(ref))
        candidates = [checkpoint.with_suffix(".onnx"), checkpoint.parent.parent / GRAPH]
        graph = next((path for path in candidates if path.is_file()), None)
        if graph is None:
            raise ModelError(f"no graph was exported from {checkpoint} yet", f"nanocv export onnx --model {ref}")
        return graph
    return _find(ref, root, GRAPH, ".onnx")


def find_checkpoint(ref: str | None, root: Path) -> Path:
    """The `.safetensors` file of a reference; see `find_graph`.

    Raises:
        RequestError: nothing of that name, or a graph was named where a checkpoint is needed.
    """
    ref = ref or default_model(root)
    if ref.endswith(".onnx"):
        raise RequestError(
            f"{ref} is an exported graph; this needs its checkpoint", "name the .safetensors file or the run folder"
        )
    return _find(ref, root, CHECKPOINT, ".safetensors")


def default_model(root: Path) -> str:
    """The `model` of `configs/defaults.yaml`, read without the config machinery: inference starts fast."""
    import yaml

    for folder in config_folders(root):
        if (folder / "defaults.yaml").is_file():
            try:
                name = yaml.safe_load((folder / "defaults.yaml").read_text()).get("model")
            except (yaml.YAMLError, AttributeError, UnicodeDecodeError) as error:
                raise RequestError(f"{folder / 'defaults.yaml'} cannot be read", "nanocv config check") from error
            if isinstance(name, str):
                return name
    raise RequestError("configs/defaults.yaml names no model", "give one with --model")


def finished_runs(root: Path) -> list[FinishedRun]:
    """All finished runs under `root/runs`, newest first."""
    runs = []
    for summary in root.glob("runs/*/summary.json"):
        try:
            runs.append(FinishedRun(summary.parent, json.loads(summary.read_text())["model"], summary.stat().st_mtime))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a folder that is no run of ours
    return sorted(runs, key=lambda run: run.finished, reverse=True)


def _find(ref: str, root: Path, in_run: str, suffix: str) -> Path:
    if ref.endswith(suffix):
        return _existing(Path(ref))
    for folder in (Path(ref), root / "runs" / ref):
        if folder.is_dir():
            return _in_run(folder, in_run)
    runs = finished_runs(root)
    for run in runs:
        if run.model == ref and (run.folder / in_run).is_file():
            return run.folder / in_run
    weights = root / "weights"
    pulled = [weights / f"{ref}{suffix}", *sorted(weights.glob(f"{ref}-*{suffix}"))]
    found = next((path for path in pulled if path.is_file()), None)
    if found:
        return found
    known = sorted({run.model for run in runs} | {path.stem for path in weights.glob(f"*{suffix}")})
    near = difflib.get_close_matches(ref, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"nanocv data pull {ref}-flowers, or nanocv train --model {ref}"
    raise RequestError(f"no trained model {ref!r}: no finished run and no pulled weights of that name", hint)


def _in_run(folder: Path, in_run: str) -> Path:
    if (folder / in_run).is_file():
        return folder / in_run
    raise RequestError(f"{folder} holds no {in_run}: the run is not finished", f"nanocv train --resume {folder}")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise RequestError(f"no file {path}", "check the path, or give a model's name")
    return path
