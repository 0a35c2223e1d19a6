"""Every failure nanocv expects, as one small tree: what went wrong, what to do, and the exit status it maps to.

`app.main` turns any of these into one line on stderr (or one JSON document on stdout with `--json`). What others raise
becomes one of them by `as_failure`; anything that it does not know is a defect of nanocv and is reported as such.
"""

import errno

from nanocv_cli.untrusted import first_line, printable


class NanocvError(Exception):
    """A failure with a way out.

    Args:
        message: what happened, one line, naming the file or value concerned.
        hint: what the user can do about it, one line; a command where there is one. Empty: the kind's `advice`.
    """

    exit_code = 1
    advice = "nanocv COMMAND --help says what each option does"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.advice

    @property
    def kind(self) -> str:
        """The class name without `Error`, in snake case: the `kind` of the JSON error document."""
        name = type(self).__name__.removesuffix("Error")
        return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


class RequestError(NanocvError):
    """The request itself was wrong: usage, a missing file, an unknown name. Nothing was done."""

    exit_code = 2


class ConfigError(RequestError):
    """A config file or `--set` override that cannot be used: the message opens with file:line."""

    advice = "nanocv config check names every wrong line; nanocv config show lists all keys"


class DataError(NanocvError):
    """A data set that cannot be read, unpacked or trained on."""

    advice = "nanocv data check names everything that is wrong in a set"


class ModelError(NanocvError):
    """A model file that is damaged, not ours, or does not fit what is asked of it."""

    advice = "use another model file, or export it again: nanocv export onnx --model RUN"


class ExportError(NanocvError):
    """The exported graph does not match the checkpoint, or lost a property that readers rely on."""

    advice = "report this with the model's name; another architecture or torch version may do better"


class ServingError(NanocvError):
    """A server that could not start, or did not answer as it should."""

    advice = "nanocv serve run shows all that the server says"


class ClusterError(NanocvError):
    """A cluster that does not answer, or cannot do its part of the work."""

    advice = "run the same command again: what is answered already is kept"


class TrainingError(NanocvError):
    """Training cannot go on: the loss diverged, or the run folder is in use."""

    advice = "nanocv train --resume RUN goes on from what was saved"


class SystemNotSupportedError(NanocvError):
    """The operating system lacks what nanocv keeps its promises by: locks that end with their process, above all."""

    advice = "use Linux or macOS; on Windows, nanocv belongs into WSL 2"


class MissingExtraError(NanocvError):
    """A library of an optional extra is not installed."""

    advice = "pip install 'nanocv[all]'"


class StorageError(NanocvError):
    """A file could not be written: full disk, read-only folder. What stood there before is untouched."""

    advice = "free some space, or choose a place that you can write to"


class OutOfMemoryError(NanocvError):
    """What was asked for does not fit into the memory of this machine."""

    advice = "ask for smaller batches or images"


class InternalError(NanocvError):
    """A defect of nanocv: something that none of the above foresaw."""

    advice = "run it again with --debug, and report what it prints"


POSIX_MODULES = {"fcntl", "resource", "termios"}  # of Python's own, which Windows has not
EXTRA_OF_MODULE = {
    "google": "triton",
    "grpc": "triton",
    "httptools": "triton",
    "httpx2": "hub",
    "huggingface_hub": "hub",
    "prometheus_client": "triton",
    "tritonclient": "triton",
    "dvc": "dvc",
    "dvclive": "train",
    "faster_coco_eval": "train",
    "aiohttp": "remote",
    "fsspec": "remote",
    "matplotlib": "train",
    "onnx": "train",
    "onnxscript": "train",
    "opentelemetry": "otel",
    "ptflops": "ptflops",
    "ray": "ray",
    "safetensors": "train",
    "timm": "timm",
    "torch": "train",
    "torch_fidelity": "fid",
    "torchmetrics": "train",
    "torchvision": "train",
    "uvloop": "triton",
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
    if isinstance(error, ModuleNotFoundError) and error.name in POSIX_MODULES:
        return SystemNotSupportedError(f"this command needs a POSIX system; there is no {error.name} here")
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
