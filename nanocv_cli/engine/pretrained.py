"""Pretrained weights that the repository's own remote holds: fetched when a name asks for them."""

from pathlib import Path, PurePosixPath

from nanocv_cli.errors import RequestError
from nanocv_cli.output import say


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
    from nanocv_cli.dvc.remote import default_remote, fetch

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
