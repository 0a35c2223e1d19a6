"""`config.pbtxt`: protobuf's text format of a `ModelConfig`, written, read, and compared field by field."""

import errno
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import Message
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
    except ValueError as error:  # a number that an enum cannot be, of which protobuf does not tell the line
        number = str(error).rpartition(" ")[2].encode()
        line = content.count(b"\n", 0, max(0, content.find(number))) + 1
        raise ModelError(f"{shown}:{line}: {printable(error)}", MEND) from error
    except RecursionError as error:
        raise ModelError(f"{shown}:1: nested too deeply", MEND) from error


def config_differences(found: ModelConfig, wanted: ModelConfig) -> list[str]:
    """One line for each field that differs, in the order of the fields of `wanted`; none where they say the same.

    Args:
        found: the config that is there.
        wanted: the config that shall be there.
    """
    there, shall = _fields(found), _fields(wanted)
    lines = []
    for key in dict.fromkeys([*shall, *there]):
        if key in there and key in shall and there[key] != shall[key]:
            lines.append(f"{key} is {there[key]}; expected {shall[key]}")
        elif key not in there:
            whole = _whole(key, there)
            lines.append(f"{whole} is missing" if whole else f"{key} is not set; expected {shall[key]}")
        elif key not in shall:
            whole = _whole(key, shall)
            lines.append(f"{whole} is there; expected none" if whole else f"{key} is {there[key]}; expected not set")
    return list(dict.fromkeys(lines))


def _whole(key: str, other: dict[str, str]) -> str:
    """The list item that `key` belongs to, if the other side has nothing of it."""
    item, bracket, _ = key.partition("]")
    return f"{item}]" if bracket and not any(one.startswith(f"{item}]") for one in other) else ""


def _fields(message: Message, prefix: str = "") -> dict[str, str]:
    """Every field that is set, as text, by dotted key; messages of a list by their name, if they have one."""
    fields: dict[str, str] = {}
    for field, value in message.ListFields():
        key = f"{prefix}{field.name}"
        if field.message_type is None:
            fields[key] = _shown(field, value)
        elif field.message_type.GetOptions().map_entry:
            for name, item in value.items():
                fields |= _of_value(item, f"{key}[{name}]")
        elif isinstance(value, Message):
            fields |= _of_value(value, key)
        else:
            for index, item in enumerate(value):
                fields |= _of_value(item, f"{key}[{getattr(item, 'name', '') or index}]")
    return fields


def _of_value(value: Any, key: str) -> dict[str, str]:
    if not isinstance(value, Message):
        return {key: str(value)}
    # A message without fields of its own says something by being there.
    return _fields(value, f"{key}.") or {key: "there"}


def _shown(field: Any, value: Any) -> str:
    if isinstance(value, str | bytes | bool | int | float):
        return _scalar(field, value)
    return f"[{', '.join(_scalar(field, item) for item in value)}]"


def _scalar(field: Any, value: Any) -> str:
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return named.name if named else str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, str) else str(value)
