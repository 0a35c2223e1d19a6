"""The `model.py` of entries for Triton's Python backend: `model.py` beside this file, copied byte for byte."""

from pathlib import Path

SHIPPED_MODEL_PY = Path(__file__).resolve().with_name("model.py")
