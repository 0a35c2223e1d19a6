"""Fuzzes targets by atheris, one after the other, and tells what came of it.

    python -m tests.fuzz --minutes 60 [TARGET ...]

New inputs are kept in `.cache/fuzz/TARGET`, where the next run goes on from; `crash-*`, `timeout-*` and `oom-*` there
are faults. One that was mended is kept in `tests/fuzz/corpus/TARGET`, for the tests. The exit status is 1 where there
was a fault.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from nanocv_cli.output import tell
from tests.fuzz.targets import TARGETS, Target

KEPT = Path(".cache/fuzz")
LONGEST_SECONDS = 60  # of one input, by the clock of a machine that may be busy
MOST_MIB = 1024  # of the process
FAULTS = ("crash-*", "timeout-*", "oom-*", "leak-*")
STATUS, UNITS = re.compile(r"#\d+\s.*\bcov: (\d+) ft: (\d+)"), re.compile(r"stat::number_of_executed_units:\s+(\d+)")
INTERRUPTED = 72  # libFuzzer's exit status after a Ctrl-C


def main() -> int:
    """Runs them; returns the exit status."""
    names = [target.name for target in TARGETS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join(names)}; none: all")
    parser.add_argument("--minutes", type=float, default=60.0, help="for each target")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(names):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    chosen = [target for target in TARGETS if target.name in (arguments.targets or names)]
    figures = [fuzz(target, arguments.minutes) for target in chosen]
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 1 if any(found["faults"] for found in figures) else 0


def fuzz(target: Target, minutes: float) -> dict[str, Any]:
    """Fuzzes one target in a process of its own; returns, and tells, its figures."""
    folder = KEPT / target.name
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "max_total_time": round(60 * minutes),
        "max_len": target.longest,
        "timeout": LONGEST_SECONDS,
        "rss_limit_mb": MOST_MIB,
        "artifact_prefix": f"{folder}/",
        "print_final_stats": 1,
    }
    flags = [f"-{name}={value}" for name, value in options.items()]
    seeds = str(target.seeds()[0].parent)
    command = [sys.executable, "-m", "tests.fuzz.instrumented", target.name, *flags, str(folder), seeds]
    before = _processor_seconds()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stderr
        lines = [line.rstrip() for line in process.stderr]
    runs = next((int(found[1]) for line in lines if (found := UNITS.match(line))), 0)
    status = [found.groups() for line in lines if (found := STATUS.match(line))]
    edges, features = map(int, status[-1]) if status else (0, 0)
    faults = sorted(str(path) for kind in FAULTS for path in folder.glob(kind))
    if process.returncode not in (0, INTERRUPTED) and not faults:
        faults = [f"it ended with {process.returncode}: {' | '.join(lines[-5:])}"]
    minutes = round((_processor_seconds() - before) / 60, 1)
    figures = {"processor_minutes": minutes, "executions": runs, "edges": edges, "features": features}
    told = ", ".join(f"{what.replace('_', ' ')} {number:,}" for what, number in figures.items())
    tell(f"{target.name}: {told}, faults {len(faults)}", *faults)
    return {"target": target.name, **figures, "faults": faults}


def _processor_seconds() -> float:
    """Of all processes that have been run, until now."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main())
