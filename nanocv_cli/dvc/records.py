"""What DVC tracks in a project, as `dvc.yaml`, `dvc.lock` and `.dvc` files say."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypeVar

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict  # of pydantic, which takes no other before Python 3.12

from nanocv_cli.foreign import read_yaml

Shape = TypeVar("Shape")


@dataclass(frozen=True)
class Tracked:
    """One file that DVC tracks.

    Attributes:
        path: relative to the project root.
        stage: the stage of `dvc.yaml` that makes it; None for a file added with `dvc add`.
        md5: as recorded in `dvc.lock` or the `.dvc` file; None where the stage never ran.
        size: bytes, as recorded.
        pushed: whether a remote may hold it; False for `push: false`, which says that it is made again instead.
    """

    path: str
    stage: str | None
    md5: str | None
    size: int | None
    pushed: bool = True


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
            for path, options in {out: None}.items() if isinstance(out, str) else out.items():
                kept = isinstance(options, dict) and options.get("push") == "false"
                found[path] = Tracked(path, name, None, None, not kept)
    lock = _read(root / "dvc.lock", _LOCK)
    for name, locked in ((lock or {}).get("stages") or {}).items():
        for recorded in locked.get("outs", []):
            path = recorded["path"]
            pushed = found[path].pushed if path in found else True
            found[path] = Tracked(path, name, recorded.get("md5"), recorded.get("size"), pushed)
    for file in sorted((*root.glob("data/*.dvc"), *root.glob("weights/*.dvc"))):
        pointer = _read(file, _POINTER)
        for recorded in (pointer or {}).get("outs", []):
            path = (file.parent.relative_to(root) / recorded["path"]).as_posix()
            found[path] = Tracked(path, None, recorded.get("md5"), recorded.get("size"))
    return found


def _read(path: Path, shape: TypeAdapter[Shape]) -> Shape | None:
    return read_yaml(path, shape, "restore it from version control") if path.is_file() else None
