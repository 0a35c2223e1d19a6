"""Every failure nanocv expects, as one small tree: what went wrong, what to do, and the exit status it maps to.

`app.main` turns any of these into one line on stderr (or one JSON document on stdout with `--json`);
anything else is a defect of nanocv and is reported as such.
"""


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


class TrainingError(NanocvError):
    """Training cannot go on: the loss diverged, or the run folder is in use."""

    advice = "nanocv train --resume RUN goes on from what was saved"


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
