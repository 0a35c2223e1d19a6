"""torch's exporter, which reads its operators once for all graphs of a process, and of those that are forked from it.

Of its own accord it reads the sources of its five hundred operators anew for each graph. They come to the same each
time, and that is half of what the export of a small network takes.
"""

import functools
from typing import Any

from torch.onnx._internal.exporter import _registration

from nanocv_cli.models.onnx_exporter import OPSET

registry: Any = _registration.ONNXRegistry
registry.from_torchlib = staticmethod(functools.cache(registry.from_torchlib))
registry.from_torchlib(opset_version=OPSET)  # as each export asks for them
