"""Numbers that a request may name beside its tensors: inputs of a graph that have a value of their own, as steps have.

An entry's config says which, and from where to where (`nanocv.settings`): how long a run takes may depend on them. A
request names them among its `parameters`, of KServe's own kind; what it leaves out is the graph's. Requests that name
different ones share no batch.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2 as pb

from nanocv_cli.engine.signature import GraphSignature
from nanocv_cli.errors import ModelError
from nanocv_cli.serving.embedded.backends import MEND
from nanocv_cli.serving.embedded.faults import Fault
from nanocv_cli.serving.repository.model_config import SETTINGS_KEY
from nanocv_cli.untrusted import first_line, printable

TYPES: dict[str, Any] = {"tensor(int64)": np.int64, "tensor(float)": np.float32}
LONGEST = 4096  # characters of the config's parameter
MOST = 16

# What a request named, in the order in which the config does.
Named = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """One of them: its type, and its lowest and highest value."""

    kind: Any
    low: float
    high: float


def offered(config: pb.ModelConfig, signature: GraphSignature) -> dict[str, Setting]:
    """What a model's config lets requests name.

    Args:
        config: of the entry.
        signature: of its graph.

    Raises:
        ModelError: it is damaged, or names what is no such input of the graph.
    """
    text = config.parameters[SETTINGS_KEY].string_value if SETTINGS_KEY in config.parameters else ""
    if not text:
        return {}
    known = {tensor.name: tensor for tensor in signature.settings if not tensor.shape and tensor.type in TYPES}
    try:
        document = json.loads(text) if len(text) <= LONGEST else None
    except (ValueError, RecursionError) as error:
        raise _damaged(config.name, first_line(error, 80)) from error
    if not isinstance(document, dict) or len(document) > MOST:
        raise _damaged(config.name, f"expected an object of at most {MOST} bounds")
    found = {}
    for name, bounds in document.items():
        if name not in known:
            raise _damaged(config.name, f"the graph has no number '{printable(name, 60)}' that may be left out")
        if not (
            isinstance(bounds, list) and len(bounds) == 2 and all(map(_is_number, bounds)) and bounds[0] <= bounds[1]
        ):
            raise _damaged(config.name, f"'{name}' has no lowest and highest value")
        found[name] = Setting(TYPES[known[name].type], *bounds)
    return found


def named(settings: Mapping[str, Setting], parameters: Mapping[str, Any]) -> Named:
    """What a request names of a model's settings.

    Args:
        settings: as `offered`.
        parameters: of the request; all others are left alone.

    Raises:
        Fault: a value that is no number, or out of bounds.
    """
    return tuple(
        (name, _checked(name, setting, parameters[name])) for name, setting in settings.items() if name in parameters
    )


def feeds(settings: Mapping[str, Setting], values: Named) -> dict[str, NDArray[Any]]:
    """The graph's inputs for what was named, scalars by name."""
    return {name: np.array(value, settings[name].kind) for name, value in values}


def _checked(name: str, setting: Setting, value: Any) -> float:
    is_whole = setting.kind is np.int64
    if not _is_number(value) or (is_whole and value != int(value)):
        raise Fault(f"Unable to parse parameter '{name}': expected a {'whole ' if is_whole else ''}number")
    if not setting.low <= value <= setting.high:
        raise Fault(f"parameter '{name}' is {value:g}, not from {setting.low:g} to {setting.high:g}")
    return float(value)


def _is_number(value: Any) -> bool:
    # Exact as a double, whatever it is: NaN is below nothing, and no integer is made a double to find out.
    return type(value) in (int, float) and abs(value) < 2**53


def _damaged(name: str, why: str) -> ModelError:
    return ModelError(f'{name}: parameters["{SETTINGS_KEY}"]: {why}', MEND)
