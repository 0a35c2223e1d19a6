"""What DVC tracks in a project, and `dvc pull` / `dvc repro` as nanocv calls them."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypeVar

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict  # of pydantic, which takes no other before Python 3.12

from nanocv_cli.data.foreign import read_yaml
from nanocv_cli.errors import DataError
from nanocv_cli.interrupts import Terminated

STDERR = 2

Shape = TypeVar("Shape")


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


class _Out(TypedDict):
    """A file or folder as `dvc.lock` and `.dvc` files record it."""

    path: str
    md5: NotRequired[str | None]
    size: NotRequired[Annotated[int, Field(ge=0)] | None]


class _Stage(TypedDict):
    """A stage of `dvc.yaml`; an out is its path, or a mapping from that to options."""

    outs: NotRequired[list[str | dict[str, Any]]]


class _Stages(TypedDict):
    stages: NotRequired[dict[str, _Stage] | None]


class _LockedStage(TypedDict):
    outs: NotRequired[list[_Out]]


class _Lock(TypedDict):
    stages: NotRequired[dict[str, _LockedStage] | None]


class _Pointer(TypedDict):
    outs: NotRequired[list[_Out]]


_STAGES, _LOCK, _POINTER = TypeAdapter(_Stages | None), TypeAdapter(_Lock | None), TypeAdapter(_Pointer | None)


def tracked_files(root: Path) -> dict[str, Tracked]:
    """Every tracked file of the project by its path; empty where the project has no DVC.

    Raises:
        DataError: a file of DVC's cannot be read, or holds what DVC does not write.
    """
    if not (root / ".dvc").is_dir():
        return {}
    found: dict[str, Tracked] = {}
    stages = _read(root / "dvc.yaml", _STAGES)
    for name, stage in ((stages or {}).get("stages") or {}).items():
        for out in stage.get("outs", []):
            for path in [out] if isinstance(out, str) else out:
                found[path] = Tracked(path, name, None, None)
    lock = _read(root / "dvc.lock", _LOCK)
    for name, locked in ((lock or {}).get("stages") or {}).items():
        for recorded in locked.get("outs", []):
            path = recorded["path"]
            found[path] = Tracked(path, name, recorded.get("md5"), recorded.get("size"))
    for file in sorted((*root.glob("data/*.dvc"), *root.glob("weights/*.dvc"))):
        pointer = _read(file, _POINTER)
        for recorded in (pointer or {}).get("outs", []):
            path = (file.parent.relative_to(root) / recorded["path"]).as_posix()
            found[path] = Tracked(path, None, recorded.get("md5"), recorded.get("size"))
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
    with subprocess.Popen(command, cwd=root, env=environment, stdout=STDERR) as process:
        try:
            return process.wait()
        except Terminated:  # sent to this process alone; the terminal's Ctrl-C has reached DVC too
            process.terminate()
            raise


def _read(path: Path, shape: TypeAdapter[Shape]) -> Shape | None:
    return read_yaml(path, shape, "restore it from version control") if path.is_file() else None
