"""What DVC tracks in a project, and `dvc pull` / `dvc repro` as nanocv calls them."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nanocv_cli.errors import DataError

STDERR = 2


@dataclass(frozen=True)
class Tracked:
    """One file that DVC tracks.

    Attributes:
        path: relative to the project root.
        stage: the stage of `dvc.yaml` that makes it; None for a file added with `dvc add`.
        md5: as recorded in `dvc.lock` or the `.dvc` file; None where the stage never ran.
        size: bytes, as recorded.
    """

    path: str
    stage: str | None
    md5: str | None
    size: int | None


def tracked_files(root: Path) -> dict[str, Tracked]:
    """Every tracked file of the project by its path; empty where the project has no DVC."""
    if not (root / ".dvc").is_dir():
        return {}
    found: dict[str, Tracked] = {}
    for name, stage in _mapping(root / "dvc.yaml").get("stages", {}).items():
        for out in stage.get("outs", []):
            path = out if isinstance(out, str) else next(iter(out))
            found[path] = Tracked(path, name, None, None)
    for name, stage in _mapping(root / "dvc.lock").get("stages", {}).items():
        for out in stage.get("outs", []):
            found[out["path"]] = Tracked(out["path"], name, out.get("md5"), out.get("size"))
    for pointer in (*root.glob("data/*.dvc"), *root.glob("weights/*.dvc")):
        for out in _mapping(pointer).get("outs", []):
            path = (pointer.parent / out["path"]).relative_to(root).as_posix()
            found[path] = Tracked(path, None, out.get("md5"), out.get("size"))
    return found


def pull(root: Path, paths: list[str], remote: str | None = None) -> bool:
    """`dvc pull` of the paths; False where the remote does not hold them or cannot be reached.

    Raises:
        MissingExtraError (through the command line): DVC is not installed.
    """
    options = ["--remote", remote] if remote else []
    return _dvc(root, "pull", *options, *paths) == 0


def reproduce(root: Path, stage: str) -> None:
    """`dvc repro` of one stage and of what it depends on.

    Raises:
        DataError: the stage failed.
    """
    if _dvc(root, "repro", stage) != 0:
        raise DataError(f"dvc repro {stage} failed", "its own message stands above")


def _dvc(root: Path, *arguments: str) -> int:
    """Runs DVC in the project; all it prints goes to stderr, which leaves stdout to the command's result."""
    import dvc  # type: ignore[import-untyped]  # noqa: F401  # fails here, with a hint, where the extra is not installed

    # Stages call `nanocv`: the one of this environment, even where it is not activated.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    environment = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=root, env=environment, stdout=STDERR, check=False).returncode


def _mapping(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        document = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, OSError) as error:
        raise DataError(f"cannot read {path}: {error}", "restore it from version control") from error
    return document if isinstance(document, dict) else {}
