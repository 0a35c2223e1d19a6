"""What both protocols have to check when a request asks for the models themselves, not for an inference."""

from typing import Any

from nanocv_cli.serving.embedded.faults import Fault, Status, shown
from nanocv_cli.serving.embedded.json_text import expect_bounded
from nanocv_cli.serving.embedded.library import Library
from nanocv_cli.serving.embedded.model import LoadedModel

LONGEST_NAME = 255  # bytes; no file system has longer ones


def expect_name(name: str) -> None:
    """Finds out whether a model could have this name.

    Raises:
        Fault: none could.
    """
    if not name.isprintable() or not 0 < len(name.encode()) <= LONGEST_NAME:
        raise Fault(f"'{shown(name)}' cannot be the name of a model")


def load_override(parameters: dict[str, Any]) -> str:
    """The model config among a load request's parameters, empty for none.

    Raises:
        Fault: there is a parameter that this server does not honour, or a config that is not worth parsing.
    """
    for key, value in parameters.items():
        if key != "config" or not isinstance(value, str):
            raise Fault(f"load parameter '{shown(key)}' is not supported; 'config' takes JSON text", Status.UNSUPPORTED)
    config = str(parameters.get("config", ""))
    expect_bounded(config.encode(errors="surrogatepass"))
    return config


def counted_models(library: Library, name: str, version: str) -> list[LoadedModel]:
    """The models whose statistics are asked for: all versions where none is named.

    Raises:
        Fault: there is none.
    """
    if not name:
        return library.loaded()
    versions = [version] if version else library.versions(name)
    if not versions:
        raise Fault(f"requested model '{shown(name)}' is not available")
    return [library.find(name, number) for number in versions]
