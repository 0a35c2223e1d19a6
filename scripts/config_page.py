"""Writes docs/config.md from the declarations of the config keys."""

from pathlib import Path

from nanocv_cli.config.explain import page
from nanocv_cli.files import write_text

write_text(Path(__file__).resolve().parents[1] / "docs" / "config.md", page())
