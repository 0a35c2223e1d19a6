"""nanocv: small computer-vision models from images to a measured, served model.

The public functions, imported when they are first used (docs/python.md):

    model = nanocv_cli.load("lenet-flowers")
    model.predict("photo.jpg")
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanocv_cli.api.model import Model, load
    from nanocv_cli.api.training import TrainedRun, evaluate, export, train

# ONNX Runtime tells its makers of its use from the moment it is imported, unless this says otherwise by then.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["Model", "TrainedRun", "__version__", "evaluate", "export", "load", "train"]

_HOMES = {
    "Model": "nanocv_cli.api.model",
    "load": "nanocv_cli.api.model",
    "TrainedRun": "nanocv_cli.api.training",
    "evaluate": "nanocv_cli.api.training",
    "export": "nanocv_cli.api.training",
    "train": "nanocv_cli.api.training",
}


def __getattr__(name: str) -> Any:
    """A public name from where it stands: importing the package alone imports nothing else."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nanocv_cli' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
