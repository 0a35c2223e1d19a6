"""Whatever ends a command, as one of nanocv's own failures: what happened, what to do, and the exit status."""

import errno

from nanocv_cli.errors import (
    InternalError,
    MissingExtraError,
    NanocvError,
    OutOfMemoryError,
    RequestError,
    StorageError,
)
from nanocv_cli.untrusted import first_line, printable

EXTRA_OF_MODULE = {
    "google": "triton",
    "grpc": "triton",
    "httptools": "triton",
    "prometheus_client": "triton",
    "tritonclient": "triton",
    "dvc": "dvc",
    "dvclive": "train",
    "faster_coco_eval": "train",
    "matplotlib": "train",
    "onnx": "train",
    "onnxscript": "train",
    "ptflops": "ptflops",
    "safetensors": "train",
    "torch": "train",
    "torch_fidelity": "fid",
    "torchmetrics": "train",
    "torchvision": "train",
}
# Of a path that no file can have, or that leads nowhere: what was asked for is wrong, not the disk.
NO_SUCH_PATH = {errno.ENAMETOOLONG, errno.ELOOP}
SYMLINK_LOOP = "Symlink loop from"  # as pathlib has it, before Python 3.13
# torch says so in a RuntimeError, on CPUs.
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


def as_failure(error: Exception) -> NanocvError:
    """The failure that an exception stands for; what nobody foresaw is a defect of nanocv, and is called so."""
    if isinstance(error, NanocvError):
        return error
    if isinstance(error, ModuleNotFoundError) and (extra := EXTRA_OF_MODULE.get((error.name or "").split(".")[0])):
        return MissingExtraError(f"this command needs {error.name}", f"pip install 'nanocv[{extra}]'")
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        kind = RequestError if error.errno in NO_SUCH_PATH else StorageError
        return kind(f"{where}{error.strerror or error}", "check the path, its permissions and the free space")
    if isinstance(error, RuntimeError) and str(error).startswith(SYMLINK_LOOP):
        return RequestError(printable(str(error), 1000), "name what the link should lead to")
    if is_shortage(error):
        return OutOfMemoryError(f"there is not enough memory for this: {first_line(error)}")
    # typer's own errors (it has carried its own copy of click since 0.20) share these attributes.
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        context = getattr(error, "ctx", None)
        return RequestError(
            error.format_message(),
            f"{context.command_path if context else 'nanocv COMMAND'} --help lists what it takes",
        )
    return InternalError(f"this is a defect of nanocv: {type(error).__name__}: {first_line(error)}")


def is_shortage(error: Exception) -> bool:
    """Whether there was not enough memory for something."""
    told = isinstance(error, RuntimeError) and any(words in str(error).lower() for words in OUT_OF_MEMORY)
    return told or isinstance(error, MemoryError)
