"""Soaks a server of its own, or tells what a soak found.

    python -m tests.serving.soak --minutes 120 --out FOLDER
    python -m tests.serving.soak --report FOLDER/soak.jsonl

Honest clients ask by HTTP, gRPC and gRPC streams and check each answer to the bit. Beside them are all the attackers of
the tests, models are loaded, unloaded and refused, metrics scraped, SIGHUPs sent. FOLDER gets `soak.jsonl` (a sample
every ten seconds), `server.log` and `soak.png`. The exit status is 1 where memory grew, a descriptor or a thread was
left, or an answer was not right.
"""

import argparse
import sys
from pathlib import Path

from nanocv_cli.errors import NanocvError
from nanocv_cli.output import say_failure, tell
from tests.serving.soak import verdict
from tests.serving.soak.run import Plan, soak

SHIPPED = ("lenet", "nanospot", "nanoseg")


def main() -> int:
    """Runs or reports; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--share", type=float, default=0.0, help="of one processor for all together; 0: all there is")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("soak"))
    parser.add_argument("--report", type=Path, metavar="FILE", help="a soak.jsonl, finished or not: nothing is run")
    arguments = parser.parse_args()
    file = arguments.report
    try:
        if not file:
            plan = Plan(arguments.minutes, arguments.share, arguments.seed, shipped=SHIPPED)
            file = soak(plan, arguments.out)
        found = verdict.read(file)
    except NanocvError as error:
        say_failure(error)
        return error.exit_code
    tell(*verdict.figures(found), f"curve: {verdict.draw(found, file.with_suffix('.png'))}")
    faults = verdict.faults(found)
    tell(*(f"fault: {fault}" for fault in faults), "verdict: " + ("not passed" if faults else "passed"))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
