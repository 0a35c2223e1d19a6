"""`config.pbtxt`: protobuf's text format of a `ModelConfig`."""

import errno
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from nanocv_cli import files
from nanocv_cli.errors import ModelError
from nanocv_cli.untrusted import printable, read_regular

LARGEST_FILE = 1 << 20
MEND = "mend that line, or delete the file and run nanocv serve config again"


def to_text(config: ModelConfig) -> str:
    """The config as text; the same config is the same text."""
    text: str = text_format.MessageToString(config, as_utf8=True)
    return text


def write(path: Path, config: ModelConfig) -> None:
    """Writes a config atomically.

    Raises:
        StorageError: it cannot be written.
    """
    files.write_text(path, to_text(config))


def read_config(path: Path) -> ModelConfig:
    """Reads a `config.pbtxt`.

    Raises:
        ModelError: it is missing, cannot be read, or is not a `ModelConfig`; then the message opens with file:line.
    """
    try:
        content = read_regular(path, LARGEST_FILE)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise ModelError(f"{path}:1: {error.strerror}", MEND) from error
        raise ModelError(f"{path} cannot be read: {error.strerror}", "nanocv serve config writes one") from error
    return parse_config(content, str(path))


def parse_config(content: bytes, shown: str) -> ModelConfig:
    """Reads the content of a `config.pbtxt`.

    Args:
        content: of the file.
        shown: what the file is called in messages.

    Raises:
        ModelError: it is not a `ModelConfig`; the message opens with file:line.
    """
    try:
        return text_format.Parse(content.decode(), ModelConfig())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ModelError(f"{shown}:{line}: not UTF-8 text", MEND) from error
    except text_format.ParseError as error:
        # Its text opens with line and column, which are given by themselves too.
        what = " ".join(str(error).partition(" : ")[2].split()) or str(error)
        raise ModelError(f"{shown}:{error.GetLine() or 1}: {printable(what)}", MEND) from error
    except RecursionError as error:
        raise ModelError(f"{shown}:1: nested too deeply", MEND) from error
