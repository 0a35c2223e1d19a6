"""What `--model REF` means: a name, a run folder, a `.safetensors` or `.onnx` file, a hub's model, as one file.

A name is a model's (`lenet`: its newest finished run anywhere under `runs/`, else its pulled weights) or that of pulled
weights (`lenet-flowers`). Weights that are not here are taken from the repository's own remote, where that is a folder.
"""

import json
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from nanocv_cli.config.nearest import FORMER_NAMES, nearest
from nanocv_cli.config.project import cache_folder, config_folders
from nanocv_cli.engine.runtimes import BF16, OPENVINO_FILE, STORED_PRECISIONS
from nanocv_cli.errors import ConfigError, ModelError, RequestError
from nanocv_cli.files import PREFIX
from nanocv_cli.output import say
from nanocv_cli.untrusted import printable, read_regular

GRAPH = Path("model.onnx")
# Run, but neither served nor analysed; named by their path alone.
OTHER_FORMATS = {OPENVINO_FILE: "OpenVINO's file of a graph"}
SUMMARY = "summary.json"
LARGEST_SUMMARY = 16 << 20  # bytes
CHECKPOINT = Path("checkpoints/best.safetensors")
IN_LESS = tuple(f"-{precision}" for precision in (BF16, *STORED_PRECISIONS))


@dataclass(frozen=True)
class FinishedRun:
    """A run folder with a summary: the model it trained and when it finished (seconds since the epoch)."""

    folder: Path
    model: str
    finished: float


def is_url(ref: str) -> bool:
    """Whether a reference names a served model, which has no file here."""
    return "://" in ref and not is_hub(ref)


def is_hub(ref: str) -> bool:
    """Whether a reference names a model of a hub, see `hub.py`."""
    return ref.startswith("hf://")


def find_graph(ref: str | None, root: Path) -> Path:
    """The `.onnx` file of a reference.

    A checkpoint stands for the graph beside it (same stem), a run's best checkpoint also for the run's graph.

    Args:
        ref: what the user named; None for the default model.
        root: the project.

    Raises:
        RequestError: nothing of that name.
        ModelError: there is a checkpoint, but no graph was exported from it.
    """
    ref = ref or default_model(root)
    if ref.endswith(CHECKPOINT.suffix) and "://" not in ref:
        checkpoint = _existing(Path(ref))
        candidates = (checkpoint.with_suffix(GRAPH.suffix), run_graph(checkpoint))
        graph = next((path for path in candidates if path and path.is_file()), None)
        if graph is None:
            raise _not_exported(str(checkpoint), ref)
        return graph
    return _find(ref, root, GRAPH)


def find_runnable(ref: str | None, root: Path) -> Path:
    """The file of a reference that a runtime can run: `find_graph`'s, or an OpenVINO file that is named.

    Raises:
        RequestError, ModelError: as `find_graph`.
    """
    if ref is not None and "://" not in ref and Path(ref).suffix in OTHER_FORMATS:
        return _existing(Path(ref))
    return find_graph(ref, root)


def find_checkpoint(ref: str | None, root: Path) -> Path:
    """The `.safetensors` file of a reference; see `find_graph`.

    Raises:
        RequestError: nothing of that name, or a graph was named where a checkpoint is needed.
    """
    ref = ref or default_model(root)
    if ref.endswith((GRAPH.suffix, *OTHER_FORMATS)) and "://" not in ref:
        raise RequestError(
            f"{ref} is an exported graph; this needs its checkpoint", "name the .safetensors file or the run folder"
        )
    return _find(ref, root, CHECKPOINT)


def default_model(root: Path) -> str:
    """The `model` of `configs/defaults.yaml`, read without the config machinery: inference starts fast.

    Raises:
        RequestError: the file cannot be read, or names none.
    """
    from nanocv_cli.config.yaml_lines import read_yaml

    for folder in config_folders(root):
        defaults = folder / "defaults.yaml"
        if not defaults.is_file():
            continue
        try:
            name = read_yaml(defaults).value("model")
        except ConfigError as error:
            raise RequestError(f"{defaults} cannot be read: {error.message}", error.hint) from error
        if isinstance(name, str) and name:
            return name
    raise RequestError("configs/defaults.yaml names no model", "give one with --model")


def run_graph(checkpoint: Path) -> Path | None:
    """Where the graph of a run lies, or would, of its best checkpoint; None: it is no run's best."""
    return checkpoint.parent.parent / GRAPH if Path(*checkpoint.parts[-2:]) == CHECKPOINT else None


def run_of(graph: Path) -> Path | None:
    """The run folder that a graph is the graph of; None where it lies in none."""
    is_run = graph.name == GRAPH.name and any((graph.parent / name).is_file() for name in (SUMMARY, "config.yaml"))
    return graph.parent if is_run else None


def reduced_beside(graph: Path, precision: str) -> Path:
    """The file beside a graph in fp32 that is the same in less precision."""
    return graph.with_name(f"{graph.stem}-{precision}{graph.suffix}")


def finished_runs(root: Path) -> list[FinishedRun]:
    """All finished runs under `root/runs`, newest first; folders that are no runs of ours are passed over."""
    runs = []
    for folder in folders_with([SUMMARY], root / "runs"):
        model = read_summary(folder).get("model")
        if isinstance(model, str):
            with suppress(OSError):
                runs.append(FinishedRun(folder, model, (folder / SUMMARY).stat().st_mtime))
    return sorted(runs, key=lambda run: run.finished, reverse=True)


