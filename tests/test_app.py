"""The command line as a whole: help, exit codes, one-line failures, nothing heavy at start."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nanocv_cli import __version__
from nanocv_cli.training.state import TrainingState
from tests.conftest import Command
from tests.training.run_folders import write_interrupted_run, write_run

COMMANDS = ["train", "eval", "infer", "data list", "data pull", "data make", "data add", "data check", "data show",
            "export onnx", "serve config", "config show", "config check"]  # fmt: skip
HEAVY = {"torch", "torchvision", "torchmetrics", "matplotlib", "onnx", "dvc", "dvclive", "safetensors"}


def test_help_names_every_command(nanocv: Command) -> None:
    outcome = nanocv("--help")
    assert outcome.code == 0
    for name in ("train", "eval", "infer", "data", "export", "serve", "config"):
        assert f"\n  {name} " in outcome.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_json_and_debug(nanocv: Command, command: str) -> None:
    outcome = nanocv(*command.split(), "--help")
    assert outcome.code == 0
    assert "--json" in outcome.out
    assert "--debug" in outcome.out


def test_version(nanocv: Command) -> None:
    assert nanocv("--version").out == f"nanocv {__version__}\n"


def test_a_usage_error_is_one_json_document(nanocv: Command) -> None:
    outcome = nanocv("train", "--no-such-option", "--json")
    assert outcome.code == 2
    assert outcome.document["error"]["kind"] == "request"
    assert "--no-such-option" in outcome.document["error"]["message"]
    assert "Traceback" not in outcome.err


def test_debug_adds_the_traceback_and_changes_nothing_else(nanocv: Command) -> None:
    plain = nanocv("config", "show", "--data", "no-such-set", "--json")
    debugged = nanocv("config", "show", "--data", "no-such-set", "--json", "--debug")
    assert (debugged.code, debugged.out) == (plain.code, plain.out) == (2, plain.out)
    assert debugged.err.startswith("Traceback") and debugged.err.endswith(plain.err)
    assert "Traceback" not in plain.err


def _modules_after(code: str) -> set[str]:
    script = (
        f"import sys, json\n{code}\nprint(json.dumps(sorted(m.split('.')[0] for m in sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_help_imports_nothing_heavy() -> None:
    loaded = _modules_after(
        "sys.argv = ['nanocv', '--help']\nfrom nanocv_cli.app import main\ntry: main()\nexcept SystemExit: pass"
    )
    assert not loaded & (HEAVY | {"numpy", "onnxruntime", "PIL", "yaml"})


def test_runs_are_listed_without_a_training_library(project: Path) -> None:
    write_run(project, "finished", 0.5)
    write_interrupted_run(project, "stopped", TrainingState(3))
    loaded = _modules_after(
        "sys.argv = ['nanocv', 'runs', '--json']\nfrom nanocv_cli.app import main\ntry: main()\nexcept SystemExit: pass"
    )
    assert not loaded & (HEAVY | {"onnxruntime", "pydantic"})


def test_infer_imports_no_training_library(trained, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    image = next((trained.data / "test" / "red").iterdir())
    loaded = _modules_after(
        f"sys.argv = ['nanocv', 'infer', {str(image)!r}, '--model', {str(trained.folder)!r}]\n"
        f"sys.argv += ['--out', {str(tmp_path)!r}]\n"
        "from nanocv_cli.app import main\ntry: main()\nexcept SystemExit as stop: assert not stop.code"
    )
    assert "onnxruntime" in loaded
    assert not loaded & HEAVY


def test_a_missing_extra_says_how_to_install_it(tmp_path: Path) -> None:
    script = "import sys; sys.modules['torch'] = None; sys.argv = ['nanocv', 'train', '--json']\n"
    script += "from nanocv_cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["hint"] == "pip install 'nanocv[train]'"


def test_a_system_without_locks_is_told_so_in_one_line(tmp_path: Path) -> None:
    """As on Windows, whose Python has no `fcntl`."""
    script = "import sys; sys.modules['fcntl'] = None; sys.argv = ['nanocv', 'runs', '--json']\n"
    script += "from nanocv_cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: this command needs a POSIX system; there is no fcntl here",
        "  try: use Linux or macOS; on Windows, nanocv belongs into WSL 2",
    ]
    assert json.loads(done.stdout)["error"]["kind"] == "system_not_supported"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_import_is_an_interrupt(tmp_path: Path, number: signal.Signals) -> None:
    """Of NumPy, by a library in C, which takes it for an error of NumPy's."""
    script = (
        "import os, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *others):\n"
        "        if name == 'nanocv_cli.serving.ports': import ml_dtypes\n"
        f"        if name == 'numpy._core.multiarray': os.kill(os.getpid(), {number:d})\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "sys.argv = ['nanocv', 'serve', 'run', '--repository', '.']\n"
        "from nanocv_cli.app import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_onnx_runtime_is_told_to_report_nothing_before_it_is_imported() -> None:
    script = (
        "import os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, *others):\n"
        "        if name == 'onnxruntime': print(os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
        "sys.meta_path.insert(0, Watch())\n"
        "import nanocv_cli.engine.sessions\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
