"""`dvc pull` and `dvc repro` as nanocv calls them."""

import os
import subprocess
import sys
from pathlib import Path

from nanocv_cli.errors import DataError
from nanocv_cli.interrupts import Terminated

STDERR = 2


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