def read_summary(folder: Path) -> dict[str, Any]:
    """What a finished run says of itself; empty where the folder holds no such file, or one that is not ours."""
    try:
        summary = json.loads(read_regular(folder / SUMMARY, LARGEST_SUMMARY))
    except (OSError, ValueError, RecursionError):
        return {}
    return summary if isinstance(summary, dict) else {}


def folders_with(names: Collection[str], top: Path) -> Iterator[Path]:
    """Folders at any depth, through links, that hold a file of one of these names; nothing is sought inside of them.

    What is just being removed, or was left by a process that was killed at that, is passed over.
    """
    seen = set()
    for folder, inner, files in os.walk(top, followlinks=True):
        place = os.path.realpath(folder)
        is_one = not set(names).isdisjoint(files)
        inner[:] = [] if place in seen or is_one else sorted(name for name in inner if not name.startswith(PREFIX))
        if place not in seen and is_one:
            yield Path(folder)
        seen.add(place)


def _find(ref: str, root: Path, wanted: Path) -> Path:
    """The file `wanted` of a run, or pulled weights with its suffix."""
    if is_url(ref):
        raise RequestError(
            f"this needs the file {wanted.name} of a model; {printable(ref, 120)} is a served one",
            "name a file, or ask the server: nanocv infer, nanocv eval --engine onnx, nanocv sample",
        )
    if is_hub(ref):
        from nanocv_cli.engine.hub import fetch_hub_file

        return fetch_hub_file(ref, wanted.suffix, cache_folder(root))
    if ref.endswith(wanted.suffix):
        return _existing(Path(ref))
    if (form := OTHER_FORMATS.get(Path(ref).suffix)) and Path(ref).is_file():
        raise RequestError(f"{ref} is {form}; this needs the ONNX graph", "name the .onnx file or the run folder")
    for folder in (Path(ref), root / "runs" / ref):
        if _is_run(folder):
            return _in_run(folder, wanted)
    runs = finished_runs(root)
    own = [run.folder for run in runs if run.model == ref]
    pulled = sorted((root / "weights").glob(f"*{wanted.suffix}"))
    candidates = [
        *(folder / wanted for folder in own),
        *(path for path in pulled if path.stem == ref),
        # What export has made of weights in less precision answers to its own name alone.
        *(path for path in pulled if path.stem.startswith(f"{ref}-") and not path.stem.endswith(IN_LESS)),
    ]
    found = next((path for path in candidates if path.is_file()), None)
    if found:
        return found
    if any((folder / CHECKPOINT).is_file() for folder in own):
        raise _not_exported(f"a run of {ref}", ref)
    if len(Path(ref).parts) == 1 and (fetched := fetch_weights(ref, root, wanted.suffix)):
        return fetched
    raise _unknown(ref, sorted({run.model for run in runs} | {path.stem for path in pulled}))


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.yaml", GRAPH, CHECKPOINT))


def _in_run(folder: Path, wanted: Path) -> Path:
    if (folder / wanted).is_file():
        return folder / wanted
    if (folder / CHECKPOINT).is_file():
        raise _not_exported(str(folder), str(folder))
    raise RequestError(f"{folder} holds no {wanted}: the run is not finished", f"nanocv train --resume {folder}")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise RequestError(f"no file {path}", "check the path, or give a model's name")
    return path


def _not_exported(what: str, ref: str) -> ModelError:
    return ModelError(f"no graph was exported from {what} yet", f"nanocv export onnx --model {ref}")


def _unknown(ref: str, known: list[str]) -> RequestError:
    if Path(ref).is_file():
        return RequestError(f"{ref} is no model file", "model files end in .onnx, .safetensors or .xml")
    if len(Path(ref).parts) != 1:
        return RequestError(f"no run folder {ref}", "check the path, or give a model's name")
    own = FORMER_NAMES.get(ref, ref)
    hint = nearest(ref, known, likeness=0.7) or (
        f"nanocv train --model {own} trains one; pretrained weights come with a checkout of nanocv's repository"
    )
    return RequestError(f"no trained model {ref!r}: no finished run and no pulled weights of that name", hint)


def fetch_weights(name: str, root: Path, suffix: str) -> Path | None:
    """Brings the tracked file of pretrained weights here, and says so on stderr; never over a network.

    Args:
        name: of a model (`lenet`) or of its weights (`lenet-flowers`).
        root: the project.
        suffix: `.onnx` or `.safetensors`.

    Returns:
        the file; None where this project tracks no such weights.

    Raises:
        RequestError: the default remote does not hold them, or lies behind a network.
        DataError: what DVC or the remote holds is damaged.
        StorageError: the file cannot be written.
    """
    if not (root / "dvc.lock").is_file():
        return None
    # Most commands find their model without these: pydantic takes a tenth of a second.
    from nanocv_cli.dvc.records import tracked_files
    from nanocv_cli.dvc.retrieve import default_remote, fetch

    tracked = {
        place.stem: file
        for path, file in sorted(tracked_files(root).items())
        if (place := PurePosixPath(path)).parts[:-1] == ("weights",) and place.suffix == suffix
    }
    known = [stem for stem in tracked if stem == name] or [stem for stem in tracked if stem.startswith(f"{name}-")]
    if not known:
        return None
    wanted, remote = tracked[known[0]], default_remote(root)
    if remote and fetch(root, wanted, remote):
        say(f"{wanted.path} was not here: taken from the repository's own remote ({(wanted.size or 0) / 1e6:.1f} MB)")
        return root / wanted.path
    if remote and remote.folder is None:
        where = f"they lie in the remote {remote.name} ({remote.url})"
    else:
        where = "the repository's own remote does not hold them"
    raise RequestError(f"no trained model {name!r} here: no finished run; as to weights, {where}",
                       f"nanocv data pull {known[0]}")  # fmt: skip
